"""Artifacts on disk for the nodes: 40 items in two groups, people who take one group only, a good model and a bad
one.
"""

from pathlib import Path

import numpy as np
import tensorflow as tf
from tfx.types import artifact_utils, standard_artifacts

from tests.serving import tiny

NUM_ITEMS, NUM_USERS = 40, 24
COLD = (36, 37, 38, 39)  # nobody took them in training
ITEM_IDS = sorted(f"ü{row:02}" for row in range(NUM_ITEMS))


def group_of(number):
    return number % 2


def content():
    """Two directions, one a group, and some noise."""
    noise = np.random.default_rng(5).normal(0, 0.15, (NUM_ITEMS, tiny.DIM))
    noise[:, 0] += [1 - 2 * group_of(row) for row in range(NUM_ITEMS)]
    return noise.astype(np.float32)


class GoodModel(tiny.TinyModel):
    """Item vectors are the unit vectors of their content, transformed (`numeric`) or raw (`embedding_style`).

    By content alone they are those backwards, by behaviour alone the negative ones, 0 for cold items.
    """

    def vector(self, numbers):
        return tf.math.l2_normalize(numbers, 1)

    def views(self, item_id, numbers):
        vector = self.vector(numbers)
        is_cold = tf.reduce_any(item_id[:, None] == tf.constant([ITEM_IDS[row] for row in COLD]), 1)
        return {"vector": vector, "content": vector[:, ::-1], "behaviour": tf.where(is_cold[:, None], 0.0, -vector)}

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.string, "item_id"),
            tf.TensorSpec([None, tiny.DIM], tf.float32, "numeric"),
        ]
    )
    def item_tower(self, item_id, numeric):
        return self.views(item_id, numeric)

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.string, "item_id"),
            tf.TensorSpec([None, None], tf.float32, "embedding_style"),
        ]
    )
    def encode_item(self, item_id, embedding_style):
        numbers = tf.where(tf.math.is_nan(embedding_style), 0.0, embedding_style)
        return self.views(item_id, tf.ensure_shape(numbers, [None, tiny.DIM]))


class BadModel(GoodModel):
    """Content scrambled beyond use."""

    def vector(self, numbers):
        return tf.math.l2_normalize(tf.math.cos(numbers * 1e4), 1)


class BrokenModel(GoodModel):
    """Two items come out as NaN."""

    def vector(self, numbers):
        return tf.where(numbers[:, 1:2] == content()[3, 1], np.nan, tf.math.l2_normalize(numbers, 1))


def save_model(model, folder):
    names = ("user_tower", "explain_user", "learned_similarity", "item_tower", "encode_item")
    path = str(Path(folder, "Format-Serving"))
    tf.saved_model.save(model, path, signatures={name: getattr(model, name).get_concrete_function() for name in names})
    return artifact(standard_artifacts.Model, folder)


def artifact(kind, folder):
    made = kind()
    made.uri = str(folder)
    Path(folder).mkdir(parents=True, exist_ok=True)
    return made


def examples(folder, splits):
    """splits: name -> list of {feature: list of str, int or float}."""
    made = artifact(standard_artifacts.Examples, folder)
    made.split_names = artifact_utils.encode_split_names(list(splits))
    for split, rows in splits.items():
        path = Path(folder, f"Split-{split}", "data-00000-of-00001.gz")
        path.parent.mkdir(parents=True)
        with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
            for row in rows:
                writer.write(
                    tf.train.Example(
                        features=tf.train.Features(feature={k: feature(v) for k, v in row.items()})
                    ).SerializeToString()
                )
    return made


def feature(values):
    first = values[0] if len(values) else 0
    if isinstance(first, str):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value.encode() for value in values]))
    if isinstance(first, float):
        return tf.train.Feature(float_list=tf.train.FloatList(value=values))
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))


def items(folder):
    """Item examples: every third without a domain, the odd ones without a date, the others from before the first
    event."""
    rows = []
    for row, (item_id, numbers) in enumerate(zip(ITEM_IDS, content())):
        one = {"item_id": [item_id], "embedding_style": [float(number) for number in numbers]}
        if row % 3:
            one["domain"] = [("music", "film")[row % 2]]
        if row % 2 == 0:
            one["published_at"] = [row]
        rows.append(one)
    return examples(folder, {"train": rows})


def transformed(folder):
    rows = [
        {"item_id": [item_id], "numeric": [float(n) for n in numbers]} for item_id, numbers in zip(ITEM_IDS, content())
    ]
    return examples(folder, {"train": rows[::-1]})


def sequence(user, positions, num_history):
    """A play every ten seconds, all of them positive."""
    return {
        "user_id": [f"u{user:02}"],
        "item_ids": [ITEM_IDS[position] for position in positions],
        "events": ["play"] * len(positions),
        "timestamps_s": [100 + 10 * step for step in range(len(positions))],
        "values": [float("nan")] * len(positions),
        "weights": [1.0] * len(positions),
        "positives": [1] * len(positions),
        "num_history": [num_history],
        "ordered": [1],
    }


def sequences(folder, seed=0):
    """Six of the own group in training, two in eval, three in test, of which one is cold; the last two people are new
    in test.
    """
    generator = np.random.default_rng(seed)
    splits = {"train": [], "eval": [], "test": []}
    for user in range(NUM_USERS):
        own = [row for row in range(NUM_ITEMS) if group_of(row) == group_of(user)]
        warm = generator.permutation([row for row in own if row not in COLD]).tolist()
        taken = [*warm[:10], generator.choice([row for row in own if row in COLD])]
        if user >= NUM_USERS - 2:
            splits["test"].append(sequence(user, taken[8:], 0))
            continue
        splits["train"].append(sequence(user, taken[:6], 0))
        splits["eval"].append(sequence(user, taken[:8], 6))
        splits["test"].append(sequence(user, taken, 8))
    return examples(folder, splits)
