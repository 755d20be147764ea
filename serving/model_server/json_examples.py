"""Converts the JSON of :classify and :regress: examples in, results out."""

from __future__ import annotations

from typing import Any

import numpy as np
from tensorflow.core.example.example_pb2 import Example
from tensorflow.core.example.feature_pb2 import Feature
from tensorflow_serving.apis.classification_pb2 import ClassificationResult
from tensorflow_serving.apis.input_pb2 import Input
from tensorflow_serving.apis.regression_pb2 import RegressionResult

from serving.model_server import json_tensors
from serving.model_server.errors import invalid


def to_input(request: dict[str, Any]) -> Input:
    """The request's `examples`, and the `context` that they share where there is one.

    Raises ServingError (INVALID_ARGUMENT) naming the feature. A whole number is an int64, one with a point or an
    exponent a float.
    """
    examples = request.get("examples")
    if not isinstance(examples, list) or not examples:
        raise invalid("key 'examples' is expected with a non-empty list of objects")
    sent = Input()
    if "context" in request:
        sent.example_list_with_context.context.CopyFrom(_example(request["context"]))
        sent.example_list_with_context.examples.extend(map(_example, examples))
    else:
        sent.example_list.examples.extend(map(_example, examples))
    return sent


def classifications(result: ClassificationResult) -> list[list[tuple[str, float]]]:
    """`results`: for each example, label and score of every class."""
    return [
        list(zip([one.label for one in row.classes], _scores([one.score for one in row.classes])))
        for row in result.classifications
    ]


def regressions(result: RegressionResult) -> list[float]:
    """`results`: a value for each example."""
    return _scores([one.value for one in result.regressions])


def _scores(values: list[float]) -> list[float]:
    return json_tensors.shortest(np.array(values, dtype=np.float32))


def _example(features: Any) -> Example:
    if not isinstance(features, dict):
        raise invalid(f"Example must be JSON object but got {json_tensors.shown(features)}")
    example = Example()
    for name, value in features.items():
        json_tensors.encode_text(name, "a feature's name")
        feature = example.features.feature[name]
        for element in value if isinstance(value, list) else [value]:
            _add(feature, element, name)
    return example


def _add(feature: Feature, element: Any, name: str) -> None:
    where = f"feature {name!r}"
    kind = feature.WhichOneof("kind")
    value: Any
    if isinstance(element, str):
        found, value = "bytes_list", json_tensors.encode_text(element, where)
    elif json_tensors.is_base64(element):
        found, value = "bytes_list", json_tensors.decode_base64(element, where)
    elif isinstance(element, int):  # true and false are 1 and 0
        found, value = "int64_list", int(element)
        if not -(2**63) <= value < 2**63:
            raise invalid(f"{where}: {value} is not an int64")
    elif isinstance(element, float):
        with np.errstate(over="ignore"):
            found, value = "float_list", float(np.float32(json_tensors.as_float(element, where)))
    else:
        raise invalid(f"{where} has an element with unexpected JSON type: {json_tensors.shown(element)}")
    if kind not in (None, found):
        raise invalid(f"Unexpected element type in {where}: {json_tensors.shown(element)} in a {kind}")
    getattr(feature, found).value.append(value)
