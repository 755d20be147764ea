"""Batches of damaged inputs: a process each, kept as long as the code stays the same, so that a run goes on where one
ended."""

from __future__ import annotations

import collections
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.fingerprint import code_fingerprint

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Batches:
    """A case of the fuzz benchmark."""

    case: str
    code: str  # dotted name of the module that is tried: with its imports, it decides whether kept batches count
    count: int
    batch_limit_s: float  # a batch that takes longer is one hang
    seconds: float  # no batch is begun after them

    def rows(self, module: str, faults: Sequence[str]) -> list[dict]:
        """Rows of evaluation.md: the sums over all batches that could be run, and 0 for faults that did not occur.

        module: run with the number of a batch as its argument, it prints the batch's counts as JSON.
        """
        counts = collections.Counter(dict.fromkeys(faults, 0))
        for batch in self._batches(module):
            counts.update(batch)
        shared = {"case": self.case, "contender": "ours", "low": None, "high": None, "runs": 1}
        return [shared | {"metric": metric, "value": value} for metric, value in sorted(counts.items())]

    def _batches(self, module: str) -> list[dict[str, int]]:
        kept_in = ROOT / "data" / f"fuzz_{self.case}.json"
        code = code_fingerprint(self.code, module)
        kept = json.loads(kept_in.read_text(encoding="utf-8")) if kept_in.is_file() else {}
        batches: dict[str, dict[str, int]] = kept.get("batches", {}) if kept.get("code") == code else {}
        end = time.monotonic() + self.seconds
        for number in map(str, range(self.count)):
            if number not in batches and time.monotonic() < end:
                batches[number] = self._in_a_process(module, number)
                kept_in.parent.mkdir(parents=True, exist_ok=True)
                kept_in.write_text(json.dumps({"code": code, "batches": batches}), encoding="utf-8")
        return list(batches.values())

    def _in_a_process(self, module: str, number: str) -> dict[str, int]:
        command = [sys.executable, "-W", "ignore", "-m", module, number]
        try:
            finished = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, timeout=self.batch_limit_s, text=True)
        except subprocess.TimeoutExpired:
            return {"hangs": 1}
        return {"crashes": 1} if finished.returncode else json.loads(finished.stdout)
