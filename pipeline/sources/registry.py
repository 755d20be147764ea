"""The sources of data that are ready to use: each writes a catalogue, events and users in the contract's form into one
folder."""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipeline.sources.summary import SourceError, Summary


@dataclass(frozen=True)
class Source:
    """One source of data."""

    about: str
    writer: str  # dotted path of write(out_dir, source_or_config) -> Summary; imported only when it is used
    made_here: bool = False  # made from a seed; else read from a folder or file that the user brings
    wheel: str = ""  # the package that `fetch` gets it from
    fetches: bool = False  # its module has `fetch(folder) -> source`, whose downloads stay for another try


SOURCES = {
    "demo": Source(
        "a made-up world of 300 items with real media files and 500 people",
        "pipeline.sources.demo.dataset.write_demo",
        made_here=True,
    ),
    "movielens-100k": Source(
        "100,000 film ratings with times", "pipeline.sources.movielens.write_movielens_100k", wheel="recbole==1.2.1"
    ),
    "lastfm-2k": Source(
        "listening of 1,858 people, with text and audio of every artist", "pipeline.sources.lastfm.write_lastfm_2k"
    ),
    "soundtracks": Source(
        "several hundred tracks of free games' music, out of Debian's packages",
        "pipeline.sources.soundtracks.write_soundtracks",
        fetches=True,
    ),
    "pictures": Source(
        "two thousand pictures by theme and by set, out of Debian's packages",
        "pipeline.sources.pictures.write_pictures",
        fetches=True,
    ),
}


def prepare(name: str, out_dir: Path, source: Path | None = None, seed: int = 0, fetch: bool = False) -> Summary:
    """Write the tables of a source, or leave them as they are where the same data is already there.

    source: folder, archive or wheel with the original files; not for sources that are made here.
    fetch: get the original files from a package index; what is fetched in many parts lies in a folder beside `out_dir`.
    Raises SourceError with what to do.
    """
    if name not in SOURCES:
        raise SourceError(f"data source: got {name!r}, expected one of {', '.join(SOURCES)}")
    chosen = SOURCES[name]
    module_name, _, function_name = chosen.writer.rpartition(".")
    module = importlib.import_module(module_name)
    write: Callable[..., Summary] = getattr(module, function_name)
    if chosen.made_here:
        if source is not None or fetch:
            raise SourceError(f"{name}: is made here, so it takes neither a source nor fetching; leave them out")
        return write(out_dir, module.DemoConfig(seed=seed))
    if source is not None:
        if not source.exists():
            raise SourceError(f"{source}: does not exist; get {module.WHAT_TO_GET}, and give its path with --source")
        return write(out_dir, source)
    if not fetch:
        or_fetch = ", or have it fetched with --fetch" if chosen.wheel or chosen.fetches else ""
        raise SourceError(
            f"{name}: no source given; get {module.WHAT_TO_GET}, and give its path with --source{or_fetch}"
        )
    if chosen.fetches:
        return write(out_dir, module.fetch(out_dir.with_name(f"{out_dir.name}.packages")))
    if not chosen.wheel:
        raise SourceError(f"{name}: cannot be fetched; get {module.WHAT_TO_GET}, and give its path with --source")
    with tempfile.TemporaryDirectory() as folder:
        advice = "download it by other means and give its path with --source"
        return write(out_dir, fetch_wheel(chosen.wheel, Path(folder), advice))


def fetch_wheel(requirement: str, folder: Path, advice: str) -> Path:
    """Download one wheel, without what it depends on, with pip and the package index that the machine is set up for.

    advice: what to do where that fails.
    Raises SourceError with pip's last line and the advice.
    """
    python = sys.executable
    if importlib.util.find_spec("pip") is None:  # environments made by uv have none; the standard library brings one
        _run([sys.executable, "-I", "-m", "venv", str(folder / "pip")], requirement, advice)
        python = str(folder / "pip" / "bin" / "python")
    download = [python, "-I", "-m", "pip", "download", requirement, "--no-deps", "--only-binary=:all:", "--quiet"]
    _run([*download, "--dest", str(folder)], requirement, advice)
    return next(folder.glob("*.whl"))


def _run(command: list[str], requirement: str, advice: str) -> None:
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode:
        detail = ((run.stderr or run.stdout).strip().splitlines() or [f"exit status {run.returncode}"])[-1]
        raise SourceError(f"could not fetch {requirement}: {detail}; {advice}")
