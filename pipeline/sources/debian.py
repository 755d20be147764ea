"""Files out of Debian packages that are downloaded and read, never installed."""

from __future__ import annotations

import re
import shutil
import subprocess
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from tqdm import tqdm

from pipeline.sources.summary import SourceError

ARCHIVES = (".zip", ".pk3")  # in which games keep their files within a package
_COPYRIGHT = re.compile(r"\./usr/share/doc/[^/]+/copyright")
_LICENCE = re.compile(r"^License:[ \t]*(\S.*?)\s*$", re.MULTILINE)


class Member(NamedTuple):
    """One file of a package, to be read before the next one is asked for."""

    path: str  # in the package; of a file in an archive, the archive's path and its own
    file: IO[bytes]


def fetch(packages: Sequence[str], folder: Path) -> Path:
    """Downloads packages into a folder, where an earlier call stopped; those not to be had are named and left out.

    Raises SourceError where none is to be had.
    """
    folder.mkdir(parents=True, exist_ok=True)
    bar = tqdm(packages, desc="packages", unit="package", disable=None)
    failures = {}
    for package in bar:
        bar.set_postfix_str(package)
        if reason := download(package, folder):
            failures[package] = reason
            tqdm.write(f"{package}: left out ({reason})")
    if len(failures) == len(packages):
        raise SourceError(f"no package could be fetched: {next(iter(failures.values()))}; is apt set up for Debian?")
    return folder


def fetched(packages: Sequence[str], folder: Path, what: str) -> dict[str, Path]:
    """Those of the packages that a folder holds as files `<name>_<version>_<architecture>.deb`, by name.

    what: is in them, for messages. Raises SourceError where there is none.
    """
    debs = {package: found for package in packages for found in sorted(folder.glob(f"{package}_*.deb"))[-1:]}
    if not debs:
        raise SourceError(f"{folder}: got no package of {what}, expected {what_to_get(packages)}")
    return debs


def what_to_get(packages: Sequence[str]) -> str:
    """Packages for a folder of them, in words."""
    return f"Debian's packages {', '.join(packages)}, as many as there are, in one folder (apt-get download)"


def version(deb: Path) -> str:
    """The version that a package's file name states."""
    return deb.name.split("_")[1]


def download(package: str, folder: Path) -> str:
    """Downloads a package into a folder, by apt and the index that the machine is set up for, which has its hash.

    A download that broke off is gone on with, and a complete one is not repeated.
    Returns an empty text, or why the package is not to be had. Raises SourceError where there is no apt.
    """
    if shutil.which("apt-get") is None:
        raise SourceError("apt-get: not found; fetching takes a Debian or Ubuntu machine, or give --source")
    run = subprocess.run(
        ["apt-get", "download", "--quiet", package], cwd=folder, capture_output=True, text=True, check=False
    )
    return "" if run.returncode == 0 else ((run.stderr or run.stdout).strip().splitlines() or ["no reason given"])[-1]


def members(deb: Path) -> Iterator[Member]:
    """The regular files of a package in its order, those of archives within it among them.

    Raises SourceError where the package is damaged or dpkg-deb is not there.
    """
    try:
        with _unpacked(deb) as stream, tarfile.open(fileobj=stream, mode="r|") as files:
            for info in files:
                file = files.extractfile(info) if info.isreg() else None
                if file is None:
                    continue
                if PurePosixPath(info.name).suffix in ARCHIVES:
                    yield from _archived(info.name, file)
                else:
                    yield Member(info.name, file)
    except (OSError, tarfile.TarError, zipfile.BadZipFile) as error:
        raise SourceError(f"{deb}: cannot be unpacked ({error}); remove it and fetch again") from error


def is_copyright(path: str) -> bool:
    """Whether it is the file of a package that states its licences."""
    return _COPYRIGHT.fullmatch(path) is not None


def licences(copyright_text: str) -> list[str]:
    """The short names of the licences that a machine-readable copyright file states, in its order; of another, none."""
    return list(dict.fromkeys(_LICENCE.findall(copyright_text)))


@contextmanager
def _unpacked(deb: Path) -> Iterator[IO[bytes]]:
    """The package's files as a tar stream. Raises OSError where it breaks off."""
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(deb)], stdout=subprocess.PIPE, stderr=errors)
        assert process.stdout is not None
        try:
            yield process.stdout
            while process.stdout.read(1 << 20):
                pass  # the padding behind the last file, without which dpkg-deb would see a closed pipe
            complete = True
        except BaseException:
            complete = False
            raise
        finally:
            process.stdout.close()
            code = process.wait()
        if complete and code:
            errors.seek(0)
            raise OSError(errors.read().decode(errors="replace").strip() or f"dpkg-deb ended with {code}")


def _archived(path: str, file: IO[bytes]) -> Iterator[Member]:
    with tempfile.TemporaryFile() as copy:
        shutil.copyfileobj(file, copy, 1 << 20)
        with zipfile.ZipFile(copy) as archive:
            for info in archive.infolist():
                if not info.is_dir():
                    with archive.open(info) as inner:
                        yield Member(f"{path}/{info.filename}", inner)
