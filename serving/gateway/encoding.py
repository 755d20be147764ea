"""An item's columns and media as the signature `encode_item` takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from components.contract import AUDIO_FEATURES, VIDEO_FEATURES
from components.media.extract import MediaArrays
from serving.gateway import messages

_ABSENT: dict[int, Any] = {
    messages.STRING: b"",
    messages.FLOAT: np.nan,
    messages.INT64: -1,
}
_DTYPES: dict[int, Any] = {messages.STRING: object, messages.FLOAT: np.float32, messages.INT64: np.int64}


def raw_features(item_id: str, fields: Mapping[str, Any], media: MediaArrays | None) -> dict[str, Any]:
    """The features of an item example: columns by their feature names, and those of its medium."""
    values = {name.replace(":", "_"): value for name, value in fields.items() if value is not None}
    values["item_id"] = item_id
    values["has_audio"] = int(media is not None and media.has_audio)
    values["has_video"] = int(media is not None and media.has_video)
    present = (*(AUDIO_FEATURES if values["has_audio"] else ()), *(VIDEO_FEATURES if values["has_video"] else ()))
    for feature in present:
        value = np.asarray(getattr(media, feature.name))
        values[feature.name] = value.tobytes() if feature.dtype == "uint8" else value.ravel()
    return values


def encode_inputs(
    specs: Mapping[str, messages.TensorSpec], items: Sequence[Mapping[str, Any]]
) -> dict[str, np.ndarray]:
    """The inputs of `encode_item` for a batch of `raw_features`; what is absent is "", NaN or -1, as the signature
    documents.

    Raises ValueError for an input of a type that items do not have.
    """
    inputs = {}
    for name, spec in specs.items():
        if spec.dtype not in _DTYPES:
            raise ValueError(f"encode_item: the input {name} has a type that items do not have")
        rows = [_row(item.get(name), spec.dtype) for item in items]
        if len(spec.shape) == 1:
            values = np.array([row[0] if row else _ABSENT[spec.dtype] for row in rows], _DTYPES[spec.dtype])
        else:
            width = spec.shape[1] if spec.shape[1] > 0 else max(1, *map(len, rows))
            values = np.full((len(rows), width), _ABSENT[spec.dtype], _DTYPES[spec.dtype])
            for at, row in enumerate(rows):
                values[at, : len(row)] = row[:width]
        inputs[name] = values
    return inputs


def _row(value: Any, dtype: int) -> list[Any]:
    if value is None:
        return []
    values = list(value) if isinstance(value, (list, tuple, np.ndarray)) else [value]
    if dtype == messages.STRING:
        return [one if isinstance(one, bytes) else str(one).encode() for one in values]
    return values
