"""The demo world's items that nobody has played, for benchmarks that train on it again and again: tables, scores,
intervals, what is done.

Reads the artifacts of a finished `./zhiyin demo` (runs/demo).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy import stats

from benchmarks.stored import Kept, joined, keep, key_of
from components.settings import SettingsError
from pipeline import config as configuration
from pipeline.fingerprint import code_fingerprint

if TYPE_CHECKING:
    from components.datasets.interactions import Interactions
    from serving.offline.evaluation import TestSet
    from trainer.data import ItemTable
    from trainer.retrieval.model import Retrieval

METRIC, CUTOFF = "NDCG@10", 10
SEEDS = (7, 8, 9)
KEPT = Path(__file__).parents[1] / ".zhiyin" / "bench"


@dataclass
class World:
    """A finished demo as the trainer and the evaluator read it. `is_cold` bool [N]: items that nobody has taken in
    training, however few of its events are used. `questions`: what the evaluator asks of the test split. `digest`: of
    all that was read."""

    config: configuration.Config
    table: ItemTable
    train: Interactions
    eval: Interactions
    test: Interactions
    is_cold: np.ndarray
    questions: TestSet
    digest: str

    @classmethod
    def read(cls, folder: Path) -> World:
        """The demo's artifacts; folder: an empty one for the item table.

        Raises SettingsError where no demo has run.
        """
        from components.datasets.interactions import read_interactions
        from components.datasets.items import available_from_s, read_item_metadata
        from serving.offline.evaluation import TestSet
        from trainer.data import ItemTable, vocabulary_sizes

        path = Path("configs/demo.yaml")
        config = configuration.localised(configuration.load(path))
        artifacts = config.work_path / "artifacts"
        graph = newest(artifacts / "ItemTransform" / "transform_graph")
        sizes = vocabulary_sizes(str(graph), config.data)
        items = newest(artifacts / "ItemTransform" / "transformed_examples") / "Split-train"
        table = ItemTable.build(str(items), config.data, folder, sizes)
        sequences, kinds = newest(artifacts / "Interactions" / "sequences"), tuple(config.data.event_rules)
        train, valid, test = (
            read_interactions([f"{sequences}/Split-{split}/*"], table.item_ids, kinds)
            for split in ("train", "eval", "test")
        )
        examples = str(newest(artifacts / "MediaFeatures" / "examples") / "Split-train")
        table.date(examples, config.data, (train, valid))
        metadata = read_item_metadata(examples, [item_id.decode() for item_id in table.item_ids])
        questions = TestSet.of(test, available_from_s(metadata, config.data, (train, valid, test)))
        digest = key_of(path, graph, items, sequences, Path(examples))
        return cls(config, table, train, valid, test, train.counts(len(table)) == 0, questions, digest)

    def fresh_table(self) -> ItemTable:
        """The item table as it was read, without what an earlier model added to it."""
        from trainer.data import ItemTable

        fresh = ItemTable(
            dict(self.table.arrays), self.table.item_ids, self.table.vocabulary_sizes, self.table.modalities
        )
        fresh.available_from_s = self.table.available_from_s
        return fresh

    def ndcg(self, model: Retrieval, table: ItemTable, vectors: np.ndarray | None = None) -> float:
        """NDCG@10 of the test users on the cold items among themselves. vectors: float [N, D], of the items as
        candidates, where they are not what the model says of the table.
        """
        from trainer.evaluation import metrics
        from trainer.retrieval.validation import user_vectors

        known = model.item_tower.encode(table)
        candidates = known if vectors is None else vectors
        result = metrics.evaluate(
            lambda users: user_vectors(model, self.test, known, users) @ candidates.T,
            self.questions.truth,
            self.questions.seen,
            (CUTOFF,),
            self.is_cold & self.questions.exists,
            unavailable=self.questions.unavailable,
        )
        return result.mean(METRIC)


def newest(folder: Path) -> Path:
    """The newest artifact of a node. Raises SettingsError where there is none."""
    runs = [path for path in folder.glob("*") if path.name.isdigit()]
    if not runs:
        raise SettingsError(f"there is no finished demo: {folder} is empty; run ./zhiyin demo first")
    return max(runs, key=lambda path: int(path.name))


class Measured(NamedTuple):
    """A value of one run, and the commit that it was measured at."""

    value: float
    commit: str


def row_of_runs(case: str, contender: str, runs: Sequence[Measured], metric: str = METRIC) -> dict[str, Any]:
    """`row` of kept runs, with their commits."""
    values = [run.value for run in runs]
    return row(case, contender, values, metric) | {"commit": joined(run.commit for run in runs)}


def row(case: str, contender: str, values: Sequence[float], metric: str = METRIC) -> dict[str, Any]:
    """A row with the mean over the runs and its 95 % interval by Student's t."""
    mean = float(np.mean(values))
    half = float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)) if len(values) > 1 else float("nan")
    low, high = (mean - half, mean + half) if len(values) > 1 else (None, None)
    return {
        "case": case,
        "contender": contender,
        "metric": metric,
        "value": mean,
        "low": low,
        "high": high,
        "runs": len(values),
    }


def kept(benchmark: str, part: str, inputs: str, compute: Callable[[], dict[str, Any]]) -> Kept:
    """The result of one part, from an earlier run with the same code and inputs where there is one: a long benchmark
    goes on where it stopped.

    inputs: digest of what the part reads, as by `key_of`.
    """
    key = key_of(code_fingerprint(f"benchmarks.{benchmark}"), part, inputs)
    result = keep(KEPT / benchmark / part.replace(" ", "_"), key, lambda: (compute(), {}))
    print(f"{benchmark}: {part} {result.what}, measured at {result.commit}", flush=True)
    return result
