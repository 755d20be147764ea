"""What `bench quality` stored of ours, for the benchmarks that build on it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.stored import commit_of
from components.settings import SettingsError

ROOT = Path(__file__).parents[2]
RESULT = ROOT / "benchmarks" / "results" / "quality.json"


def rows_of_ours(case: str) -> dict[str, dict[str, Any]]:
    """Metric -> row, with its commit. Raises SettingsError where the case was not run."""
    result = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.is_file() else {"rows": []}
    own = {
        row["metric"]: {**row, "commit": commit_of(row, result)}
        for row in result["rows"]
        if (row["case"], row["contender"]) == (case, "ours")
    }
    if not own:
        raise SettingsError(
            f"{RESULT.relative_to(ROOT)}: got no rows of ours on {case}; first run ./zhiyin bench quality --case {case}"
        )
    return own


def settings_of_peers(case: str) -> dict[str, dict[str, Any]]:
    """Contender -> what validation chose for it, of those with one split that were run on the case."""
    result = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.is_file() else {"rows": []}
    return {
        row["contender"]: row["settings"][0]
        for row in result["rows"]
        if row["case"] == case and row["contender"] != "ours" and len(row.get("settings", ())) == 1
    }


def settings_of_ours(case: str) -> dict[str, Any]:
    """What validation chose, of RetrievalConfig. Raises as `rows_of_ours`."""
    (settings,) = next(row["settings"] for row in rows_of_ours(case).values() if "settings" in row)
    return settings
