"""Calls one signature of a loaded SavedModel, with the least Python between a request and its graph."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Collection, Mapping

import tensorflow as tf
from grpc import StatusCode
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef
from tensorflow.python.eager import context as eager_context
from tensorflow.python.eager import execute

from serving.model_server import tensors
from serving.model_server.batching import Batcher
from serving.model_server.cancellation import CancellationToken
from serving.model_server.errors import ServingError, from_code, invalid

DEFAULT_NAME = "serving_default"
# What changes a variable or a table; reading ops have other beginnings.
_WRITES = (
    "Assign",
    "ResourceScatter",
    "ResourceApply",
    "ResourceSparseApply",
    "LookupTableInsert",
    "LookupTableRemove",
    "LookupTableImport",
)


class Signature:
    """A named function from tensors to tensors.

    inputs: name -> dtype, in the order of the graph's arguments. outputs: names, in the order of its results.
    changes_state: whether a call changes the model; such calls are not batched, so that each counts once, and wait for
    each other.
    """

    def __init__(
        self, name: str, definition: SignatureDef, function, change_lock: threading.Lock, batcher: Batcher | None = None
    ) -> None:
        """function: what `tf.saved_model.load(...).signatures[name]` gives. batcher: None: each request runs alone.

        change_lock: the model's, held by each call that changes it: what one reads, no other writes before it does.

        Raises ServingError (UNIMPLEMENTED) where inputs or outputs are not plain tensors.
        """
        self.name = name
        self.changes_state = _writes(function)
        self._batcher = None if self.changes_state else batcher
        self._turn = change_lock if self.changes_state else contextlib.nullcontext()
        self.method_name = definition.method_name
        self.inputs = {
            key: tf.dtypes.as_dtype(definition.inputs[key].dtype)
            for key in function._arg_keywords
            if key in definition.inputs
        }
        self.outputs = tuple(sorted(function.structured_outputs))
        self._defaults = {key: tensors.to_tensor(proto, key) for key, proto in definition.defaults.items()}
        self._captures = list(function.captured_inputs)
        if len(self.inputs) + len(self._captures) != len(function.inputs) or len(self.outputs) != len(function.outputs):
            raise ServingError(
                StatusCode.UNIMPLEMENTED, f"signature {name!r} has inputs or outputs that are not plain tensors"
            )
        self._function = function  # the graph function lives as long as this object does
        # Calling the graph function by its name takes a quarter of the time of calling `function` and, like the stock
        # server, compares no shapes. TensorFlow's own way to pass a cancellation manager is a global of the process, so
        # two threads would cancel each other's runs: it is passed here by hand.
        self._graph_function = function._inference_function.name.decode()
        self._context = eager_context.context()
        self._context.ensure_initialized()
        self._attributes = tuple(itertools.chain(*self._context.function_call_options.as_attrs().items()))

    def check_inputs(self, names: Collection[str]) -> None:
        """Raise ServingError (INVALID_ARGUMENT) naming the missing and the unknown, unless `names` are the inputs."""
        missing = sorted(name for name in self.inputs if name not in names and name not in self._defaults)
        unknown = sorted(name for name in names if name not in self.inputs)
        if missing or unknown:
            raise invalid(
                f"input size does not match signature {self.name!r}: missing: {missing}, "
                f"sent but not in the signature: {unknown}, expected: {sorted(self.inputs)}"
            )

    def check_outputs(self, names: Collection[str]) -> None:
        """Raise ServingError (INVALID_ARGUMENT) unless each of `names` is an output of this signature, named once."""
        for name in names:
            if name not in self.outputs:
                raise invalid(f"output_filter: got {name!r}, expected some of {list(self.outputs)}")
        if len(set(names)) != len(names):
            raise invalid(f"output_filter names an output twice: {list(names)}")

    def __call__(self, inputs: Mapping[str, tf.Tensor], token: CancellationToken) -> dict[str, tf.Tensor]:
        """All outputs by name. `inputs` must be this signature's (`check_inputs`) and of its dtypes.

        Raises ServingError: the failing op's own code and message; CANCELLED where the token was cancelled; what
        `Batcher.execute` adds.
        """
        return (
            self.run_unbatched(inputs, token) if self._batcher is None else self._batcher.execute(self, inputs, token)
        )

    def run_unbatched(self, inputs: Mapping[str, tf.Tensor], token: CancellationToken) -> dict[str, tf.Tensor]:
        """As a call, in this thread and with nobody else's inputs: what the batcher calls."""
        arguments = [inputs[name] if name in inputs else self._defaults[name] for name in self.inputs]
        try:
            with self._turn:
                if token.cancelled:
                    raise ServingError(StatusCode.CANCELLED, "the request was cancelled before its turn came")
                values = execute.execute_with_cancellation(
                    self._graph_function,
                    num_outputs=len(self.outputs),
                    inputs=arguments + self._captures,
                    attrs=self._attributes,
                    ctx=self._context,
                    cancellation_manager=token.manager,
                )
        except tf.errors.OpError as error:
            if token.cancelled:
                raise ServingError(StatusCode.CANCELLED, "the request was cancelled while it ran") from error
            raise from_code(error.error_code, error.message) from error
        return dict(zip(self.outputs, values))


def _writes(function) -> bool:
    graph = function.graph.as_graph_def()
    nodes = itertools.chain(graph.node, *(inner.node_def for inner in graph.library.function))
    return any(node.op.startswith(_WRITES) for node in nodes)
