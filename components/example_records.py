"""Rows of an Arrow table as serialized Examples, written piece by piece: the bytes that protobuf itself would write.

A serialized Example is the concatenation of its features, sorted by name. The piece of a text or number that repeats is
made once, by protobuf; those of integers are put together as arrays.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import tensorflow as tf

from components.batches import coded, column, numbers_of
from components.examples import bytes_feature, floats_feature, ints_feature

_MAX_VARINT_BYTES = 10


def serialized_rows(rows: pa.Table) -> list[bytes]:
    """Each row as an Example of its values (text, int64, or numbers as float32) by the names of the columns.

    An absent value is an absent feature. Equal rows give equal bytes: those of `SerializeToString(deterministic=True)`.
    """
    pieces = [_pieces(name, column(rows, name)) for name in sorted(rows.column_names)]
    bodies = list(map(b"".join, zip(*pieces)))
    heads = {length: b"\n" + _varint(length) for length in set(map(len, bodies))}
    return [heads[len(body)] + body for body in bodies]


def _piece(name: str, feature: tf.train.Feature) -> bytes:
    return tf.train.Features(feature={name: feature}).SerializeToString()


def _pieces(name: str, array: pa.Array) -> list[bytes]:
    """Of each row the bytes of one feature; none where it is absent."""
    if pa.types.is_integer(array.type):
        pieces = np.full(len(array), b"", object)
        is_there = array.is_valid().to_numpy(zero_copy_only=False)
        pieces[is_there] = _integer_pieces(name, numbers_of(array, 0)[is_there])
        return pieces.tolist()
    if pa.types.is_floating(array.type):
        values, codes = coded(array.cast(pa.float32(), safe=False).view(pa.int32()))  # -0.0 is not 0.0
        distinct = [_piece(name, floats_feature([value])) for value in values.view(pa.float32()).to_pylist()]
    else:
        values, codes = coded(array)
        distinct = [_piece(name, bytes_feature([value])) for value in values.to_pylist()]
    distinct.append(b"")
    return [distinct[code] for code in codes.tolist()]


def _integer_pieces(name: str, values: np.ndarray) -> np.ndarray:
    """Objects [rows]."""
    pieces = np.empty(len(values), object)
    groups = values.astype(np.int64).view(np.uint64)[:, None] >> (7 * np.arange(_MAX_VARINT_BYTES, dtype=np.uint64))
    lengths = np.maximum((groups > 0).sum(1), 1)
    varints = ((groups & np.uint64(0x7F)) | np.uint64(0x80)).astype(np.uint8)
    varints[np.arange(len(values)), lengths - 1] &= 0x7F
    for length in np.unique(lengths):
        of_length = np.flatnonzero(lengths == length)
        head = _piece(name, ints_feature([int(values[of_length[0]])]))[: -int(length)]
        bytes_of = np.empty((len(of_length), len(head) + length), np.uint8)
        bytes_of[:, : len(head)] = np.frombuffer(head, np.uint8)
        bytes_of[:, len(head) :] = varints[of_length, :length]
        pieces[of_length] = bytes_of.view(f"V{bytes_of.shape[1]}").ravel().tolist()
    return pieces


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])
