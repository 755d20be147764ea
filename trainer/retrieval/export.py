"""Exports the trained towers as a SavedModel with named inputs and outputs (docs/artifacts.md), of core TensorFlow
ops only.

B items or users of a request, L interactions of a history, C candidates, M items, A parts of a vector, D embedding_dim.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from components.config import DataConfig
from components.contract import Feature, item_features
from components.datasets.interactions import FIRST_EVENT, PADDING, UNKNOWN_EVENT
from trainer.data import ItemTable
from trainer.explain.attribution import contributions, part_names
from trainer.explain.integrated_gradients import history_parts
from trainer.keras import tf
from trainer.retrieval.cross_attention import CrossAttention
from trainer.retrieval.model import Retrieval
from trainer.saved_state import captured_state, variables_tree
from trainer.towers.user_tower import rows_of

_traced = partial(tf.function, autograph=False)  # no branch here is one by Python's own statements
TOLERANCE = 1e-5  # between the model in memory and the one read back
PARTS_TOLERANCE = 1e-4  # between a vector and the sum of its parts


class Towers(tf.Module):
    """The exported module: both towers, the learned similarity, the events' codes, and the transform graph if any."""

    def __init__(
        self,
        model: Retrieval,
        attention: CrossAttention,
        events: Sequence[str],
        data: DataConfig,
        transform_graph: str | None,
        frame: np.ndarray | None = None,
    ):
        """frame: float32 [D, D], orthogonal: what the towers' vectors are multiplied by in all that goes in or out;
        they stay as they are where None.
        """
        super().__init__()
        self.frame = None if frame is None else tf.constant(frame, tf.float32)
        self.item_tower, self.user_tower, self.attention = model.item_tower, model.user_tower, attention
        codes = range(FIRST_EVENT, FIRST_EVENT + len(events))
        self.event_codes = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(list(events), tf.constant(list(codes), tf.int32)), UNKNOWN_EVENT
        )
        self._data = data
        item = [{feature.name: _tensor_spec(feature) for feature in item_features(data)}]
        # Each is traced once, and called by all signatures that need it.
        self._encode = _traced(self._encode_item, item)
        self.item_parts = _traced(self._item_parts, item)
        self.transform: Any = None
        self._tag_names: Any = None
        if transform_graph is not None:
            import tensorflow_transform as tft  # noqa: PLC0415  (seconds to import, needed with a transform graph only)

            output = tft.TFTransformOutput(transform_graph)
            self.transform, self._raw_spec = output.transform_features_layer(), output.raw_feature_spec()
            if model.item_tower.tag_head is not None:
                names = ["", "", *(name.decode() for name in output.vocabulary_by_name("tags"))]
                self._tag_names = tf.constant([names[tag] for tag in model.item_tower.tag_head.tag_ids.numpy()])

    def signatures(self, embedding_dim: int) -> dict[str, tf.types.experimental.ConcreteFunction]:
        """The served signatures by name. embedding_dim: D."""
        item = {feature.name: _tensor_spec(feature) for feature in item_features(self._data)}
        history = {
            "user_id": tf.TensorSpec([None], tf.string, "user_id"),
            "history_vectors": tf.TensorSpec([None, None, embedding_dim], tf.float32, "history_vectors"),
            "history_events": tf.TensorSpec([None, None], tf.string, "history_events"),
            "history_age_s": tf.TensorSpec([None, None], tf.float32, "history_age_s"),
        }
        vectors = {
            name: tf.TensorSpec([None, None, embedding_dim], tf.float32, name) for name in ("candidates", "history")
        }
        requests: dict[str, tuple[Callable[..., Any], Mapping[str, tf.TensorSpec]]] = {
            "item_tower": (self.encode_item, item),
            "user_tower": (self.encode_user, history),
            "explain_user": (
                self.explain_user,
                {**history, "item_vectors": tf.TensorSpec([None, None, embedding_dim], tf.float32, "item_vectors")},
            ),
            "learned_similarity": (
                self.learned_similarity,
                {"query": tf.TensorSpec([None, embedding_dim], tf.float32, "query"), **vectors},
            ),
        }
        if self.transform is not None:
            raw = {name: raw_tensor_spec(name, spec) for name, spec in self._raw_spec.items()}
            self._transformed = _traced(self._transform_raw, [raw])
            if self._tag_names is not None:
                requests["tags"] = (self.tell_tags, item)
            requests["encode_item"] = (self.encode_raw_item, raw)
            requests["item_contributions"] = (self.explain_raw_item, raw)
        return {name: _traced(function).get_concrete_function(**specs) for name, (function, specs) in requests.items()}

    def state(self, functions: Iterable[Any]) -> tf.Module:
        """What a SavedModel of the signatures holds: the variables of all layers, and what the functions read besides.

        `trainer.retrieval.refit` reads the variables by their names.
        """
        root, found = tf.Module(), dict[int, Any]()
        root.item_tower, root.user_tower, root.attention = (
            variables_tree(layers, found) for layers in (self.item_tower, self.user_tower, self.attention)
        )
        root.tables = [node for node in captured_state(self, functions) if not isinstance(node, tf.Variable)]
        return root

    def encode_item(self, **features):
        """The features of transformed items -> `vector`, `content` and `behaviour`, float32 [B, D] each."""
        return self._encode(features)

    def tell_tags(self, **features):
        """Transformed items, own tags hidden -> `tags` [B, tags], likeliest first, and their `probabilities`."""
        told = self.item_tower.tags(features)
        probabilities, order = tf.math.top_k(told, tf.shape(told)[1])
        return {"tags": tf.gather(self._tag_names, order), "probabilities": probabilities}

    def encode_user(self, user_id, history_vectors, history_events, history_age_s):
        """A history of item vectors -> `vector` float32 [B, D]."""
        history = self._history(user_id, history_vectors, history_events, history_age_s)
        return {"vector": self._outward(self.user_tower(history, training=False))}

    def explain_user(self, user_id, history_vectors, history_events, history_age_s, item_vectors):
        """History and items [B, M, D] -> what interactions add to the scores, `parts` [B, M, L], and `rest` [B, M]."""
        history = self._history(user_id, history_vectors, history_events, history_age_s)
        parts, rest = history_parts(self.user_tower, history, self._inward(item_vectors))
        return {"parts": parts, "rest": rest}

    def learned_similarity(self, query, candidates, history):
        """User vectors [B, D], candidates [B, C, D], recent items [B, L, D], 0 where padded -> `similarity` [B, C]."""
        return {"similarity": self.attention(query, candidates, history)}

    def _history(self, user_id, history_vectors, history_events, history_age_s):
        events = tf.where(tf.reduce_any(history_vectors != 0, -1), self.event_codes.lookup(history_events), PADDING)
        users = rows_of(self.user_tower, user_id)
        return {"vectors": self._inward(history_vectors), "events": events, "age_s": history_age_s, "users": users}

    def encode_raw_item(self, **raw):
        """The raw features of items, an absent value as its default (`raw_tensor_spec`) -> as `encode_item`."""
        return self._encode(self._transformed(raw))

    def explain_raw_item(self, **raw):
        """As `encode_raw_item` -> `parts` [B, A, D], which add up to the vector, and their `names` [B, A]."""
        parts = self.item_parts(self._transformed(raw))
        return {"parts": parts, "names": tf.repeat(tf.constant([part_names(self.item_tower)]), tf.shape(parts)[0], 0)}

    def _encode_item(self, features):
        views = self.item_tower.views(features)
        return views | {"vector": self._outward(views["vector"])}

    def _item_parts(self, features):
        """What adds up to the vectors of transformed items: float32 [B, A, D], by `trainer.explain.attribution`."""
        return self._outward(contributions(self.item_tower, features))

    # By tensordot: of an einsum with an ellipsis TensorFlow 2.16 (oneDNN, several threads) gets rows of a matrix wrong.
    def _outward(self, vectors):
        return vectors if self.frame is None else tf.tensordot(vectors, self.frame, 1)

    def _inward(self, vectors):
        return vectors if self.frame is None else tf.tensordot(vectors, tf.transpose(self.frame), 1)

    def _transform_raw(self, raw):
        # The transform layer tells no ranks, without which TensorFlow's optimiser of graphs warns at every load.
        shapes = {feature.name: _tensor_spec(feature).shape for feature in item_features(self._data)}
        found = self.transform({name: as_parsed(raw[name], spec) for name, spec in self._raw_spec.items()})
        return {name: tf.ensure_shape(value, shapes.get(name)) for name, value in found.items()}


def raw_tensor_spec(name: str, spec) -> tf.TensorSpec:
    """The input of `encode_item` for a raw feature: [B, n] where its length is free, else [B, *shape].

    A value that is absent is "", NaN or -1 (string, float, integer).
    """
    shape = [None, None] if isinstance(spec, tf.io.VarLenFeature) else [None, *spec.shape]
    return tf.TensorSpec(shape, spec.dtype, name)


def as_parsed(value, spec):
    """A dense raw feature as `tf.io.parse_example` gives it: sparse, without absent values, if its length is free."""
    if not isinstance(spec, tf.io.VarLenFeature):
        return value
    present = ~tf.math.is_nan(value) if value.dtype.is_floating else value != ("" if value.dtype == tf.string else -1)
    rank = tf.cumsum(tf.cast(present, tf.int64), 1, exclusive=True)  # values move up, so that a row's come first
    at = tf.where(present)
    indices = tf.stack([at[:, 0], tf.gather_nd(rank, at)], 1)
    return tf.SparseTensor(indices, tf.boolean_mask(value, present), tf.shape(value, tf.int64))


def export(
    model: Retrieval,
    attention: CrossAttention,
    table: ItemTable,
    events: Sequence[str],
    data: DataConfig,
    folder: str,
    transform_graph: str | None = None,
    frame: np.ndarray | None = None,
) -> None:
    """Writes the SavedModel, reads it back and replays some items and users.

    folder: where it goes, local or remote.
    events: names of the event rules, in their order.
    transform_graph: folder of the transform that made the table; None where there is none.
    frame: as `Towers` takes it.
    Raises RuntimeError where what was read back answers differently by more than TOLERANCE.
    """
    towers = Towers(model, attention, events, data, transform_graph, frame)
    traced = towers.signatures(model.config.embedding_dim)
    tf.saved_model.save(towers.state(traced.values()), folder, signatures=traced)
    restored = tf.saved_model.load(folder).signatures
    rows = np.linspace(0, len(table) - 1, min(len(table), 8)).astype(int)
    items = item_request(table, rows, data)
    vectors = _replayed("item_tower", items, traced, restored)["vector"]
    _compare(towers.item_parts(items).numpy().sum(1), vectors, "item_contributions", PARTS_TOLERANCE)
    _replayed("user_tower", user_request(vectors, events), traced, restored)
    alike = {
        "query": tf.constant(vectors),
        "candidates": tf.constant(vectors)[:, None],
        "history": tf.constant(vectors[::-1])[:, None],
    }
    _replayed("learned_similarity", alike, traced, restored)


def _replayed(
    signature: str, request: Mapping[str, tf.Tensor], traced: Mapping[str, Any], restored: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """The outputs of a signature read back; raises RuntimeError where they are not those of what was saved."""
    outputs = {name: value.numpy() for name, value in restored[signature](**request).items()}
    for name, value in traced[signature](**request).items():
        _compare(outputs[name], value.numpy(), signature)
    return outputs


def item_request(table: ItemTable, rows: np.ndarray, data: DataConfig) -> dict[str, tf.Tensor]:
    """Some items of a table as the signature `item_tower` takes them. rows: int [B]."""
    arrays = table.take(rows, [feature.name for feature in item_features(data) if feature.name != "item_id"])
    request = {name: tf.constant(_bytes(array)) for name, array in arrays.items()}
    return {**request, "item_id": tf.constant([table.item_ids[row] for row in rows])}


def user_request(vectors: np.ndarray, events: Sequence[str]) -> Mapping[str, tf.Tensor]:
    """Two users as `user_tower` takes them: one with a history of item vectors float [L, D], one without."""
    history = np.stack([vectors, np.zeros_like(vectors)])
    names = np.array([[events[row % len(events)] for row in range(len(vectors))], [""] * len(vectors)])
    return {
        "user_id": tf.constant(["someone", "nobody"]),
        "history_vectors": tf.constant(history),
        "history_events": tf.constant(names),
        "history_age_s": tf.zeros(history.shape[:2]),
    }


def _compare(got: np.ndarray, expected: np.ndarray, signature: str, tolerance: float = TOLERANCE) -> None:
    difference = float(np.abs(got - expected).max(initial=0))
    if not difference <= tolerance:
        raise RuntimeError(f"{signature} of the exported model differs from the trained one by {difference:.2g}")


def _tensor_spec(feature: Feature) -> tf.TensorSpec:
    if feature.dtype == "uint8":
        return tf.TensorSpec([None], tf.string, feature.name)
    return tf.TensorSpec([None, *feature.shape], tf.as_dtype(feature.dtype), feature.name)


def _bytes(array: np.ndarray) -> np.ndarray:
    if array.dtype != np.uint8:
        return array
    return np.array([row.tobytes() for row in array], object)
