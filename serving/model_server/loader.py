"""Loads one version of a model: the packages of its custom ops, the graph, its signatures."""

from __future__ import annotations

import importlib
import logging
import threading
from dataclasses import dataclass
from typing import Any

import tensorflow as tf
from google.protobuf import message
from grpc import StatusCode
from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef, SignatureDef
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel
from tensorflow.python.framework import op_def_registry

from serving.model_server.batching import Batcher
from serving.model_server.config import ServableOptions
from serving.model_server.errors import ServingError, failed_precondition, from_code, not_found
from serving.model_server.signatures import DEFAULT_NAME, Signature

log = logging.getLogger(__name__)

# Importing the package registers its ops. TensorFlow Text's have no common prefix, so it is asked for whatever is left.
_OP_PACKAGES = {
    "Scann>": "scann",
    "IO>": "tensorflow_io",
    "SimpleML": "tensorflow_decision_forests",
    "": "tensorflow_text",
}


@dataclass(frozen=True)
class LoadedModel:
    """A version in memory, ready to answer."""

    name: str
    version: int
    signature_defs: dict[str, SignatureDef]  # as saved, for metadata
    signatures: dict[str, Signature]  # those that can be called
    root: Any  # the loaded object: owns the variables, tables and assets
    options: ServableOptions = ServableOptions()
    is_one_of_many: bool = False  # other processes serve it too, and would not see a change made here

    def signature(self, name: str) -> Signature:
        """The signature called `name`; the empty name is the default one.

        Raises ServingError (FAILED_PRECONDITION) naming those there are, or where it would change this copy of many.
        """
        found = self.signatures.get(name or DEFAULT_NAME)
        if found is None:
            raise failed_precondition(
                f"Serving signature key {name or DEFAULT_NAME!r} not found in model {self.name!r} "
                f"version {self.version}; it has: {sorted(self.signatures)}"
            )
        if self.is_one_of_many and found.changes_state:
            raise failed_precondition(
                f"{found.name!r} would change one of several processes; all read warm-up requests"
            )
        return found


def load_model(
    name: str,
    version: int,
    path: str,
    batcher: Batcher | None = None,
    options: ServableOptions = ServableOptions(),  # noqa: B008  (frozen)
) -> LoadedModel:
    """The SavedModel in folder `path`, all of it or an error: a copy still under way raises.

    batcher: of its signatures' requests; None: each runs alone.
    Raises ServingError with what is missing or broken: NOT_FOUND where there is no SavedModel (yet),
    FAILED_PRECONDITION where a custom op's package cannot be imported, TensorFlow's own code where it fails.
    """
    try:
        graph = _read_meta_graph(path, options.tags)
        _import_op_packages(graph)
        root = tf.saved_model.load(path, tags=list(options.tags))
    except tf.errors.OpError as error:
        raise from_code(error.error_code, f"{path}: {error.message}") from error
    except (
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        OSError,
    ) as error:  # the loader's answers to a broken graph
        raise failed_precondition(f"{path}: {type(error).__name__}: {error}") from error
    definitions = dict(graph.signature_def.items())
    signatures, change_lock = {}, threading.Lock()
    for key, function in root.signatures.items():
        try:
            signatures[key] = Signature(key, definitions[key], function, change_lock, batcher)
        except ServingError as error:
            log.warning("model %r version %d: %s; it is left out", name, version, error.message)
    return LoadedModel(name, version, definitions, signatures, root, options)


def _read_meta_graph(path: str, tags: tuple[str, ...]) -> MetaGraphDef:
    file = f"{path}/saved_model.pb"
    if not tf.io.gfile.exists(file):
        raise not_found(f"{path}: no saved_model.pb (yet)")
    saved_model = SavedModel()
    with tf.io.gfile.GFile(file, "rb") as stream:
        try:
            saved_model.ParseFromString(stream.read())
        except message.DecodeError as error:
            raise ServingError(StatusCode.DATA_LOSS, f"{file} is broken or only half there") from error
    for graph in saved_model.meta_graphs:
        if set(graph.meta_info_def.tags) == set(tags):
            return graph
    raise not_found(f"{path}: no graph with the tags {list(tags)}")


def _import_op_packages(graph: MetaGraphDef) -> None:
    ops = {node.op for node in graph.graph_def.node}
    ops.update(node.op for function in graph.graph_def.library.function for node in function.node_def)
    functions = {function.signature.name for function in graph.graph_def.library.function}
    failures = {}
    for prefix, package in _OP_PACKAGES.items():
        if any(op.startswith(prefix) for op in _unregistered(ops, functions)):
            try:
                importlib.import_module(package)
            except ImportError as error:
                failures[package] = error
    missing = _unregistered(ops, functions)
    if missing:
        tried = "; ".join(f"{package} cannot be imported ({error})" for package, error in failures.items())
        raise failed_precondition(
            f"the graph needs the op {missing[0]!r}{f' and {len(missing) - 1} more' if missing[1:] else ''}, "
            "which no package here provides" + (f": {tried}" if tried else "")
        )


def _unregistered(ops: set[str], functions: set[str]) -> list[str]:
    return sorted(op for op in ops - functions if op_def_registry.get(op) is None)
