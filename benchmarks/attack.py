"""Items that nobody has played under attack: their own inputs are moved so that they leave the place where their
listeners look for them.

Radii are those of AdversaryConfig; the attacker knows the model and, for each item, the mean of the test users who took
it, and moves the item's vector away from that. Candidates are attacked, what people have played is not. Reads the
artifacts of a finished `./zhiyin demo`.
"""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.cold_demo import METRIC, SEEDS, Measured, World, kept, row_of_runs

if TYPE_CHECKING:
    from trainer.config.adversary import AdversaryConfig
    from trainer.data import ItemTable
    from trainer.retrieval.model import Retrieval

NAME = "attack"
PLAIN = "without adversarial training"
ATTACK_STEPS = 6  # of PGD, more than training sees
GOALS = [
    {"case": "clean", "metric": METRIC, "at_least": 0.95, "of": PLAIN},
    {"case": "fgsm", "metric": METRIC, "at_least": 1.0, "of": PLAIN},
    {"case": "pgd", "metric": METRIC, "at_least": 1.0, "of": PLAIN},
]


def run(data_dir: Path | None) -> list[dict[str, Any]]:
    """Rows of `ours` (adversarial training) and of the same behaviour with plain content: clean, FGSM and PGD, whole
    radii and thirds."""
    values: dict[tuple[str, str], list[Measured]] = {}
    with tempfile.TemporaryDirectory() as folder:
        world = World.read(Path(folder) / "table")
        for seed in SEEDS:
            found = kept(NAME, f"seed {seed}", world.digest, lambda: _scores(world, seed))  # noqa: B023  (called at once)
            for contender, cases in found.what.items():
                for case, value in cases.items():
                    values.setdefault((case, contender), []).append(Measured(value, found.commit))
    return [row_of_runs(case, contender, numbers) for (case, contender), numbers in values.items()]


def _scores(world: World, seed: int) -> dict[str, dict[str, float]]:
    from trainer.config.adversary import AdversaryConfig
    from trainer.content.fit import fit_content
    from trainer.keras import tf
    from trainer.retrieval.run import build
    from trainer.retrieval.train import train

    tf.keras.backend.clear_session()
    adversary = AdversaryConfig(method="pgd", steps=3)
    # The Transformers stay out of the demo's content (docs/decisions/0011), so what is attacked is the linear map's.
    encoder = dataclasses.replace(world.config.retrieval.encoder, layers=0, fusion_layers=0)
    config = dataclasses.replace(world.config.retrieval, seed=seed, content_epochs=0, encoder=encoder)
    table = world.fresh_table()
    model = build(table, world.train, world.config.data, config)
    train(model, world.train, world.eval, table)
    scores = {PLAIN: attacked(world, model, table, adversary)}
    warm = np.flatnonzero(table.arrays["id_row"])
    fit_content(model.item_tower, table, warm, dataclasses.replace(config, adversary=adversary))
    return scores | {"ours": attacked(world, model, table, adversary)}


def attacked(world: World, model: Retrieval, table: ItemTable, adversary: AdversaryConfig) -> dict[str, float]:
    """NDCG@10 clean, and under FGSM and PGD at the adversary's radii and at a third of them."""
    from trainer.content.adversarial import Adversary
    from trainer.keras import tf
    from trainer.retrieval.validation import targets_and_history, user_vectors

    tower = model.item_tower
    vectors, cold = tower.encode(table), np.flatnonzero(world.is_cold)
    truth, _ = targets_and_history(world.test, len(table))
    users = user_vectors(model, world.test, vectors, np.arange(len(world.test)))
    home = (truth.T @ users)[cold]
    home = (home / np.maximum(np.linalg.norm(home, axis=1, keepdims=True), 1e-9)).astype(np.float32)
    features = {name: tf.constant(array) for name, array in table.take(cold, tower.inputs).items()}

    def distance(inputs, targets):
        return tf.reduce_sum(1 - tf.reduce_sum(tower.content(inputs, training=False)[0] * targets, -1))

    scores = {"clean": world.ndcg(model, table)}
    for method in ("fgsm", "pgd"):
        for suffix, share in (("", 1.0), ("_third", 1 / 3)):
            radii = {name: getattr(adversary, name) * share for name in ("audio", "video", "text", "embedding")}
            attack = Adversary(
                tower, dataclasses.replace(adversary, method=method, steps=ATTACK_STEPS, **radii), distance
            )
            moved = vectors.copy()
            moved[cold] = tower.content(attack(features, tf.constant(home)))[0].numpy()
            scores[method + suffix] = world.ndcg(model, table, moved)
    return scores
