"""One model over several domains with shared users, beside a model of each domain alone: the demo world, the same test
users.

Reads the artifacts of a finished `./zhiyin demo` (runs/demo) and trains anew for each domain and seed. About ten
minutes on two cores.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cold_demo import SEEDS, newest
from components.transform.preprocessing import FIRST_KNOWN_ID
from pipeline import config as configuration

METRIC, CUTOFFS = "NDCG@10", (10,)
MIN_USERS = 20  # with fewer a group says nothing
GOALS: list[dict[str, Any]] = []


def run(data_dir: Path | None) -> list[dict[str, Any]]:
    """For each domain: ours over all domains, one model of the domain alone, and the difference user by user.

    Groups: everybody with something to find in the domain, and those of them without a history in it.
    """
    from trainer.data import vocabulary_sizes
    from trainer.evaluation import metrics

    config = configuration.localised(configuration.load(Path("configs/demo.yaml")))
    artifacts = config.work_path / "artifacts"
    sizes = vocabulary_sizes(str(newest(artifacts / "ItemTransform" / "transform_graph")), config.data)
    with tempfile.TemporaryDirectory() as folder:
        table, splits = _read(config, artifacts, Path(folder), sizes)
        domains = np.asarray(table.arrays["domain_id"])
        vocabulary = newest(artifacts / "ItemTransform" / "transform_graph") / "transform_fn" / "assets" / "domain"
        names = vocabulary.read_text(encoding="utf-8").splitlines()
        rows: list[dict[str, Any]] = []
        everywhere = [_trained(table, splits, config, seed) for seed in SEEDS]
        for domain in np.unique(domains[domains >= FIRST_KNOWN_ID]):
            inside = domains == domain
            alone_splits = {name: within(split, inside) for name, split in splits.items()}
            alone = [_trained(table, alone_splits, config, seed) for seed in SEEDS]
            users, together = _values(everywhere, table, splits["test"], alone_splits["test"], inside)
            _, apart = _values(alone, table, alone_splits["test"], alone_splits["test"], inside)
            is_new = alone_splits["test"].num_history[users] == 0
            name = names[domain - FIRST_KNOWN_ID]
            for group, chosen in (("", np.ones(len(users), bool)), (", new to it", is_new)):
                if chosen.sum() < MIN_USERS:
                    continue
                case = f"{name}{group}"
                for contender, values in (("ours", together), ("one domain alone", apart)):
                    interval = metrics.bootstrap(values[chosen])
                    rows.append(_row(case, contender, METRIC, interval))
                rows.append(
                    _row(
                        case,
                        "ours",
                        f"{METRIC} above one domain alone",
                        metrics.paired_bootstrap(together[chosen], apart[chosen]),
                    )
                )
    return rows


def within(sequences, inside: np.ndarray):
    """The interactions with some items alone, of the same users. inside: bool [N]."""
    kept = inside[sequences.items]
    owners = np.repeat(np.arange(len(sequences)), np.diff(sequences.splits))
    is_history = np.arange(len(owners)) - sequences.splits[owners] < sequences.num_history[owners]
    columns = {
        name: getattr(sequences, name)[kept]
        for name in ("items", "events", "times_s", "weights", "positives", "values")
    }
    return dataclasses.replace(
        sequences,
        splits=np.r_[0, np.cumsum(np.bincount(owners[kept], minlength=len(sequences)))],
        num_history=np.bincount(owners[kept & is_history], minlength=len(sequences)),
        **columns,
    )


def _read(config, artifacts: Path, folder: Path, sizes):
    from components.datasets.interactions import read_interactions
    from trainer.data import ItemTable

    items = newest(artifacts / "ItemTransform" / "transformed_examples") / "Split-train"
    table = ItemTable.build(str(items), config.data, folder, sizes)
    sequences, kinds = newest(artifacts / "Interactions" / "sequences"), tuple(config.data.event_rules)
    return table, {
        name: read_interactions([f"{sequences}/Split-{name}/*"], table.item_ids, kinds)
        for name in ("train", "eval", "test")
    }


def _trained(table, splits, config, seed: int):
    from trainer.data import ItemTable
    from trainer.retrieval.run import build
    from trainer.retrieval.train import train

    own = ItemTable(
        dict(table.arrays), table.item_ids, table.vocabulary_sizes, table.modalities
    )  # a model prepares its own table
    model = build(own, splits["train"], config.data, dataclasses.replace(config.retrieval, seed=seed))
    train(model, splits["train"], splits["eval"], own)
    return model, model.item_tower.encode(own)


def _values(models: Sequence[Any], table, histories, sought, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Users with something to find in the domain, and their mean over the seeds; only the domain is ranked, what they
    know of it hidden."""
    from trainer.evaluation import metrics
    from trainer.retrieval.validation import targets_and_history, user_vectors

    truth, seen = targets_and_history(sought, len(table))

    def scores(model: Any, vectors: np.ndarray, users: np.ndarray) -> np.ndarray:
        return user_vectors(model, histories, vectors, users) @ vectors.T

    results = [
        metrics.evaluate(partial(scores, model, vectors), truth, seen, cutoffs=CUTOFFS, candidates=inside)
        for model, vectors in models
    ]
    return results[0].rows, np.mean([result.values[METRIC] for result in results], axis=0)


def _row(case: str, contender: str, metric: str, interval) -> dict[str, Any]:
    return {
        "case": case, "contender": contender, "metric": metric, "value": interval.value,
        "low": interval.low, "high": interval.high, "runs": len(SEEDS),
    }  # fmt: skip
