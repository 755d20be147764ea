"""A hand-made retrieval model with the real signatures, and the parts of a recommender over it, small enough to check with a pencil."""

import numpy as np
import tensorflow as tf

from serving import index as index_lib
from serving.config import IndexConfig, ServingConfig
from serving.recommender import Catalogue, Histories, Recommender

DIM = 4


class TinyModel(tf.Module):
    """user_tower: the sum of the history's vectors, twice for "like", over 1 + age. encode_item: the unit vector of its numbers."""

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.string, "user_id"),
            tf.TensorSpec([None, None, DIM], tf.float32, "history_vectors"),
            tf.TensorSpec([None, None], tf.string, "history_events"),
            tf.TensorSpec([None, None], tf.float32, "history_age_s"),
        ]
    )
    def user_tower(self, user_id, history_vectors, history_events, history_age_s):
        del user_id
        weights = tf.where(history_events == "like", 2.0, 1.0) / (1 + history_age_s)
        return {"vector": tf.reduce_sum(history_vectors * weights[:, :, None], 1)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "item_id"), tf.TensorSpec([None, DIM], tf.float32, "numeric")])
    def encode_item(self, item_id, numeric):
        return {"vector": tf.math.l2_normalize(numeric, 1)}


def save_model(path):
    model = TinyModel()
    signatures = {name: getattr(model, name).get_concrete_function() for name in ("user_tower", "encode_item")}
    signatures["item_tower"] = signatures["encode_item"]
    tf.saved_model.save(model, str(path), signatures=signatures)
    return str(path)


def vectors_of(num_items, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(num_items, DIM)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def histories_of(rows, event_names=("play", "like")):
    """rows: user id -> [(position, event number, age)]."""
    flat = [step for steps in rows.values() for step in steps]
    items, events, ages = (np.array([step[part] for step in flat]) for part in range(3)) if flat else (np.zeros(0),) * 3
    splits = np.concatenate([[0], np.cumsum([len(steps) for steps in rows.values()], dtype=int)])
    return Histories(list(rows), splits, items, events, ages, event_names)


def recommender(model, kind="exact", num_items=30, rows=None, history_length=5, candidates=10, seed=0):
    """Item i is in domain music, film or none by i % 3; the cold-start order is the last item first."""
    vectors = vectors_of(num_items, seed)
    item_ids = [f"i{row}" for row in range(num_items)]
    index = index_lib.build_index(vectors, item_ids, IndexConfig(kind=kind, candidates=candidates))
    catalogue = Catalogue(item_ids, [("music", "film", "")[row % 3] for row in range(num_items)], np.arange(num_items) / num_items)
    rows = {"known": [(0, 0, 0.0), (3, 1, 0.0)], "other": [(1, 0, 0.0)]} if rows is None else rows
    return Recommender(model, index, catalogue, histories_of(rows), ServingConfig(history_length=history_length))


def request(user_id=("",), history=((),), events=None, age_s=None, exclude=((),), domain=None, k=(5,)):
    """A request with its documented defaults, ragged rows padded on the right."""
    batch = len(user_id)
    width = max(map(len, history))
    pad = lambda rows, fill: [[*row, *[fill] * (max(map(len, rows)) - len(row))] for row in rows]  # noqa: E731
    shape = [batch, width]
    return {
        "user_id": tf.constant(list(user_id)),
        "history_ids": tf.reshape(tf.constant(pad(history, ""), tf.string), shape),
        "history_events": tf.fill(shape, "") if events is None else tf.constant(pad(events, "")),
        "history_age_s": tf.zeros(shape) if age_s is None else tf.constant(pad(age_s, 0.0)),
        "exclude_ids": tf.reshape(tf.constant(pad(exclude, ""), tf.string), [batch, max(map(len, exclude))]),
        "domain": tf.constant(list(domain or [""] * batch)),
        "k": tf.constant(list(k), tf.int32),
    }


def answers(output):
    """Per request, the list of ids and of scores, without the padding."""
    return [
        ([item.decode() for item in ids[:count]], scores[:count])
        for ids, scores, count in zip(output["item_ids"].numpy(), output["scores"].numpy(), output["count"].numpy())
    ]
