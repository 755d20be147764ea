"""Rows as Arrow tables between Beam's steps, many at a time: packed into bytes, and gathered by their users."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc

NUM_BUCKETS = 64  # parts of a table by a hash of the user: what is done to a user's rows needs one of them in memory

_OPTIONS = pyarrow.ipc.IpcWriteOptions(compression="lz4")


def packed(rows: pa.Table) -> bytes:
    """A table in Arrow's stream format, compressed."""
    sink = pa.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, rows.schema, options=_OPTIONS) as stream:
        stream.write_table(rows)
    return sink.getvalue().to_pybytes()


def unpacked(batches: Iterable[bytes]) -> pa.Table:
    """All rows of packed tables of one schema, at least one."""
    tables = [pyarrow.ipc.open_stream(batch).read_all() for batch in batches]
    return pa.concat_tables(tables).combine_chunks()


def by_user(rows: pa.Table) -> Iterator[tuple[int, bytes]]:
    """(bucket, packed rows) of a table with `user_id`; a user is in one bucket, in every table and on every machine."""
    users, codes = coded(rows["user_id"])
    buckets = np.array([zlib.crc32(user) % NUM_BUCKETS for user in users.view(pa.binary()).to_pylist()], np.int64)[
        codes
    ]
    order = np.argsort(buckets, kind="stable")
    rows = rows.take(pa.array(order)).combine_chunks()
    present, starts = np.unique(buckets[order], return_index=True)
    for bucket, start, end in zip(present.tolist(), starts.tolist(), [*starts[1:].tolist(), rows.num_rows]):
        yield bucket, packed(rows.slice(start, end - start))


def column(rows: pa.Table, name: str) -> pa.Array:
    """A column in one piece."""
    whole = rows[name].combine_chunks()
    if isinstance(whole, pa.ChunkedArray):  # of a table without rows
        whole = whole.chunk(0) if whole.num_chunks else pa.array([], whole.type)
    return whole


def coded(values: pa.ChunkedArray | pa.Array) -> tuple[pa.Array, np.ndarray]:
    """Distinct values, and the place of each value among them, int64 [rows]; a null stands after the last."""
    array = pa.chunked_array([values]) if isinstance(values, pa.Array) else values
    encoded = array.combine_chunks().dictionary_encode()
    places = pc.fill_null(encoded.indices, len(encoded.dictionary))
    return encoded.dictionary, places.to_numpy(zero_copy_only=False).astype(np.int64)


def numbers_of(array: pa.Array, absent: float) -> np.ndarray:
    """A column of numbers, with a value for nulls."""
    return pc.fill_null(array, absent).to_numpy(zero_copy_only=False)
