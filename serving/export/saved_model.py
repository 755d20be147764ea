"""Exports the recommender as SavedModels, each with recorded requests; `serving.export.validation` replays them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import graph_pb2, node_def_pb2
from tensorflow.core.protobuf import saved_model_pb2

from components.contract import BOTH, VIEWS
from serving.export import replay
from serving.index import SAVE_OPTIONS
from serving.online.recommender import RecommenderModel

_PYTHON_OPS = {"PyFunc", "PyFuncStateless", "EagerPyFunc"}  # exist only in the process that made them
_LOWERED = "_lower_using_switch_merge"  # of an If or While: spread out into the graph around it
LIMITS = ("max_per_creator", "max_item_age_s", "time_s")
DEFAULTS: dict[str, dict[str, np.ndarray]] = {
    "similar": {"by": np.array([b""])},
    "add_items": {"content": np.zeros((1, 0), np.float32), "published_at_s": np.zeros(1, np.int64)},
}


class MissingPackageError(ImportError):
    """A SavedModel needs ops of a package that cannot be imported."""


class ExportError(RuntimeError):
    """A SavedModel that must not be published."""


def export_servables(
    recommenders: Mapping[str, RecommenderModel],
    people: Sequence[str],
    items: Sequence[str],
    raw_items: Mapping[str, tf.Tensor],
) -> dict[str, int]:
    """Save recommenders with recorded requests and the answers of this process.

    recommenders: path -> what to save there. people, items: some ids known to them, used in the recorded requests.
    raw_items: a batch as the signature `encode_item` takes it.
    Returns the number of recorded requests by path.
    Raises ExportError where a SavedModel holds a Python op.
    """
    counts = {}
    for path, recommender in recommenders.items():
        signatures = save(recommender, path)
        if python_ops := ops_of(path) & _PYTHON_OPS:
            raise ExportError(f"{path}: holds {', '.join(sorted(python_ops))}, which no other process can run")
        requests = requests_for(people, items, raw_items, recommender.num_objectives)
        counts[path] = replay.record(path, replay.in_process(signatures), requests)
    return counts


def save(recommender: RecommenderModel, path: str) -> dict[str, tf.types.experimental.ConcreteFunction]:
    """Write the SavedModel of a recommender and return the signatures that it was written with."""
    signatures = recommender.signatures()
    tf.saved_model.save(recommender.state, path, signatures=signatures, options=SAVE_OPTIONS)
    _finish(path)
    return signatures


def _finish(path: str) -> None:
    """Give DEFAULTS to the signatures at `path`: a server fills them in for clients that do not know the input. Keep
    branches and loops as calls of functions: lowered into one flat graph, each run visits the ops of every branch."""
    file = f"{path}/saved_model.pb"
    with tf.io.gfile.GFile(file, "rb") as stream:
        model = saved_model_pb2.SavedModel.FromString(stream.read())
    for signature, inputs in DEFAULTS.items():
        for name, value in inputs.items():
            model.meta_graphs[0].signature_def[signature].defaults[name].CopyFrom(tf.make_tensor_proto(value))
    for node in _nodes(model.meta_graphs[0].graph_def):
        if _LOWERED in node.attr:
            node.attr[_LOWERED].b = False
    with tf.io.gfile.GFile(file, "wb") as stream:
        stream.write(model.SerializeToString())


def load(path: str):
    """Load a SavedModel of ours, with the packages that its ops need.

    Raises MissingPackageError, one line naming the package, where ScaNN is needed and missing.
    """
    if needs_scann(path):
        try:
            import scann  # noqa: F401 (registers its ops)
        except ImportError as error:
            raise MissingPackageError(
                f"{path} needs the package scann, which cannot be imported ({error}): "
                "install scann==1.3.2 or load the exact export"
            ) from error
    return tf.saved_model.load(path)


def needs_scann(path: str) -> bool:
    """Whether the SavedModel at `path` uses ScaNN's ops."""
    return any(name.startswith("Scann>") for name in ops_of(path))


def ops_of(path: str) -> set[str]:
    """The names of all ops of a SavedModel, those inside functions included."""
    with tf.io.gfile.GFile(f"{path}/saved_model.pb", "rb") as file:
        graph = saved_model_pb2.SavedModel.FromString(file.read()).meta_graphs[0].graph_def
    functions = {function.signature.name for function in graph.library.function}
    return {node.op for node in _nodes(graph)} - functions


def _nodes(graph: graph_pb2.GraphDef) -> Iterator[node_def_pb2.NodeDef]:
    """All nodes, those inside functions included."""
    yield from graph.node
    for function in graph.library.function:
        yield from function.node_def


def requests_for(
    people: Sequence[str], items: Sequence[str], raw_items: Mapping[str, tf.Tensor], num_objectives: int
) -> Iterator[tuple[str, Mapping[str, tf.Tensor]]]:
    """Requests for every signature that changes nothing: people known, new, and with a history given; a batch, and the
    first of it alone.

    people: some known user ids. items: some item ids, at least one. raw_items: items as `encode_item` takes them.
    """
    users = [*people[:3], "", "somebody new", "somebody new"]
    batch = len(users)
    history = {
        "user_id": tf.constant(users),
        "history_ids": tf.constant([["", ""]] * (batch - 1) + [[items[0], items[-1]]]),
        "history_events": tf.fill([batch, 2], ""),
        "history_age_s": tf.zeros([batch, 2]),
    }
    k = tf.range(batch, dtype=tf.int32) + 10
    page = history | {
        "exclude_ids": tf.fill([batch, 1], items[0]),
        "allow_ids": tf.fill([batch, 1], ""),
        "domain": tf.fill([batch], ""),
        "k": k,
        "objective_weights": tf.zeros([batch, num_objectives]),
        "diversity": tf.constant([0.0, 0.3] * (batch // 2) + [0.0] * (batch % 2)),
        "max_per_creator": tf.constant([0, 2] * (batch // 2) + [0] * (batch % 2)),
        "max_item_age_s": tf.zeros([batch], tf.int64),
        "explore_share": tf.constant([0.0, 0.2] * (batch // 2) + [0.0] * (batch % 2)),
        "seed": tf.range(batch),
        "time_s": tf.zeros([batch], tf.int64),
    }
    batches: dict[str, Mapping[str, tf.Tensor]] = {
        "serving_default": page,
        "recommend": page,
        "recommend_user": {"user_id": history["user_id"], "k": k},
        "similar": {
            "item_id": tf.constant([*items, "no such item"][:batch]),
            "by": tf.constant(["", *VIEWS, *[BOTH] * batch][: min(len(items) + 1, batch)]),
        }
        | {name: page[name][: len(items) + 1] for name in ("exclude_ids", "allow_ids", "domain", "k", *LIMITS)},
        "explain": history
        | {name: page[name] for name in ("objective_weights", "time_s")}
        | {"item_ids": tf.constant([[*items]] * batch)},
        "encode_user": history,
        "encode_item": raw_items,
    }
    for signature, inputs in batches.items():
        yield signature, inputs
        yield signature, {name: values[:1] for name, values in inputs.items()}
