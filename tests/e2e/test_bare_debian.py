"""The demo as somebody without rights on a Debian with git, a Python 3 and nothing else, and the images' steps there.

Half an hour and 15 GB of disk: run by hand, with ZHIYIN_BARE_DEBIAN=1.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.documented import ROOT
from tests.e2e.debian import PATH, PYTHON, Debian

VARIABLE = "ZHIYIN_BARE_DEBIAN"
USER, HOME = 1234, "/home/somebody"
TARGETS = ("pipeline", "model-server", "gateway")

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.skipif(os.environ.get(VARIABLE) != "1", reason=f"takes half an hour: {VARIABLE}=1 runs it"),
    pytest.mark.skipif(shutil.which("debootstrap") is None or os.geteuid() != 0, reason="needs root and debootstrap"),
]


@pytest.fixture
def debian(tmp_path: Path) -> Iterator[Debian]:
    made = Debian(tmp_path / "debian")
    made.lay_in_python()
    yield made
    shutil.rmtree(made.root)


def test_the_demo_runs_for_a_user_without_rights(debian: Debian, tmp_path: Path) -> None:
    """Cloned by Debian's git, set up by the script of the checkout, whose Python has neither pip nor venv."""
    subprocess.run(["git", "bundle", "create", "--quiet", str(tmp_path / "head"), "HEAD"], cwd=ROOT, check=True)
    debian.copy(tmp_path / "head", "/tmp/head")
    debian.run("useradd", "--uid", str(USER), "--create-home", "--home-dir", HOME, "somebody")
    debian.run("ln", "-s", f"{PYTHON}/bin/python3.10", "/usr/local/bin/")
    who = {"user": USER, "home": HOME}
    debian.run("git", "clone", "--quiet", "/tmp/head", f"{HOME}/zhiyin", **who)
    told = debian.run("./zhiyin", "demo", cwd=f"{HOME}/zhiyin", **who).stdout
    lines = told.splitlines()
    stages = [re.match(r" +\[ *(\d+)/(\d+)\]", line) for line in lines]
    assert [match.groups() for match in stages if match][-1] == ("24", "24"), told
    lists = [lines[number + 1 : number + 6] for number, line in enumerate(lines) if line.startswith("for u")]
    assert len(lists) == 5 and all(len(line.split()) > 2 for each in lists for line in each), told
    assert lines[-1].startswith("model in "), told


def test_the_steps_of_the_images_run_in_order(debian: Debian) -> None:
    """As an engine runs them; the image that they start from is the Debian with Python 3.10."""
    base = Image(debian)
    base.build(steps("base"))
    for target in TARGETS:
        image = Image(debian, base)
        image.build(steps(target))
        assert "usage:" in image.start().stdout.lower()
        written = image.run("find /zhiyin -writable -not -path '/zhiyin/runs*'").stdout
        assert image.user == 10001 and not written


def steps(stage: str) -> list[tuple[str, str]]:
    """Instructions of a stage of the Dockerfile and what follows each, in order."""
    text = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
    whole = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE))
    parts = re.split(r"^FROM \S+ AS (\S+)\n", whole, flags=re.MULTILINE)[1:]
    body = dict(zip(parts[::2], parts[1::2]))[stage]
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in body.splitlines() if line]


class Image:
    """What has been built so far: a file system, and with whom and how a command in it is run."""

    def __init__(self, debian: Debian, base: Image | None = None) -> None:
        self._debian = debian
        self.environment = dict(base.environment) if base else {"PATH": f"{PYTHON}/bin:{PATH}"}
        self.user, self.folder = (base.user, base.folder) if base else (0, "/")
        self.command: list[str] = []

    def build(self, instructions: list[tuple[str, str]]) -> None:
        """Carry out instructions of a Dockerfile."""
        for name, rest in instructions:
            match name:
                case "ENV":
                    self.environment |= dict(pair.split("=", 1) for pair in shlex.split(rest))
                case "COPY":
                    source, target = rest.split()
                    self._debian.copy(ROOT / source, target + source if target.endswith("/") else target)
                case "RUN":
                    self.run(rest)
                case "USER":
                    self.user = int(rest)
                case "WORKDIR":
                    self.folder = rest
                    self._debian.path(rest).mkdir(parents=True, exist_ok=True)
                case "ENTRYPOINT":
                    self.command = json.loads(rest)
                case "CMD":
                    self.command += json.loads(rest)
                case "EXPOSE":
                    pass
                case _:
                    raise ValueError(f"the Dockerfile has {name}, which this test cannot do")

    def run(self, command: str) -> subprocess.CompletedProcess:
        """A command of the shell in there."""
        return self._run("sh", "-c", command)

    def start(self) -> subprocess.CompletedProcess:
        """What a container of the image starts."""
        return self._run(*self.command)

    def _run(self, *words: str) -> subprocess.CompletedProcess:
        return self._debian.run(*words, user=self.user, cwd=self.folder, **self.environment)
