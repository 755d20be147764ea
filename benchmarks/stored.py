"""Results as they are stored, and what is kept of long ones: each with the commit that it was measured at.

A row that was measured at another commit than the result's newest says so itself, in `commit`; several commits of one
row stand there with commas.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.goals import Row
from components.interpreter import ROOT

WRITTEN = ("benchmarks/results", "benchmarks/README.md")  # by benchmarks themselves: no other code for that


class Kept(NamedTuple):
    """A finished part of a benchmark."""

    what: dict[str, Any]  # as JSON has it
    arrays: dict[str, np.ndarray]
    commit: str  # that it was made at


def commit() -> str:
    """The checkout's, short, with a "+" where files are not as it has them; "unknown" outside one."""
    head = _git("rev-parse", "--short", "HEAD")
    if not head:
        return "unknown"
    return head + ("+" if _git("status", "--porcelain", "--", ".", *(f":!{path}" for path in WRITTEN)) else "")


def kept(stored: dict[str, Any], cases: Collection[str]) -> list[Row]:
    """The rows of a stored result but those of `cases`, which were measured anew."""
    return [{**row, "commit": commit_of(row, stored)} for row in stored["rows"] if row["case"] not in cases]


def commit_of(row: Row, result: dict[str, Any]) -> str:
    """The commit that a row of a result was measured at."""
    return row.get("commit") or result["commit"]


def commits_of(result: dict[str, Any]) -> str:
    """Every commit that a row of a result was measured at, in the order of the rows."""
    return joined(commit_of(row, result) for row in result["rows"]) or result["commit"]


def joined(commits: Iterable[str]) -> str:
    """Commits as one text, each once."""
    return ", ".join(dict.fromkeys(each for several in commits for each in several.split(", ") if each))


def keep(path: Path, key: str, make: Callable[[], tuple[dict[str, Any], dict[str, np.ndarray]]]) -> Kept:
    """What `make` gave under this key, from `path`.npz where it was finished before.

    key: of the code that is measured and of all that it reads, as by `key_of`.
    """
    path = path.with_name(f"{path.name}.npz")
    if path.is_file():
        with np.load(path) as found:
            about = json.loads(str(found["about"]))
            if about["key"] == key:
                arrays = {name: found[name] for name in found.files if name != "about"}
                return Kept(about["what"], arrays, about["commit"])
    measured_at = commit()
    what, arrays = make()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial.npz")
    about = {"key": key, "what": what, "commit": measured_at}
    np.savez(partial, about=np.array(json.dumps(about)), **arrays)
    partial.rename(path)
    return Kept(what, arrays, measured_at)


def key_of(*inputs: str | bytes | Path) -> str:
    """Digest of texts, bytes, and the contents of files and folders, where they are there: 32 hex digits."""
    digest = hashlib.blake2b(digest_size=16)
    for part in (part for each in inputs for part in _parts(each)):
        digest.update(hashlib.blake2b(part).digest())
    return digest.hexdigest()


def _parts(given: str | bytes | Path) -> Iterator[bytes]:
    if isinstance(given, Path):
        for path in sorted(given.rglob("*")) if given.is_dir() else [given]:
            if path.is_file():
                yield str(path.relative_to(given)).encode()
                yield path.read_bytes()
    else:
        yield given if isinstance(given, bytes) else given.encode()


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
