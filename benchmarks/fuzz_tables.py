"""Damaged tables by the thousand: does any crash the reader, lose a row without a word, or make one up?

Batch by batch, a process each; finished batches are kept as long as the code stays the same, so that a run goes on
where the one before it ended.
"""

from __future__ import annotations

import collections
import json
import random
import sys
import tempfile
from pathlib import Path

from benchmarks.fuzz_batches import Batches
from benchmarks.table_damage import make
from benchmarks.table_judge import Outcome, judge

INPUTS = 10_000
BATCH_INPUTS = 1000
BATCHES = Batches("tables", "components.tables.readers", INPUTS // BATCH_INPUTS, batch_limit_s=900.0, seconds=1500.0)
FAULTS = ("crashes", "accounts_that_do_not_add_up", "hangs")


def rows() -> list[dict]:
    """Rows of evaluation.md for the case `tables`.

    `inputs` tables were judged; `accepted` and `rejected` are rows, `refused` whole tables. `crashes` counts exceptions
    other than TableError and processes that died, `accounts_that_do_not_add_up` tables with a line that nobody accounts
    for or an accepted row that a plain reader does not give, `hangs` batches.
    """
    return BATCHES.rows("benchmarks.fuzz_tables", FAULTS)


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
