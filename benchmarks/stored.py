"""Results as they are stored: rows, and the commit that they were measured at.

A row that was measured at another commit than the result's newest says so itself, in `commit`.
"""

from __future__ import annotations

import subprocess
from collections.abc import Collection
from typing import Any

from benchmarks.goals import Row
from components.interpreter import ROOT


def commit() -> str:
    """The checkout's, short; "unknown" outside one."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip() or "unknown"


def kept(stored: dict[str, Any], cases: Collection[str]) -> list[Row]:
    """The rows of a stored result but those of `cases`, which were measured anew."""
    return [{**row, "commit": commit_of(row, stored)} for row in stored["rows"] if row["case"] not in cases]


def commit_of(row: Row, result: dict[str, Any]) -> str:
    """The commit that a row of a result was measured at."""
    return row.get("commit") or result["commit"]
