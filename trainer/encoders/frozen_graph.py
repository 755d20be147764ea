"""Third-party models as functions of one tensor: from a SavedModel, or from a TensorFlow 1 checkpoint and its graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError
from tensorflow.core.framework import graph_pb2, node_def_pb2
from tensorflow.core.protobuf import meta_graph_pb2

from trainer.keras import tf

Model = Callable[[tf.Tensor], tf.Tensor]  # a batch -> a batch


def saved_model(folder: str, signature: str, output: str = "") -> Model:
    """Loads a signature with one input as a function. output: which of its outputs; "" where there is one only.

    Raises ValueError where the signature is not there, has several inputs, or lacks the output.
    """
    loaded = tf.saved_model.load(folder)
    if signature not in loaded.signatures:
        raise ValueError(
            f"{folder}: got signature {signature!r}, expected one of {', '.join(loaded.signatures) or 'none at all'}"
        )
    function = loaded.signatures[signature]
    inputs, outputs = list(function.structured_input_signature[1]), list(function.structured_outputs)
    name = output or outputs[0]
    if len(inputs) != 1 or name not in outputs or (not output and len(outputs) > 1):
        raise ValueError(
            f"{folder}: {signature} has inputs {', '.join(inputs)} and outputs {', '.join(outputs)}; "
            "one of each is needed"
        )

    def call(batch: tf.Tensor) -> tf.Tensor:
        return function(**{inputs[0]: batch})[name]

    call.owner = loaded  # type: ignore[attr-defined]  # the variables live as long as what loaded them
    return call


def checkpoint(folder: str, fed: str, fetched: str, constants: Mapping[str, bool] | None = None) -> Model:
    """Loads the part of a checkpoint's graph from one tensor to another as a function, its variables as they were
    stored.

    folder: holds one .meta file with its .index and .data beside it.
    fed, fetched: names of tensors, as in model/Placeholder:0.
    constants: other placeholders on the way, with their values.
    Raises ValueError that names the tensor, the placeholder or the variable at fault; also for control flow that is
    kept as functions.
    """
    prefix = _prefix(folder)
    graph = _graph(prefix)
    nodes = {node.name: node for node in graph.node}
    for tensor in (fed, fetched, *(constants or {})):
        if _node(tensor) not in nodes:
            raise ValueError(f"{folder}: the graph has no tensor {tensor!r}")
    nodes[_node(fed)] = _placeholder(nodes[_node(fed)])  # what it was computed from is cut off
    part = _before(_node(fetched), nodes)
    given = {_node(tensor) for tensor in (fed, *(constants or {}))}
    needed = {node.name for node in part if node.op.startswith("Placeholder") or node.name in given}
    if needed - given or _node(fed) not in needed:
        on = ", ".join(sorted(needed)) or "nothing that is fed"
        raise ValueError(f"{folder}: {fetched} depends on {on}; expected {fed} and what constants sets")
    calls = sorted(node.name for node in part if any(value.HasField("func") for value in node.attr.values()))
    if calls:
        raise ValueError(
            f"{folder}: {calls[0]} calls a function, as only newer graphs do; export the model as a SavedModel instead"
        )
    frozen = graph_pb2.GraphDef(versions=graph.versions)
    frozen.node.extend(_with_values(part, tf.compat.v1.train.NewCheckpointReader(prefix), folder))

    @tf.function(reduce_retracing=True)
    def call(batch):
        inputs = {fed: batch} | {name: tf.constant(value) for name, value in (constants or {}).items()}
        return tf.graph_util.import_graph_def(frozen, input_map=inputs, return_elements=[fetched], name="")[0]

    return call


def _prefix(folder: str) -> str:
    found = sorted(Path(folder).glob("*.meta"))
    if len(found) != 1:
        raise ValueError(f"{folder}: got {len(found)} .meta files, expected one")
    # A checkpoint may have no name at all (.meta, .index), which pathlib would take for a name without an ending.
    return f"{folder}/{found[0].name.removesuffix('.meta')}"


def _graph(prefix: str) -> graph_pb2.GraphDef:
    try:
        return meta_graph_pb2.MetaGraphDef.FromString(Path(f"{prefix}.meta").read_bytes()).graph_def
    except DecodeError as error:
        raise ValueError(f"{prefix}.meta is not a meta graph: {error}") from error


def _placeholder(node: Any) -> Any:
    """A placeholder with the name and the type of a node."""
    placeholder = node_def_pb2.NodeDef(name=node.name, op="Placeholder")
    placeholder.attr["dtype"].CopyFrom(node.attr["dtype" if "dtype" in node.attr else "T"])
    return placeholder


def _before(last: str, nodes: Mapping[str, Any]) -> list[Any]:
    """The nodes that a node depends on, and itself."""
    found: dict[str, Any] = {}
    waiting = [last]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = nodes[name]
            waiting.extend(_node(source.removeprefix("^")) for source in nodes[name].input)
    return list(found.values())


def _with_values(nodes: Sequence[Any], reader: Any, folder: str) -> list[Any]:
    """The nodes with variables as constants, without attributes that newer versions of TensorFlow refuse."""
    kept = []
    for node in nodes:
        if node.op in ("Variable", "VariableV2", "VarHandleOp"):
            name = node.attr["shared_name"].s.decode() if node.op == "VarHandleOp" else node.name
            if not reader.has_tensor(name):
                raise ValueError(f"{folder}: the checkpoint lacks the variable {name}")
            value = tf.make_tensor_proto(reader.get_tensor(name))
            constant = node_def_pb2.NodeDef(name=node.name, op="Const")
            constant.attr["dtype"].type = value.dtype
            constant.attr["value"].tensor.CopyFrom(value)
            kept.append(constant)
            continue
        node.device = ""
        for note in ("_output_shapes", "_class"):
            node.attr.pop(note, None)
        if node.op == "ReadVariableOp":
            node.op = "Identity"
            node.attr["T"].CopyFrom(node.attr.pop("dtype"))
        kept.append(node)
    return kept


def _node(tensor: str) -> str:
    return tensor.partition(":")[0]
