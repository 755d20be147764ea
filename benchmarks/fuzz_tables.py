"""Damaged tables by the thousand: does any crash the reader, lose a row without a word, or make one up?

Batch by batch, a process each; finished batches are kept as long as the code stays the same, so that a run goes on
where the one before it ended.
"""

from __future__ import annotations

import collections
import hashlib
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.table_damage import Outcome, judge, make
from pipeline.fingerprint import code_fingerprint

INPUTS = 10_000
BATCH_INPUTS = 500
BATCH_LIMIT_S = 900.0  # some fifty times what a batch takes
SECONDS = 1500.0  # no batch is begun after them
ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / "data" / "fuzz_tables.json"
CODE, DAMAGE = "components.tables.readers", ROOT / "benchmarks" / "table_damage.py"
FAULTS = ("crashes", "accounts_that_do_not_add_up", "hangs")


def rows(seconds: float = SECONDS) -> list[dict]:
    """Rows of evaluation.md for the case `tables`.

    `inputs` tables were judged; `accepted` and `rejected` are rows, `refused` whole tables. `crashes` counts exceptions
    other than TableError and processes that died, `accounts_that_do_not_add_up` tables with a line that nobody accounts
    for or an accepted row that a plain reader does not give, `hangs` batches.
    """
    code = code_fingerprint(CODE) + hashlib.blake2b(DAMAGE.read_bytes(), digest_size=8).hexdigest()
    kept = json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.is_file() else {}
    batches: dict[str, dict[str, int]] = kept.get("batches", {}) if kept.get("code") == code else {}
    end = time.monotonic() + seconds
    for number in map(str, range(INPUTS // BATCH_INPUTS)):
        if number not in batches and time.monotonic() < end:
            batches[number] = _in_a_process(number)
            KEPT.parent.mkdir(parents=True, exist_ok=True)
            KEPT.write_text(json.dumps({"code": code, "batches": batches}), encoding="utf-8")
    counts = collections.Counter(dict.fromkeys(FAULTS, 0))
    for batch in batches.values():
        counts.update(batch)
    return [
        {"case": "tables", "contender": "ours", "metric": metric, "value": value, "low": None, "high": None, "runs": 1}
        for metric, value in sorted(counts.items())
    ]


def _in_a_process(number: str) -> dict[str, int]:
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.fuzz_tables", number]
    try:
        finished = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, timeout=BATCH_LIMIT_S, text=True)
    except subprocess.TimeoutExpired:
        return {"hangs": 1}
    return {"crashes": 1} if finished.returncode else json.loads(finished.stdout)


def judge_batch(number: int, inputs: int = BATCH_INPUTS) -> dict[str, int]:
    """Counts over one batch of tables; each fault is told on stderr with the seed of its table."""
    counts: collections.Counter[str] = collections.Counter(inputs=inputs)
    with tempfile.TemporaryDirectory(prefix="zhiyin-fuzz-") as folder:
        for seed in range(number * inputs, (number + 1) * inputs):
            outcome = judge(make(random.Random(seed)), Path(folder))
            counts.update(accepted=outcome.accepted, rejected=outcome.rejected, refused=bool(outcome.refused))
            if outcome.fault:
                print(f"table {seed}: {outcome.fault}", file=sys.stderr)
                counts[_kind(outcome)] += 1
    return dict(counts)


def _kind(outcome: Outcome) -> str:
    return "crashes" if outcome.is_crash else "accounts_that_do_not_add_up"


if __name__ == "__main__":
    print(json.dumps(judge_batch(int(sys.argv[1]))))
