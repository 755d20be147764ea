"""A hand-made retrieval model with the real signatures, and the parts of a recommender over it, small enough to check
with a pencil.
"""

from contextlib import contextmanager

import numpy as np
import tensorflow as tf

from components.datasets.interactions import Interactions
from serving.config import IndexConfig, ServingConfig
from serving.offline.build_index import build_vector_index
from serving.online.catalog import IndexedItems, LiveCatalog
from serving.online.histories import Histories
from serving.online.recommender import RecommenderModel

DIM = 4
PERSON = [
    tf.TensorSpec([None], tf.string, "user_id"),
    tf.TensorSpec([None, None, DIM], tf.float32, "history_vectors"),
    tf.TensorSpec([None, None], tf.string, "history_events"),
    tf.TensorSpec([None, None], tf.float32, "history_age_s"),
]


class TinyModel(tf.Module):
    """user_tower: the sum of the history's vectors, twice for "like", over 1 + age. encode_item: the unit vector of its
    numbers.
    learned_similarity: the dot product with the query and half the sum of the history.
    """

    @tf.function(input_signature=PERSON)
    def user_tower(self, user_id, history_vectors, history_events, history_age_s):
        del user_id
        weights = tf.where(history_events == "like", 2.0, 1.0) / (1 + history_age_s)
        return {"vector": tf.reduce_sum(history_vectors * weights[:, :, None], 1)}

    @tf.function(input_signature=[*PERSON, tf.TensorSpec([None, None, DIM], tf.float32, "item_vectors")])
    def explain_user(self, user_id, history_vectors, history_events, history_age_s, item_vectors):
        del user_id
        weights = tf.where(history_events == "like", 2.0, 1.0) / (1 + history_age_s)
        parts = tf.einsum("bld,bmd->bml", history_vectors * weights[:, :, None], item_vectors)
        return {"parts": parts, "rest": tf.zeros_like(parts[:, :, 0])}

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, DIM], tf.float32, "query"),
            *(tf.TensorSpec([None, None, DIM], tf.float32, name) for name in ("candidates", "history")),
        ]
    )
    def learned_similarity(self, query, candidates, history):
        return {"similarity": tf.einsum("bcd,bd->bc", candidates, query + 0.5 * tf.reduce_sum(history, 1))}

    @tf.function(
        input_signature=[tf.TensorSpec([None], tf.string, "item_id"), tf.TensorSpec([None, DIM], tf.float32, "numeric")]
    )
    def encode_item(self, item_id, numeric):
        return {"vector": tf.math.l2_normalize(numeric, 1)}


def save_model(path, model=None):
    model = model or TinyModel()
    names = ("user_tower", "explain_user", "learned_similarity", "encode_item")
    signatures = {name: getattr(model, name).get_concrete_function() for name in names}
    signatures["item_tower"] = signatures["encode_item"]
    tf.saved_model.save(model, str(path), signatures=signatures)
    return str(path)


def vectors_of(num_items, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(num_items, DIM)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def from_mean(vectors, known=None):
    """Unit directions from the mean of known vectors, themselves where none are given."""
    apart = vectors - (vectors if known is None else known).mean(0)
    return apart / np.linalg.norm(apart, axis=1, keepdims=True)


def histories_of(rows, event_names=("play", "like"), history_length=5):
    """rows: user id -> [(position, event number, age)]."""
    flat = [step for steps in rows.values() for step in steps]
    items, events, ages = (np.array([step[part] for step in flat]) for part in range(3)) if flat else (np.zeros(0),) * 3
    splits = np.concatenate([[0], np.cumsum([len(steps) for steps in rows.values()], dtype=int)])
    return Histories(list(rows), splits, items, events, ages, event_names, history_length)


def interactions_of(*users):
    """Likes of users: each (items, times in seconds, number of history)."""
    items, times_s = ([step for user in users for step in user[place]] for place in (0, 1))
    return Interactions(
        user_ids=[f"u{number}" for number in range(len(users))],
        splits=np.cumsum([0, *(len(user[0]) for user in users)]),
        items=np.array(items, np.int32),
        events=np.full(len(items), 2, np.int32),
        event_names=("like",),
        times_s=np.array(times_s, np.float64),
        weights=np.ones(len(items), np.float32),
        positives=np.ones(len(items), bool),
        values=np.full(len(items), np.nan, np.float32),
        num_history=np.array([user[2] for user in users], np.int64),
        ordered=np.ones(len(users), bool),
    )


@contextmanager
def unchanged(made):
    """Undoes afterwards what a test changes in the catalogue of a recommender, so that tests can share it."""
    added, variables = made._catalog._added, made.state.variables
    values, (names, rows) = [variable.numpy() for variable in variables], added.export()
    yield made
    for variable, value in zip(variables, values):
        variable.assign(value)
    added.remove(added.export()[0])
    added.insert(names, rows)


def recommender(
    model,
    kind="exact",
    num_items=30,
    rows=None,
    history_length=5,
    candidates=10,
    seed=0,
    insert_capacity=0,
    withdrawn=(),
    views=None,
    **settings,
):
    """Item i is in domain music, film or none by i % 3; the cold-start order is the last item first. views: further
    columns of the items, by name."""
    vectors = vectors_of(num_items, seed)
    item_ids = [f"i{row}" for row in range(num_items)]
    index = build_vector_index(vectors, item_ids, IndexConfig(kind=kind, candidates=candidates))
    domains = [("music", "film", "")[row % 3] for row in range(num_items)]
    items = IndexedItems(item_ids, domains, np.arange(num_items) / num_items, withdrawn=withdrawn, **(views or {}))
    catalog = LiveCatalog(index, items, insert_capacity)
    rows = {"known": [(0, 0, 0.0), (3, 1, 0.0)], "other": [(1, 0, 0.0)]} if rows is None else rows
    return RecommenderModel(
        model, catalog, histories_of(rows, history_length=history_length), ServingConfig(**settings)
    )


def request(user_id=("",), history=((),), events=None, age_s=None, exclude=((),), domain=None, k=(5,), **others):
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
    } | wishes(batch, **others)


def wishes(batch, allow=None, weights=None, diversity=None, cap=None, explore=None, seed=None, time_s=None, age=None):
    """The inputs beside those of the rules, at the values that say nothing where none are given."""
    allow = [[]] * batch if allow is None else allow
    width = max(map(len, allow))
    return {
        "allow_ids": tf.reshape(
            tf.constant([[*row, *[""] * (width - len(row))] for row in allow], tf.string), [batch, width]
        ),
        "objective_weights": tf.zeros([batch, 0]) if weights is None else tf.constant(weights, tf.float32),
        "diversity": tf.constant(diversity or [0.0] * batch, tf.float32),
        "max_per_creator": tf.constant(cap or [0] * batch, tf.int32),
        "max_item_age_s": tf.constant(age or [0] * batch, tf.int64),
        "explore_share": tf.constant(explore or [0.0] * batch, tf.float32),
        "seed": tf.constant(seed or [0] * batch, tf.int32),
        "time_s": tf.constant(time_s or [0] * batch, tf.int64),
    }


def answers(output):
    """Per request, the list of ids and of scores, without the padding."""
    return [
        ([item.decode() for item in ids[:count]], scores[:count])
        for ids, scores, count in zip(output["item_ids"].numpy(), output["scores"].numpy(), output["count"].numpy())
    ]


def similar_to(*item_ids, k, by="", exclude=((),), domain=None, **others):
    """A request for `similar`, with its documented defaults. by: of all, or of each."""
    whole = request(("",) * len(item_ids), ((),) * len(item_ids), exclude=[*exclude] * len(item_ids),
                    domain=domain, k=[k] * len(item_ids), **others)  # fmt: skip
    names = ("exclude_ids", "allow_ids", "domain", "k", "max_per_creator", "max_item_age_s", "time_s")
    asked = {"item_id": tf.constant(list(item_ids)), "by": tf.constant([by] if isinstance(by, str) else list(by))}
    return asked | {name: whole[name] for name in names}
