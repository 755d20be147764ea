"""A bare Debian in a folder: made by debootstrap from where this machine's own apt takes its packages; commands in it.

Python 3.10 is laid in as a copy of the one that runs the tests: Debian has another, and an image, or uv, brings it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

PACKAGES = ("git", "python3", "ca-certificates")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PYTHON = Path(sys.base_prefix)
_FOR_THE_INDEX = re.compile(r"(PIP|UV|SSL)_\w+|REQUESTS_CA_BUNDLE|\w+_proxy", re.IGNORECASE)


class Debian:
    """A root file system; what runs in it has /proc, the devices that debootstrap makes, and the network."""

    def __init__(self, folder: Path) -> None:
        self.root = folder
        mirror, release = _said("apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME)").split()[:2]
        proxy = _said("apt-config", "dump", "--format", "%v%n", "Acquire::http::Proxy")
        environment = {**os.environ, **({"http_proxy": proxy} if proxy else {})}
        command = ["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", release, str(folder), mirror]
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
        self.path("/etc/hosts").write_text("127.0.0.1 localhost\n")  # as an installer and an engine do
        self.path("/dev/shm").chmod(0o1777)  # as where a file system is mounted there
        for value in self.variables().values():
            if Path(value).is_absolute() and Path(value).is_file():  # certificates that this network needs
                self.copy(Path(value), value)

    @staticmethod
    def variables() -> dict[str, str]:
        """What of this process's environment tells how a package index is reached."""
        return {name: value for name, value in os.environ.items() if _FOR_THE_INDEX.fullmatch(name)}

    def copy(self, source: Path, target: str) -> None:
        """Copy a file or a folder to an absolute path in there."""
        place = self.path(target)
        place.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, place, symlinks=True, dirs_exist_ok=True)
        else:
            shutil.copy(source, place)

    def path(self, inside: str) -> Path:
        """Where an absolute path in there lies out here."""
        return self.root / inside.lstrip("/")

    def lay_in_python(self) -> None:
        """Python 3.10 with pip and nothing else, at the same path as here."""
        for each in ("bin", "include", "lib"):
            shutil.copytree(PYTHON / each, self.path(str(PYTHON / each)), symlinks=True, ignore=_other_packages)
        for folder in PYTHON.parents:
            self.path(str(folder)).chmod(0o755)

    def run(
        self, *words: str, user: int = 0, home: str = "/root", cwd: str = "/", timeout_s: float = 3600, **more: str
    ) -> subprocess.CompletedProcess:
        """Run a command there as a user, without anything of this environment but `variables`; what it starts ends with
        it. Raises AssertionError with the end of its output where it fails.
        """
        inside = ["chroot", f"--userspec={user}:{user}", str(self.root), "/usr/bin/env", "-C", cwd, *words]
        isolated = ["unshare", "--mount", "--pid", "--fork", "--kill-child", f"--mount-proc={self.root}/proc"]
        environment = {"PATH": PATH, "HOME": home, **self.variables(), **more}
        done = subprocess.run(
            [*isolated, *inside], env=environment, capture_output=True, text=True, check=False, timeout=timeout_s
        )
        assert done.returncode == 0, f"{words}: {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done


def _said(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _other_packages(folder: str, names: Sequence[str]) -> set[str]:
    """What of a Python's folder is no part of it."""
    if Path(folder).name == "site-packages":
        return {name for name in names if not name.startswith(("pip", "setuptools", "_distutils_hack", "distutils-"))}
    return {name for name in names if name in ("__pycache__", "test")}
