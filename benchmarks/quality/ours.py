"""Ours as a contender: the trainer that `zhiyin run` calls, on the pairs of a stage. Only the reading of tables is left
out.

U users, N items, D embedding_dim.
"""

from __future__ import annotations

import functools
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from benchmarks.quality import TIMED
from benchmarks.quality.splits import Split, Stage
from components import settings as room_settings
from components.config import DataConfig, EventRule, TableConfig
from components.contract import TAG_SLOTS

EVENT, EVENT_CODE = "play", 2  # the only kind of event, and its code: 0 is padding, 1 an unknown kind
WORD_ROOM = 2  # ids of a vocabulary that are no words: absent and unknown


class Trained(NamedTuple):
    """What training on a stage gives."""

    model: Any  # Retrieval
    table: Any  # ItemTable, prepared
    users: Any  # UserFeatures; None where nobody is known beside their history
    trace: Sequence[tuple[float, int, float]]  # as `Scored` has it


def train_on(
    stage: Stage,
    settings: Mapping[str, Any],
    seed: int,
    content: Mapping[str, np.ndarray],
    tags: tuple[tuple[str, ...], ...],
    traced_metric: str = "",
    ratings: sp.csr_matrix | None = None,
) -> Trained:
    """Train as `zhiyin run` does. settings: of RetrievalConfig, and `history_length`, by default that of the longest
    history.

    traced_metric: where not empty, and the stage has pairs to watch, the trace tells this metric of each epoch.
    ratings: [U, N], what was thought of each pair, for the loss that predicts it.
    """
    from benchmarks.quality.tracing import EpochTrace
    from trainer.config.retrieval import RetrievalConfig
    from trainer.keras import tf
    from trainer.retrieval.run import build
    from trainer.retrieval.train import train
    from trainer.towers.user_features import read_user_features

    tf.keras.backend.clear_session()
    data = DataConfig(
        catalogue=TableConfig(path=""),
        events=TableConfig(path=""),
        embeddings={name: vectors.shape[1] for name, vectors in content.items()},
        event_rules={EVENT: EventRule()},
        history_length=settings.get(
            "history_length", max(int(stage.train.getnnz(1).max()), int(stage.history.getnnz(1).max()))
        ),
    )
    config = room_settings.from_mapping(RetrievalConfig, {**retrieval_settings(settings), "seed": seed})
    table = item_table(stage.train.shape[1], content, tags)
    begun = time.process_time()
    pairs = sequences(stage.train, stage.times_s, ratings=ratings)
    users = read_user_features(None, data, pairs, config)
    pairs = _with_rows(pairs, users)
    model = build(table, pairs, data, config, users)
    nothing = sequences(stage.train[:0], None)
    watched = nothing if stage.watch is None else _with_rows(sequences(stage.train, stage.times_s, stage.watch), users)
    looks = [EpochTrace(traced_metric, watched, table, begun)] if traced_metric and len(watched) else []
    # With content, the pairs to watch, where there are some, end training and say how far content counts beside
    # behaviour; else the epochs are those of the settings.
    train(model, pairs, watched if content else nothing, table, callbacks=looks)
    return Trained(model, table, users, looks[0].points if looks else ())


def retrieval_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a contender's settings that RetrievalConfig has: `history_length` is one of the data."""
    return {name: value for name, value in settings.items() if name != "history_length"}


def score(
    content: Mapping[str, np.ndarray],
    tags: tuple[tuple[str, ...], ...],
    traced_metric: str,
    stage: Stage,
    settings: Mapping[str, Any],
    seed: int,
    ratings: sp.csr_matrix | None = None,
):
    """A contender's score: train on the stage, then the dot product of each user's and each item's vector, as the index
    has it.

    traced_metric, ratings: as `train_on` has them.
    """
    from benchmarks.quality.methods import Scored
    from trainer.retrieval.validation import user_vectors

    model, table, known, trace = train_on(stage, settings, seed, content, tags, traced_metric, ratings)
    vectors = model.item_tower.encode(table)  # [N, D]
    asked = _with_rows(sequences(stage.history, stage.times_s, request_s=stage.request_s), known)
    blocks = [np.arange(start, min(start + 256, len(asked))) for start in range(0, len(asked), 256)]
    users = np.concatenate([user_vectors(model, asked, vectors, rows) for rows in blocks])  # [U, D]
    return Scored(users @ vectors.T, sum(int(np.prod(weight.shape)) for weight in model.trainable_weights), trace=trace)


def item_table(num_items: int, content: Mapping[str, np.ndarray], tags: tuple[tuple[str, ...], ...]):
    """A catalogue as the trainer reads it: ids, the embeddings, and the most used tags of each item."""
    from trainer.data import ItemTable

    arrays: dict[str, np.ndarray] = {
        "numeric_present": np.zeros((num_items, 1), np.float32),
        "numeric": np.zeros((num_items, 1), np.float32),
    }
    sizes = {}
    if tags:
        uses = Counter(tag for of_item in tags for tag in of_item)
        number = {tag: place + WORD_ROOM for place, (tag, _) in enumerate(uses.most_common())}
        arrays["tag_ids"] = np.zeros((num_items, TAG_SLOTS), np.int64)
        for item, of_item in enumerate(tags):
            ids = sorted(number[tag] for tag in of_item)[:TAG_SLOTS]
            arrays["tag_ids"][item, : len(ids)] = ids
        arrays["has_tags"] = (arrays["tag_ids"][:, 0] > 0).astype(np.int64)
        sizes["tags"] = len(number) + WORD_ROOM
    for name, vectors in content.items():
        arrays[f"embedding_{name}"] = vectors.astype(np.float32)
        arrays[f"has_embedding_{name}"] = np.ones(num_items, np.int64)
    present = (*(("tags",) if tags else ()), *(f"embedding_{name}" for name in content))
    return ItemTable(arrays, [f"{item:06d}".encode() for item in range(num_items)], sizes, present)


def sequences(
    known: sp.csr_matrix,
    times_s: sp.csr_matrix | None,
    sought: sp.csr_matrix | None = None,
    request_s: np.ndarray | None = None,
    ratings: sp.csr_matrix | None = None,
):
    """Each user's pairs, oldest first where there are times, as history. sought: what follows it, as the eval split has
    it.

    request_s: when each user asks, seconds; the history's age counts from then on. ratings: the values of the pairs.
    """
    from components.datasets.interactions import Interactions

    items, times, lengths, num_history = [np.zeros(0, np.int64)], [np.zeros(0)], [], []
    values = [np.zeros(0, np.float32)]
    for user in range(known.shape[0]):
        own = known.indices[known.indptr[user] : known.indptr[user + 1]]
        when = np.full(len(own), np.nan)
        if times_s is not None:
            when = np.asarray(times_s[user, own].todense()).ravel().astype(np.float64) if len(own) else when
            order = np.argsort(when, kind="stable")
            own, when = own[order], when[order]
        following = (
            np.zeros(0, np.int64) if sought is None else sought.indices[sought.indptr[user] : sought.indptr[user + 1]]
        )
        if request_s is not None:
            following = np.zeros(1, np.int64)  # stands for what is asked: only its time is read
        asked_at = request_s[user] if request_s is not None else (when.max() if len(own) else np.nan)
        items += [own, following]
        unrated = np.full(len(own) + len(following), np.nan, np.float32)
        values.append(
            unrated if ratings is None else np.r_[np.asarray(ratings[user, own].todense()).ravel(), unrated[len(own) :]]
        )
        times += [when, np.full(len(following), asked_at, np.float64)]
        lengths.append(len(own) + len(following))
        num_history.append(len(own))
    flat = np.concatenate(items).astype(np.int32)
    return Interactions(
        user_ids=[f"{user:06d}" for user in range(known.shape[0])],
        splits=np.r_[0, np.cumsum(lengths, dtype=np.int64)],
        items=flat,
        events=np.full(len(flat), EVENT_CODE, np.int32),
        event_names=(EVENT,),
        times_s=np.concatenate(times),
        weights=np.ones(len(flat), np.float32),
        positives=np.ones(len(flat), bool),
        values=np.concatenate(values).astype(np.float32),
        num_history=np.array(num_history, np.int64),
        ordered=np.full(known.shape[0], times_s is not None),
    )


def _with_rows(asked: Any, users: Any):
    """The sequences with each user's row among the known ones (UserFeatures), where there are some."""
    return replace(asked, user_feature_rows=users.rows_of(asked.user_ids)) if users else asked


_IDS_ALONE = {"item_scale": True, "cosine_decay": True, "weight_decay": 0.0, "use_attributes": False}
# Case -> setting -> values among which validation chooses. Where there is one, an earlier run's validation chose it
# (docs/decisions/0010-retrieval-model.md).
CASES: dict[str, dict[str, tuple[Any, ...]]] = {
    "ML1M-U": {
        "embedding_dim": (514,), "num_submodels": (2,), "user_weight_exponent": (0.5,), "history_dropout": (0.5,),
        "batch_size": (512,), "epochs": (5,), "learning_rate": (0.03,),
    },
    "ML100K-R": {
        "embedding_dim": (258,), "num_submodels": (2,), "score_exponent": (2.0, 3.0),
        "user_weight_exponent": (0.0, 0.5), "history_dropout": (0.5, 0.7), "batch_size": (128,),
        "epochs": (10,), "learning_rate": (0.003, 0.005),
    },
    "TFRS-A": {
        "embedding_dim": (66, 98), "num_submodels": (2,), "score_exponent": (2.0, 3.0), "user_weight_exponent": (0.5,),
        "history_dropout": (0.6, 0.8), "batch_size": (128,), "epochs": (10,), "learning_rate": (0.003, 0.005),
    },
    "TFRS-A-hidden": {
        "embedding_dim": (194, 258), "num_submodels": (2,), "score_exponent": (1.5, 2.0),
        "user_weight_exponent": (0.5,), "history_dropout": (0.5, 0.65), "batch_size": (128,),
        "epochs": (10,), "learning_rate": (0.004, 0.006),
    },
    "ML100K-T": {
        "user_tower": ("both",), "loss": ("full_softmax",), "embedding_dim": (64,), "history_length": (100,),
        "dropout": (0.2,), "item_scale": (False,), "batch_size": (64,), "epochs": (20,), "learning_rate": (0.002,),
    },
    "LFM": {
        "embedding_dim": (258,), "num_submodels": (2,), "history_dropout": (0.5,), "batch_size": (128,),
        "epochs": (6, 10), "learning_rate": (0.01,), "content_epochs": (0,),
    },
}  # fmt: skip
CASES |= {"ML100K-S": CASES["ML100K-R"], "LFM-cold": CASES["LFM"]}


def ours(split: Split):
    """The contender."""
    from benchmarks.quality.methods import SEEDS, Contender

    traced_metric = split.metrics[0] if split.case in TIMED else ""
    grid = {name: (value,) for name, value in _IDS_ALONE.items()} | CASES[split.case]
    return Contender(
        "ours",
        functools.partial(score, dict(split.content), split.tags, traced_metric),
        grid,
        runs=SEEDS,
        modules=(__name__, "benchmarks.quality.tracing"),
    )
