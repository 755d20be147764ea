"""What differential privacy costs and gives: quality at several epsilons, and an attack that guesses who was there.

Of each data set a fifth of the people are held out of training. Quality is NDCG@10 of the others' test interactions.
The attack is the threshold on a person's loss (Yeom et al., Privacy Risk in Machine Learning, CSF 2018): the lower the
loss of a person's own interactions under the released towers, the likelier they were trained on; its AUC over people
trained on and people held out is 0.5 where the model tells nothing. Ours at an infinite epsilon takes the private
steps without noise, `not private` is plain training without content and early stopping.

Data: MovieLens-100K (protocol ML100K-R), and Last.fm-2K with the artists that at least 20 people heard.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from benchmarks.cold_demo import METRIC, SEEDS, Measured, kept, row, row_of_runs
from benchmarks.goals import check_cases
from benchmarks.stored import key_of

if TYPE_CHECKING:
    from benchmarks.quality.splits import Stage
    from components.datasets.interactions import Interactions
    from trainer.data import ItemTable
    from trainer.retrieval.model import Retrieval

NAME = "privacy"
GOALS: list[dict[str, Any]] = []
EPSILONS = (1.0, 4.0, 8.0, math.inf)
DELTA = 1e-4  # a tenth of one by the number of people, and less
PLAIN, POPULAR = "not private", "popularity"
ATTACK = "attack_auc"
CASES = ("ML100K-R", "LFM")  # of `quality`
HELD_OUT = 0.2  # of the people
LEAST_LISTENERS = 20  # of an artist of Last.fm-2K
EPOCHS = 10
SETTINGS: dict[str, Any] = {"embedding_dim": 32, "use_attributes": False, "weight_decay": 0.0, "epochs": EPOCHS}


def run(data_dir: Path | None, cases: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Rows of NDCG@10 and of the attack's AUC. data_dir: as `bench quality` takes it."""
    from benchmarks.quality.bench import splits_of

    check_cases(cases, CASES)
    rows = []
    for quality_case, (split,) in splits_of(data_dir, cases or CASES):
        stage = _dense(split.test) if quality_case == "LFM" else split.test
        values: dict[tuple[str, str], list[Measured]] = {}
        for seed in SEEDS:
            for contender, epsilon in {PLAIN: None, **{f"ε = {one:g}": one for one in EPSILONS}}.items():
                part = f"{quality_case}, {contender}, seed {seed}"
                found = kept(NAME, part, key_of(*stage.parts()), lambda: _measured(stage, epsilon, seed))  # noqa: B023  (called at once)
                for metric, value in found.what.items():
                    values.setdefault((contender, metric), []).append(Measured(value, found.commit))
        rows += [row_of_runs(quality_case, contender, runs, metric) for (contender, metric), runs in values.items()]
        rows.append(row(quality_case, POPULAR, [_popularity(stage, seed) for seed in SEEDS]))
    return rows


def _measured(stage: Stage, epsilon: float | None, seed: int) -> dict[str, float]:
    """Train without the held-out people; NDCG@10 of the others, and the attack's AUC."""
    from sklearn.metrics import roc_auc_score

    from benchmarks.quality.ours import item_table, sequences
    from trainer.evaluation import metrics
    from trainer.retrieval.validation import user_vectors

    everybody, table = sequences(stage.train, None), item_table(stage.train.shape[1], {}, ())
    members = members_of(stage, seed)
    model = trained(everybody.select(np.flatnonzero(members)), table, epsilon, seed)
    vectors = model.item_tower.encode_ids(table)
    users = user_vectors(model, everybody, vectors, np.arange(len(everybody)))
    result = metrics.evaluate(
        lambda rows: users[rows] @ vectors.T, stage.truth, stage.hidden, cutoffs=(10,), rows=np.flatnonzero(members)
    )
    losses = losses_of(model, everybody, table)
    return {METRIC: result.mean(METRIC), ATTACK: float(roc_auc_score(members, -losses))}


def members_of(stage: Stage, seed: int) -> np.ndarray:
    """bool [U], who is trained on; the others are held out."""
    return np.random.default_rng([seed, 13]).random(stage.train.shape[0]) >= HELD_OUT


def trained(people: Interactions, table: ItemTable, epsilon: float | None, seed: int) -> Retrieval:
    """The towers after plain training, or after private training with an epsilon, for as many epochs."""
    from benchmarks.quality.ours import EVENT
    from components.config import DataConfig, EventRule, TableConfig
    from trainer.config.privacy import DifferentialConfig
    from trainer.config.retrieval import RetrievalConfig
    from trainer.keras import tf
    from trainer.retrieval.run import build
    from trainer.retrieval.train import fit_interactions
    from trainer.retrieval.train_privately import train_privately

    tf.keras.backend.clear_session()
    nowhere = TableConfig(path="")
    longest = int(people.lengths.max())  # all of a person's interactions are one example
    data = DataConfig(nowhere, nowhere, event_rules={EVENT: EventRule()}, history_length=longest)
    config = RetrievalConfig(**SETTINGS, seed=seed)
    model = build(table, people, data, config, private=epsilon is not None)
    if epsilon is None:
        fit_interactions(model, people, people.select(np.zeros(0, np.int64)), table)
    else:
        train_privately(model, people, table, DifferentialConfig(epsilon, DELTA, epochs=EPOCHS), seed=seed)
    return model


def losses_of(model: Retrieval, people: Interactions, table: ItemTable) -> np.ndarray:
    """The loss of each person's interactions: float [U]; 2, which is as bad as can be, for people without any."""
    from trainer.keras import tf
    from trainer.retrieval.train_privately import PeopleBatches, per_person

    losses = np.full(len(people), 2.0)
    batches = PeopleBatches(people, table, model)
    loss_of = tf.function(
        lambda batch: per_person(lambda one: model.compute_loss(one, training=False), batch), reduce_retracing=True
    )
    found = np.concatenate([loss_of(batch).numpy() for batch in batches.draw(1.0)])
    busy = np.flatnonzero(people.lengths)
    losses[busy] = found[: len(busy)]  # the last batch is filled up
    return losses


def _popularity(stage: Stage, seed: int) -> float:
    from trainer.evaluation import metrics

    members = members_of(stage, seed)
    counts = np.asarray(stage.train[members].sum(0)).ravel()
    return metrics.evaluate(
        lambda rows: np.tile(counts, (len(rows), 1)),
        *(stage.truth, stage.hidden),
        cutoffs=(10,),
        rows=np.flatnonzero(members),
    ).mean(METRIC)


def _dense(stage: Stage) -> Stage:
    """The stage with the items alone that enough people have in train."""
    from benchmarks.quality.splits import Stage

    items = np.flatnonzero(np.asarray((stage.train > 0).sum(0)).ravel() >= LEAST_LISTENERS)
    train, history, hidden, truth = (
        sp.csr_matrix(matrix[:, items]) for matrix in (stage.train, stage.history, stage.hidden, stage.truth)
    )
    return Stage(train, history, hidden, truth, np.ones(len(items), bool))
