"""Updates of a served catalogue between two builds: items added and withdrawn, kept in the served version and sent to
servers.

They lie among the version's warm-up requests, as calls of `add_items` and `withdraw_items`: TensorFlow Serving runs
those before a version becomes available, so any server that loads it, or starts again, knows them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from serving.export import replay
from serving.export.saved_model import DEFAULTS
from serving.loopback import grpc_options

ADD, WITHDRAW = "add_items", "withdraw_items"
_CALL_S = 30.0


@dataclass(frozen=True)
class AddedItem:
    """An item that came after the build.

    vector: float32 [dim], unit norm. content: the same by content alone, of no dimension where it is unknown.
    domain, creator: "" where it has none.
    """

    vector: np.ndarray
    domain: str = ""
    creator: str = ""
    content: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))


@dataclass
class CatalogUpdates:
    """Items added and withdrawn, by id, in the order in which they came.

    One that was added and then withdrawn keeps its vector, so that it can come back.
    """

    added: dict[str, AddedItem] = field(default_factory=dict)
    withdrawn: dict[str, None] = field(default_factory=dict)

    def add(self, items: Mapping[str, AddedItem]) -> None:
        """These are shown from now on."""
        for item_id, item in items.items():
            self.withdrawn.pop(item_id, None)
            self.added[item_id] = item

    def withdraw(self, item_ids: Iterable[str]) -> None:
        """These are shown no more."""
        for item_id in item_ids:
            self.withdrawn[item_id] = None

    def requests(self) -> list[tuple[str, dict[str, tf.Tensor]]]:
        """The calls that bring a fresh build to this state: none, one or two."""
        calls = []
        if self.added:
            items = self.added.values()
            texts = {name: tf.constant([getattr(item, name) for item in items]) for name in ("domain", "creator")}
            inputs = {"item_id": tf.constant(list(self.added)), **texts}
            inputs["vector"] = tf.constant(np.stack([item.vector for item in items]), tf.float32)
            if width := max(len(item.content) for item in items):  # versions of earlier releases take none
                contents = [np.pad(item.content, (0, width - len(item.content))) for item in items]
                inputs["content"] = tf.constant(np.stack(contents), tf.float32)
            calls.append((ADD, inputs))
        if self.withdrawn:
            calls.append((WITHDRAW, {"item_id": tf.constant(list(self.withdrawn))}))
        return calls


def read(path: str) -> CatalogUpdates:
    """The updates that the SavedModel at `path` holds."""
    updates = CatalogUpdates()
    for request, _ in replay.recorded(path):
        inputs = request.inputs
        if request.model_spec.signature_name == ADD:
            names = [name for name in ("item_id", "vector", "domain", "creator", "content") if name in inputs]
            arrays = [tf.make_ndarray(inputs[name]) for name in names]  # versions of earlier releases have no content
            updates.add(
                {
                    item.decode(): AddedItem(vector, domain.decode(), creator.decode(), *content)
                    for item, vector, domain, creator, *content in zip(*arrays)
                }
            )
        elif request.model_spec.signature_name == WITHDRAW:
            updates.withdraw(item.decode() for item in tf.make_ndarray(inputs["item_id"]))
    return updates


def write(path: str, updates: CatalogUpdates) -> None:
    """Keep the updates in the SavedModel at `path` in place of those that it held; whole or not at all."""
    file = Path(path, replay.RECORDED)
    kept = [record for record, signature in replay.records(path) if signature not in (ADD, WITHDRAW)]
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    with tf.io.TFRecordWriter(str(partial)) as writer:
        for record in kept:
            writer.write(record)
        for signature, inputs in updates.requests():
            writer.write(replay.log_of(signature, inputs, {}).SerializeToString())
    partial.replace(file)


def apply(signatures: Mapping[str, Any], updates: CatalogUpdates) -> None:
    """Bring a loaded model to this state."""
    for name, inputs in updates.requests():
        signature = signatures[name]
        silent = {key: value for key, value in DEFAULTS.get(name, {}).items() if key not in inputs}
        takes = signature.structured_input_signature[1]
        signature(**inputs, **{key: tf.constant(value) for key, value in silent.items() if key in takes})


def send(address: str, model_name: str, updates: CatalogUpdates) -> None:
    """Bring the served model on a running server to this state.

    address: host:port of its gRPC. Raises RuntimeError where the server cannot be reached or refuses.
    """
    with grpc.insecure_channel(address, grpc_options(address)) as channel:
        stub: Any = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        for signature, inputs in updates.requests():
            request = predict_pb2.PredictRequest()
            request.model_spec.name, request.model_spec.signature_name = model_name, signature
            for name, value in inputs.items():
                request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
            try:
                stub.Predict(request, timeout=_CALL_S)
            except grpc.RpcError as error:
                raise RuntimeError(f"{address}, model {model_name}: {error.code().name} {error.details()}") from error
