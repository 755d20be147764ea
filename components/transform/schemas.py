"""The curated TFDV schemas, derived from the contract and the settings instead of from data that happens to be there.

Required columns must be in every example; an optional one may be absent, everywhere too. Numbers are finite; a
duration is not negative; times lie where they can. What a row can be rejected for has been rejected before, with its
line: by the reader, and, what depends on other tables and settings (kinds of events, names of splits), when sequences
are made.
"""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from components.config import DataConfig
from components.contract import AUDIO_FEATURES, EVENTS, VIDEO_FEATURES, Column, Feature, catalogue_columns
from components.examples import SOURCE_FILE, SOURCE_LINE, feature_name
from components.tables.times import WIDEST_SPAN, WIDEST_SPANS

_COLUMN_TYPES = {
    "time": schema_pb2.INT,
    "number": schema_pb2.FLOAT,
    "embedding": schema_pb2.FLOAT,
}  # any other kind is bytes
_FEATURE_TYPES = {
    "string": schema_pb2.BYTES,
    "uint8": schema_pb2.BYTES,
    "int64": schema_pb2.INT,
    "float32": schema_pb2.FLOAT,
}


def catalogue_schema(data: DataConfig) -> schema_pb2.Schema:
    """The schema of catalogue and of item examples; the media features and what encoders add are optional."""
    schema = schema_pb2.Schema()
    for column in catalogue_columns(data):
        _add_column(schema, column)
    for feature in AUDIO_FEATURES + VIDEO_FEATURES:
        _add_feature(schema, feature)
    for name, length in data.pieces.items():
        _add_feature(schema, Feature(f"pieces_{name}", "int64", (length,), "ids"))
    for flag in ("has_audio", "has_video"):
        _add_feature(schema, Feature(flag, "int64", (), "0 or 1")).int_domain.CopyFrom(
            schema_pb2.IntDomain(min=0, max=1)
        )
    return schema


def events_schema() -> schema_pb2.Schema:
    """The schema of event examples, the places of their rows included."""
    schema = schema_pb2.Schema()
    for column in EVENTS:
        _add_column(schema, column)
    _add_feature(schema, Feature(SOURCE_FILE, "string", (), "file"))
    _add_feature(schema, Feature(SOURCE_LINE, "int64", (), "1-based line"))
    return schema


def write_schema(schema: schema_pb2.Schema, folder: str | Path) -> str:
    """Write `schema.pbtxt` into a folder and return the fingerprint of its content."""
    text = text_format.MessageToString(schema)
    path = Path(folder) / "schema.pbtxt"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text("utf-8") != text:
        path.write_text(text, "utf-8")
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _add_column(schema: schema_pb2.Schema, column: Column) -> schema_pb2.Feature:
    feature = schema.feature.add(name=feature_name(column), type=_COLUMN_TYPES.get(column.kind, schema_pb2.BYTES))
    if column.required:
        feature.presence.CopyFrom(schema_pb2.FeaturePresence(min_fraction=1.0, min_count=1))
        feature.shape.SetInParent()  # exactly one value, a scalar
    else:
        low, high = {"list": (1, None), "embedding": (column.dim, column.dim)}.get(column.kind, (1, 1))
        feature.value_count.CopyFrom(schema_pb2.ValueCount(min=low, max=high))
    if column.kind == "time":
        span = WIDEST_SPANS.get(column.name, WIDEST_SPAN)
        feature.int_domain.CopyFrom(schema_pb2.IntDomain(min=span.first, max=span.end - 1))
    if column.kind in ("number", "embedding"):
        feature.float_domain.CopyFrom(schema_pb2.FloatDomain(disallow_nan=True, disallow_inf=True))
    if column.above_zero:
        feature.float_domain.min = 0
    return feature


def _add_feature(schema: schema_pb2.Schema, feature: Feature) -> schema_pb2.Feature:
    added = schema.feature.add(name=feature.name, type=_FEATURE_TYPES[feature.dtype])
    count = 1 if feature.dtype == "uint8" else math.prod(feature.shape)
    added.value_count.CopyFrom(schema_pb2.ValueCount(min=count, max=count))
    if feature.dtype == "float32":
        added.float_domain.CopyFrom(schema_pb2.FloatDomain(disallow_nan=True, disallow_inf=True))
    return added
