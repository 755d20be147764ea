"""Updates of a served catalogue between two builds: items added and withdrawn, kept in the served version and sent to
servers.

They lie among the version's warm-up requests, as calls of `withdraw_items` and `add_items`: TensorFlow Serving runs
those before a version becomes available, so any server that loads it, or starts again, knows them. What was added and
then withdrawn lies where no server looks, in the recorded answer of `withdraw_items`, so that it can come back.
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
    domain, creator: "" where it has none. published_at_s: seconds since 1970, 0 where it is unknown.
    """

    vector: np.ndarray
    domain: str = ""
    creator: str = ""
    content: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    published_at_s: int = 0


@dataclass
class CatalogUpdates:
    """Items added and withdrawn, by id. One that was added and then withdrawn is in both, so that it can come back."""

    added: dict[str, AddedItem] = field(default_factory=dict)
    withdrawn: dict[str, None] = field(default_factory=dict)

    def add(self, items: Mapping[str, AddedItem]) -> None:
        """These may be shown from now on."""
        for item_id, item in items.items():
            self.withdrawn.pop(item_id, None)
            self.added[item_id] = item

    def withdraw(self, item_ids: Iterable[str]) -> None:
        """These are shown no more."""
        for item_id in item_ids:
            self.withdrawn[item_id] = None

    def requests(self) -> list[tuple[str, dict[str, tf.Tensor]]]:
        """The calls that bring a build to this state, whatever it was told before: none, one or two.

        What goes goes first: nothing that is withdrawn is shown between them, or stays where no row is free for more.
        """
        shown = {item_id: item for item_id, item in self.added.items() if item_id not in self.withdrawn}
        return [*_withdrawing(self.withdrawn), *_adding(shown)]

    def put_aside(self) -> dict[str, AddedItem]:
        """The items that were added and then withdrawn."""
        return {item_id: item for item_id, item in self.added.items() if item_id in self.withdrawn}


def read(path: str) -> CatalogUpdates:
    """The updates that the SavedModel at `path` holds."""
    updates = CatalogUpdates()
    for request, response in replay.recorded(path):
        if request.model_spec.signature_name == ADD:
            updates.add(_items_in(request.inputs))
        elif request.model_spec.signature_name == WITHDRAW:
            updates.add(_items_in(response.outputs))
            updates.withdraw(item.decode() for item in tf.make_ndarray(request.inputs["item_id"]))
    return updates


def write(path: str, updates: CatalogUpdates) -> None:
    """Keep the updates in the SavedModel at `path` in place of those that it held; whole or not at all."""
    file = Path(path, replay.RECORDED)
    kept = [record for record, signature in replay.records(path) if signature not in (ADD, WITHDRAW)]
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    with tf.io.TFRecordWriter(str(partial)) as writer:
        for record in kept:
            writer.write(record)
        put_aside = dict(_adding(updates.put_aside())).get(ADD, {})
        for signature, inputs in updates.requests():
            outputs = put_aside if signature == WITHDRAW else {}
            writer.write(replay.log_of(signature, inputs, outputs).SerializeToString())
    partial.replace(file)


def apply(signatures: Mapping[str, Any], updates: CatalogUpdates) -> None:
    """Bring a loaded model, which nobody asks meanwhile, to this state: it knows the items that are put aside too."""
    for name, inputs in (*_adding(updates.added), *_withdrawing(updates.withdrawn)):
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


def _adding(items: Mapping[str, AddedItem]) -> list[tuple[str, dict[str, tf.Tensor]]]:
    """The call that adds items; none where there are none."""
    if not items:
        return []
    texts = {name: tf.constant([getattr(item, name) for item in items.values()]) for name in ("domain", "creator")}
    inputs = {"item_id": tf.constant(list(items)), **texts}
    inputs["vector"] = tf.constant(np.stack([item.vector for item in items.values()]), tf.float32)
    # Versions of earlier releases take neither contents nor dates.
    if width := max(len(item.content) for item in items.values()):
        contents = [np.pad(item.content, (0, width - len(item.content))) for item in items.values()]
        inputs["content"] = tf.constant(np.stack(contents), tf.float32)
    if any(dates_s := [item.published_at_s for item in items.values()]):
        inputs["published_at_s"] = tf.constant(dates_s, tf.int64)
    return [(ADD, inputs)]


def _withdrawing(item_ids: Iterable[str]) -> list[tuple[str, dict[str, tf.Tensor]]]:
    """The call that withdraws items; none where there are none."""
    withdrawn = list(item_ids)
    return [(WITHDRAW, {"item_id": tf.constant(withdrawn)})] if withdrawn else []


def _items_in(tensors: Mapping[str, Any]) -> dict[str, AddedItem]:
    """The items in the tensors of a call that adds them; none where there are no tensors."""
    columns = {name: [_plain(value) for value in tf.make_ndarray(proto)] for name, proto in tensors.items()}
    item_ids = columns.pop("item_id", [])
    return {
        item_id: AddedItem(**{name: values[row] for name, values in columns.items()})
        for row, item_id in enumerate(item_ids)
    }


def _plain(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value
