"""Replays a version's recorded requests (`assets.extra`) before it becomes available."""

from __future__ import annotations

from collections.abc import Iterator

import tensorflow as tf
from google.protobuf import message
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from serving.model_server import inference
from serving.model_server.cancellation import CancellationToken
from serving.model_server.errors import from_code, invalid
from serving.model_server.loader import LoadedModel

FILE = "assets.extra/tf_serving_warmup_requests"  # TFRecords of PredictionLog
MAX_RECORDS = 1000


def warm_up(model: LoadedModel, path: str, iterations: int = 1) -> int:
    """Run the recorded requests of the version in folder `path`; their number, 0 where there is no record.

    iterations: how often each is run; 0 runs none.
    Raises ServingError where a request fails, or there are more than MAX_RECORDS: such a version must not be served.
    """
    file = f"{path}/{FILE}"
    if not iterations or not tf.io.gfile.exists(file):
        return 0
    num_records = 0
    for record in _records(file):
        num_records += 1
        if num_records > MAX_RECORDS:
            raise invalid(f"{file}: more than {MAX_RECORDS} warm-up requests")
        for _ in range(iterations):
            _replay(model, record, f"{file}: record {num_records}")
    return num_records


def _replay(model: LoadedModel, record: bytes, where: str) -> None:
    try:
        entry = PredictionLog.FromString(record)
    except message.DecodeError as error:
        raise invalid(f"{where} is no PredictionLog: {error}") from error
    kind = entry.WhichOneof("log_type")
    if kind == "predict_log":
        inference.predict(model, entry.predict_log.request, CancellationToken())
    elif kind == "classify_log":
        inference.classify(model, entry.classify_log.request, CancellationToken())
    elif kind == "regress_log":
        inference.regress(model, entry.regress_log.request, CancellationToken())
    else:
        raise invalid(f"{where}: got a {kind}, expected a predict, classify or regress log")


def requests_state(path: str) -> tuple:
    """Changes when the file of warm-up requests of the version in folder `path` does; empty where there is none."""
    file = f"{path}/{FILE}"
    if not tf.io.gfile.exists(file):
        return ()
    status = tf.io.gfile.stat(file)
    return (status.mtime_nsec, status.length)


def _records(file: str) -> Iterator[bytes]:
    try:
        yield from tf.data.TFRecordDataset(file).as_numpy_iterator()
    except tf.errors.OpError as error:
        raise from_code(error.error_code, f"{file}: {error.message}") from error
