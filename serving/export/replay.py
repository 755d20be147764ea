"""Requests recorded with their answers, in the SavedModel itself, and replayed wherever it is loaded.

They lie in `assets.extra/tf_serving_warmup_requests`: TensorFlow Serving warms up with the requests and does not look
at the answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

TOLERANCE = 1e-5  # between scores that should be the same
ITEM_IDS, SCORES = "item_ids", "scores"  # outputs that are lists: [B, K] each
RECORDED = "assets.extra/tf_serving_warmup_requests"

Call = Callable[[str, Mapping[str, tf.Tensor]], Mapping[str, np.ndarray]]  # signature, inputs -> outputs


class ReplayError(RuntimeError):
    """An answer is not the recorded one."""


def record(path: str, call: Call, requests: Iterable[tuple[str, Mapping[str, tf.Tensor]]]) -> int:
    """Answer (signature, inputs) pairs with `call` and keep both inside the SavedModel at `path`; returns how many
    there are.
    """
    count = 0
    target = f"{path}/{RECORDED}"
    tf.io.gfile.makedirs(target.rpartition("/")[0])
    with tf.io.TFRecordWriter(target) as writer:
        for signature, inputs in requests:
            writer.write(log_of(signature, inputs, call(signature, inputs)).SerializeToString())
            count += 1
    return count


def log_of(
    signature: str, inputs: Mapping[str, tf.Tensor], outputs: Mapping[str, np.ndarray]
) -> prediction_log_pb2.PredictionLog:
    """A request with its answer as TensorFlow Serving records them."""
    log = prediction_log_pb2.PredictionLog()
    for name, tensor in inputs.items():
        log.predict_log.request.inputs[name].CopyFrom(tf.make_tensor_proto(tensor))
    for name, array in outputs.items():
        log.predict_log.response.outputs[name].CopyFrom(tf.make_tensor_proto(array))
    log.predict_log.request.model_spec.signature_name = signature
    return log


def recorded(path: str) -> Iterator[tuple[predict_pb2.PredictRequest, predict_pb2.PredictResponse]]:
    """The recorded requests and answers of the SavedModel at `path`."""
    for record, _ in records(path):
        log = prediction_log_pb2.PredictionLog.FromString(record).predict_log
        yield log.request, log.response


def records(path: str) -> Iterator[tuple[bytes, str]]:
    """What is recorded at `path` as it lies there, with the name of the signature."""
    for record in tf.data.TFRecordDataset(f"{path}/{RECORDED}").as_numpy_iterator():
        yield record, prediction_log_pb2.PredictionLog.FromString(record).predict_log.request.model_spec.signature_name


def compare(path: str, call: Call) -> int:
    """Replay what is recorded at `path` through `call`; returns how many requests there were.

    Rounding decides between items whose scores are the same to TOLERANCE: they may stand in either order in a list, and
    where the score is that of its last place, an item of that score that found no place in the recorded list may stand
    in one of theirs.
    Raises ReplayError naming signature, output and the largest difference where an answer is not the recorded one to
    TOLERANCE.
    """
    pairs = list(recorded(path))
    if not pairs:
        raise ReplayError(f"{path}: nothing is recorded")
    for request, response in pairs:
        signature = request.model_spec.signature_name
        outputs = call(signature, {name: tf.constant(tf.make_ndarray(proto)) for name, proto in request.inputs.items()})
        if set(outputs) != set(response.outputs):
            raise ReplayError(
                f"{path}: {signature} answers {sorted(outputs)}, recorded were {sorted(response.outputs)}"
            )
        answer = {name: tf.make_ndarray(proto) for name, proto in response.outputs.items()}
        outputs = _ordered(answer, {name: np.asarray(array) for name, array in outputs.items()})
        for name, expected in answer.items():
            got = outputs[name]
            if expected.shape != got.shape:
                raise ReplayError(
                    f"{path}: {signature}, output {name}: shape {got.shape}, recorded was {expected.shape}"
                )
            if expected.dtype.kind == "f":
                difference = float(np.abs(expected - got).max(initial=0))
                if not difference <= TOLERANCE:
                    raise ReplayError(
                        f"{path}: {signature}, output {name}: differs from the recorded answer by {difference:.3g}"
                    )
            elif not np.array_equal(expected, got):
                at = tuple(np.argwhere(expected != got)[0].tolist())
                raise ReplayError(
                    f"{path}: {signature}, output {name}: got {got[at]} at {list(at)}, recorded was {expected[at]}"
                )
    return len(pairs)


def _ordered(expected: Mapping[str, np.ndarray], got: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    """An answer with the items of each list in the recorded order, as far as equal scores let them change places; where
    they let another item in, only the score is the answer's.
    """
    if not {ITEM_IDS, SCORES} <= expected.keys() or expected[ITEM_IDS].shape != got[ITEM_IDS].shape:
        return got
    wanted = expected[ITEM_IDS]  # [B, K]
    lists = [_places(*one) for one in zip(wanted, got[ITEM_IDS], expected[SCORES])]
    rows, places = np.arange(len(wanted))[:, None], np.stack([places for places, _ in lists])
    ordered = {name: array[rows, places] if array.shape[:2] == wanted.shape else array for name, array in got.items()}
    is_other = np.stack([is_other for _, is_other in lists])
    for name, array in ordered.items():
        if array.shape[:2] == wanted.shape == expected[name].shape[:2] and name != SCORES:
            array[is_other] = expected[name][is_other]
    return ordered


def _places(wanted: np.ndarray, given: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where in a list what was recorded at each place stands now: int [K]; and which of them are other items: bool [K].

    wanted, given: bytes [K], padded with b"". scores: [K], recorded.
    """
    places, is_other = np.arange(len(wanted)), np.zeros(len(wanted), bool)
    newcomers = np.flatnonzero(~np.isin(given, wanted)).tolist()
    last_score = scores[wanted != b""][-1:]
    for place in np.flatnonzero(wanted != given):
        found = np.flatnonzero(given == wanted[place])
        if len(found) == 1 and abs(scores[found[0]] - scores[place]) <= TOLERANCE:
            places[place] = found[0]
        elif not len(found) and newcomers and (abs(last_score - scores[place]) <= TOLERANCE).any():
            places[place], is_other[place] = newcomers.pop(0), True
    return places, is_other


def in_process(signatures: Mapping[str, Callable]) -> Call:
    """A `Call` on the signatures of a SavedModel, loaded or about to be saved."""
    return lambda signature, inputs: {name: value.numpy() for name, value in signatures[signature](**inputs).items()}
