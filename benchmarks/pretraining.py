"""Few events: items that nobody has played, with encoders pretrained on the catalogue and without, from 100 %, 10 % and
1 % of the events.

Training events are drawn at random, a share of each seed's own; test users keep their whole history, so that the score
is about what was learned and not about how little is known of a person. Reads the artifacts of a finished `./zhiyin
demo`.
"""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.cold_demo import KEPT, SEEDS, Measured, World, kept, row_of_runs

if TYPE_CHECKING:
    from components.datasets.interactions import Interactions

NAME = "pretraining"
SHARES = {"events_100%": 1.0, "events_10%": 0.1, "events_1%": 0.01}
EPOCHS = 10
PLAIN = "without pretraining"
GAIN = "NDCG@10_gain"  # ours minus without, of the same seed
GOALS = [
    {"case": "events_10%", "metric": GAIN, "at_least": 0.0, "by": "low"},
    {"case": "events_1%", "metric": GAIN, "at_least": 0.0, "by": "low"},
]


def run(data_dir: Path | None) -> list[dict[str, Any]]:
    """Rows of `ours` (pretrained) and of the same model without, the difference seed by seed, and the error of the
    masked objective."""
    values: dict[tuple[str, str], list[Measured]] = {}
    errors: dict[str, list[Measured]] = {}
    with tempfile.TemporaryDirectory() as folder:
        world = World.read(Path(folder) / "table")
        for seed in SEEDS:
            weights = KEPT / NAME / f"weights-{seed}"
            found = kept(NAME, f"masked {seed}", world.digest, lambda: _reports(world, seed, weights))  # noqa: B023
            for name, value in found.what.items():
                errors.setdefault(name, []).append(Measured(value, found.commit))
            for case, share in SHARES.items():
                found = kept(NAME, f"{case} {seed}", world.digest, lambda: _scores(world, share, seed, weights))  # noqa: B023  (called at once)
                for contender, value in found.what.items():
                    values.setdefault((case, contender), []).append(Measured(value, found.commit))
    rows = [row_of_runs(case, contender, runs) for (case, contender), runs in values.items()]
    for case in SHARES:
        pairs = zip(values[case, "ours"], values[case, PLAIN])
        gains = [Measured(ours.value - plain.value, ours.commit) for ours, plain in pairs]
        rows.append(row_of_runs(case, "ours", gains, GAIN))
    return rows + [
        row_of_runs(name.partition(" ")[0], "ours", numbers, f"masked_error_{name.partition(' ')[2]}")
        for name, numbers in errors.items()
    ]


def _reports(world: World, seed: int, folder: Path) -> dict[str, float]:
    from trainer.config.pretraining import PretrainingConfig
    from trainer.content.run_pretraining import pretrained
    from trainer.encoders.weights import write_weights

    folder.mkdir(parents=True, exist_ok=True)
    encoders, report = pretrained(
        world.fresh_table(), world.config.retrieval.encoder, PretrainingConfig(epochs=EPOCHS, seed=seed)
    )
    write_weights(encoders, str(folder))
    return {f"{name} {when}": report[name][when] for name in report for when in ("before", "after")}


def _scores(world: World, share: float, seed: int, weights: Path) -> dict[str, float]:
    from trainer.keras import tf
    from trainer.retrieval.run import build
    from trainer.retrieval.train import train

    events = thinned(world.train, share, seed)
    config = dataclasses.replace(world.config.retrieval, seed=seed)
    scores = {}
    for contender, start in (("ours", str(weights)), (PLAIN, "")):
        tf.keras.backend.clear_session()
        table = world.fresh_table()
        model = build(table, events, world.config.data, config, encoder_weights=start)
        train(model, events, world.eval, table)
        scores[contender] = world.ndcg(model, table)
    return scores


def thinned(split: Interactions, share: float, seed: int) -> Interactions:
    """A random share of a training split's interactions, in their order."""
    if share >= 1:
        return split
    stays = np.random.default_rng(seed).random(len(split.items)) < share
    users = np.repeat(np.arange(len(split)), np.diff(split.splits))
    counts = np.bincount(users[stays], minlength=len(split))
    columns = {name: getattr(split, name)[stays] for name in ("items", "events", "times_s", "weights", "positives")}
    return dataclasses.replace(split, splits=np.concatenate([[0], np.cumsum(counts)]), **columns)
