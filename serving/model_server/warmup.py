"""Replays a version's recorded requests (`assets.extra`): all before it becomes available, its changes afterwards."""

from __future__ import annotations

from collections.abc import Iterator

import tensorflow as tf
from google.protobuf import message
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from components.file_state import size_and_mtime
from serving.model_server import inference
from serving.model_server.cancellation import CancellationToken
from serving.model_server.errors import ServingError, from_code, invalid
from serving.model_server.loader import LoadedModel

FILE = "assets.extra/tf_serving_warmup_requests"  # TFRecords of PredictionLog
MAX_RECORDS = 1000


def warm_up(model: LoadedModel, path: str, iterations: int = 1) -> int:
    """Run the recorded requests of the version in folder `path`; their number, 0 where there is no record.

    iterations: how often each is run; 0 runs none.
    Raises ServingError where a request fails, or there are more than MAX_RECORDS: such a version must not be served.
    """
    num_records = 0
    for where, record in _records(path) if iterations else ():
        num_records += 1
        entry = _parsed(record, where)
        for _ in range(iterations):
            _run(model, entry, where)
    return num_records


def replay_changes(model: LoadedModel, path: str) -> int:
    """Run those recorded requests of the version in folder `path` that change the model, each once; their number.

    Raises ServingError with the first failure, after all others have run.
    """
    num_changes, failure = 0, None
    for where, record in _records(path):
        try:
            entry = _parsed(record, where)
            if _changes(model, entry):
                _run(model, entry, where)
                num_changes += 1
        except ServingError as error:
            failure = failure or error
    if failure is not None:
        raise failure
    return num_changes


def _changes(model: LoadedModel, entry: PredictionLog) -> bool:
    """Whether a recorded request is for a signature that changes the model; False of kinds that are not run."""
    logs = {"predict_log": entry.predict_log, "classify_log": entry.classify_log, "regress_log": entry.regress_log}
    log = logs.get(entry.WhichOneof("log_type"))
    return log is not None and model.signature(log.request.model_spec.signature_name).changes_state


def _parsed(record: bytes, where: str) -> PredictionLog:
    try:
        return PredictionLog.FromString(record)
    except message.DecodeError as error:
        raise invalid(f"{where} is no PredictionLog: {error}") from error


def _run(model: LoadedModel, entry: PredictionLog, where: str) -> None:
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
    return size_and_mtime(file) if tf.io.gfile.exists(file) else ()


def _records(path: str) -> Iterator[tuple[str, bytes]]:
    """Each record of the version in folder `path`, and where it is, in words; nothing where there is no file."""
    file = f"{path}/{FILE}"
    if not tf.io.gfile.exists(file):
        return
    try:
        for number, record in enumerate(tf.data.TFRecordDataset(file).as_numpy_iterator(), 1):
            if number > MAX_RECORDS:
                raise invalid(f"{file}: more than {MAX_RECORDS} warm-up requests")
            yield f"{file}: record {number}", record
    except tf.errors.OpError as error:
        raise from_code(error.error_code, f"{file}: {error.message}") from error
