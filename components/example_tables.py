"""Reads Examples as Arrow tables, or as the record batches of TFDV, many at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import tensorflow as tf
from apache_beam.io.filesystems import FileSystems
from tfx_bsl.coders.example_coder import ExamplesToRecordBatchDecoder

BATCH_EXAMPLES = 1 << 15
_DTYPES = {pa.string(): tf.string, pa.int64(): tf.int64, pa.float32(): tf.float32}


class ReadTables(beam.PTransform):
    """Reads the Examples of all gzipped TFRecords in a split's folder as tables.

    types: Arrow's of the features that are read, one value each: string, int64 or float32. An absent one is null.
    """

    def __init__(self, uri: str, types: Mapping[str, pa.DataType]):
        super().__init__()
        self._uri, self._types = uri, dict(types)

    def expand(self, pipeline: beam.Pipeline) -> Any:
        return pipeline | "SpreadFiles" >> _SpreadFiles(self._uri) | "ReadFiles" >> beam.FlatMap(_tables, self._types)


class ReadRecordBatches(beam.PTransform):
    """Reads the same as tfx_bsl's source gives them without a schema: of each feature a list for each Example.

    tfx_bsl takes the Examples one by one through Beam's steps before it decodes many at once.
    """

    def __init__(self, uri: str):
        super().__init__()
        self._uri = uri

    def expand(self, pipeline: beam.Pipeline) -> Any:
        read = beam.FlatMap(_record_batches).with_output_types(pa.RecordBatch)
        return pipeline | "SpreadFiles" >> _SpreadFiles(self._uri) | "ReadFiles" >> read


class _SpreadFiles(beam.PTransform):
    """→ the paths of a folder's files, each for a worker of its own."""

    def __init__(self, uri: str):
        super().__init__()
        self._uri = uri

    def expand(self, pipeline: beam.Pipeline) -> Any:
        return (
            pipeline
            | "NameFolder" >> beam.Create([f"{self._uri}/*"])
            | "ListFiles" >> beam.FlatMap(_files)
            | "SpreadFiles" >> beam.Reshuffle()
        )


def _files(pattern: str) -> list[str]:
    return [file.path for file in FileSystems.match([pattern])[0].metadata_list]


def _tables(path: str, types: Mapping[str, pa.DataType]) -> Iterator[pa.Table]:
    features = {name: tf.io.VarLenFeature(_DTYPES[kind]) for name, kind in types.items()}
    records = tf.data.TFRecordDataset(path, "GZIP").batch(BATCH_EXAMPLES)
    for batch in records.map(lambda some: (tf.size(some), tf.io.parse_example(some, features))):
        num_rows, found = batch
        yield pa.table({name: _column(found[name], int(num_rows), kind) for name, kind in types.items()})


def _record_batches(path: str) -> Iterator[pa.RecordBatch]:
    decoder = ExamplesToRecordBatchDecoder()
    for records in tf.data.TFRecordDataset(path, "GZIP").batch(BATCH_EXAMPLES).as_numpy_iterator():
        yield decoder.DecodeBatch(records.tolist())


def _column(found: tf.SparseTensor, num_rows: int, kind: pa.DataType) -> pa.Array:
    """The first value of each row; null where there is none."""
    rows, first = np.unique(found.indices[:, 0].numpy(), return_index=True)
    places = np.full(num_rows, -1)
    places[rows] = first
    values = found.values.numpy()
    # TensorFlow gives text as bytes; the cast refuses what is no UTF-8.
    array = pa.array(values.tolist(), pa.binary()).cast(pa.string()) if kind == pa.string() else pa.array(values, kind)
    return array.take(pa.array(places, mask=places < 0))
