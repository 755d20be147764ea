"""Which ops a SavedModel needs, by signature, and whether TensorFlow alone has them: a stock TensorFlow Serving loads
all or nothing.

`python -m serving.export.stock_ops PATH` writes the table of docs/serving.md and fails where an op is not TensorFlow's
own.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator

import tensorflow as tf
from tensorflow.core.framework.graph_pb2 import GraphDef
from tensorflow.core.framework.node_def_pb2 import NodeDef
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel
from tensorflow.python.framework import op_def_registry

LOADING = "(loading)"  # what no signature runs: variables, tables and assets are restored by it
_ADDED = ("tensorflow_text", "tensorflow_io", "scann", "tensorflow_decision_forests")


def ops_by_signature(path: str) -> dict[str, set[str]]:
    """Signature -> the ops that it runs, those of all functions it calls included; and under LOADING what else the
    graph holds.
    """
    with tf.io.gfile.GFile(f"{path}/saved_model.pb", "rb") as file:
        meta_graph = SavedModel.FromString(file.read()).meta_graphs[0]
    graph = meta_graph.graph_def
    nodes = {node.name: node for node in graph.node}
    found = {}
    for name, signature in meta_graph.signature_def.items():
        if name.startswith("__"):  # TensorFlow's own, for restoring
            continue
        ends = [output.name.partition(":")[0] for output in signature.outputs.values()]
        found[name] = _ops(graph, _needed(nodes, ends))
    found[LOADING] = _ops(graph, graph.node) - set().union(*found.values())
    return found


def not_of_tensorflow(ops: Iterable[str]) -> list[str]:
    """Those that are not registered here. Raises RuntimeError where a library that brings more ops has been
    imported.
    """
    if added := sorted(set(_ADDED) & set(sys.modules)):
        raise RuntimeError(f"{', '.join(added)} has been imported, which brings ops of its own: ask in a fresh process")
    return sorted(op for op in set(ops) if op_def_registry.get(op) is None)


def _needed(nodes: dict[str, NodeDef], ends: Iterable[str]) -> Iterator[NodeDef]:
    seen: set[str] = set()
    waiting = list(ends)
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            yield nodes[name]
            waiting += [source.lstrip("^").partition(":")[0] for source in nodes[name].input]


def _ops(graph: GraphDef, nodes: Iterable[NodeDef]) -> set[str]:
    """The ops of nodes and of the functions that they call, directly or not."""
    functions = {function.signature.name: function.node_def for function in graph.library.function}
    ops: set[str] = set()
    entered: set[str] = set()
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        called = {node.op} if node.op in functions else set()
        if not called:
            ops.add(node.op)
        for attribute in node.attr.values():
            called |= {one.name for one in (attribute.func, *attribute.list.func) if one.name in functions}
        for name in called - entered:
            waiting += functions[name]
        entered |= called
    return ops


def table(path: str) -> str:
    """The ops as Markdown: those that `recommend` runs, then for every other signature what it needs beyond them."""
    ops = ops_by_signature(path)
    base = ops["recommend"]
    lines = ["| signature | ops |", "| --- | --- |", f"| `recommend` | {', '.join(sorted(base))} |"]
    for name in sorted(set(ops) - {"recommend"}):
        more = sorted(ops[name] - base)
        lines.append(f"| `{name}` | {'beyond those: ' + ', '.join(more) if more else 'some of those'} |")
    return "\n".join(lines)


def main() -> int:
    """Print the table; exit code 1 and the ops' names where some are not TensorFlow's own."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("path", help="a SavedModel's folder")
    path = parser.parse_args().path
    missing = {name: not_of_tensorflow(ops) for name, ops in ops_by_signature(path).items()}
    sys.stdout.write(table(path) + "\n")
    for name, ops in missing.items():
        if ops:
            sys.stderr.write(f"{name}: not TensorFlow's own: {', '.join(ops)}\n")
    return int(any(missing.values()))


if __name__ == "__main__":
    sys.exit(main())
