"""Many serialized Examples from Arrow tables and arrays: the bytes that protobuf itself would write, features by name.

An Example is its features one after another, sorted by name, each in a frame of lengths. The bytes of values are made
for a whole column at once; those of a text or number that repeats are made once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from components.batches import coded, column, numbers_of

_MAX_VARINT_BYTES = 10
_TEXTS, _FLOATS, _INTS = b"\x0a", b"\x12", b"\x1a"  # fields of tf.train.Feature: its kinds of lists
_FIRST, _SECOND = b"\x0a", b"\x12"  # any message's first and second field with a length


def serialized_rows(rows: pa.Table) -> list[bytes]:
    """Each row as an Example of its values (text, int64, or numbers as float32) by the names of the columns.

    An absent value is an absent feature. Equal rows give equal bytes: those of `SerializeToString(deterministic=True)`.
    """
    pieces = [_pieces(name, column(rows, name)) for name in sorted(rows.column_names)]
    return _examples(map(b"".join, zip(*pieces)))


def _pieces(name: str, array: pa.Array) -> list[bytes]:
    """Of each row the bytes of one feature; none where it is absent."""
    if pa.types.is_integer(array.type):
        pieces = np.full(len(array), b"", object)
        is_there = array.is_valid().to_numpy(zero_copy_only=False)
        pieces[is_there] = _integer_pieces(name, numbers_of(array, 0)[is_there])
        return pieces.tolist()
    if pa.types.is_floating(array.type):
        values, codes = coded(array.cast(pa.float32(), safe=False).view(pa.int32()))  # -0.0 is not 0.0
        lists = [_sized(_FIRST, value.tobytes()) for value in values.to_numpy().astype("<i4")]
        distinct = [_feature(name, _FLOATS, content) for content in lists]
    else:
        values, codes = coded(array)
        distinct = [_feature(name, _TEXTS, content) for content in _of_texts(values.to_pylist())]
    distinct.append(b"")
    return [distinct[code] for code in codes.tolist()]


def _integer_pieces(name: str, values: np.ndarray) -> np.ndarray:
    """Objects [rows]."""
    pieces = np.empty(len(values), object)
    varints, lengths = _varints(values)
    for length in np.unique(lengths).tolist():
        of_length = np.flatnonzero(lengths == length)
        head = _feature(name, _INTS, _sized(_FIRST, bytes(length)))[:-length]
        bytes_of = np.empty((len(of_length), len(head) + length), np.uint8)
        bytes_of[:, : len(head)] = np.frombuffer(head, np.uint8)
        bytes_of[:, len(head) :] = varints[of_length, :length]
        pieces[of_length] = bytes_of.view(f"V{bytes_of.shape[1]}").ravel().tolist()
    return pieces


class ListColumn(NamedTuple):
    """One feature of many Examples: each Example's values are a run of bytes."""

    kind: bytes
    data: bytes
    bounds: np.ndarray  # int64 [examples + 1], places in `data`

    @classmethod
    def of_texts(cls, texts: Sequence[str], codes: np.ndarray, starts: np.ndarray) -> ListColumn:
        """texts: distinct ones. codes: of the values, int64 [values]. starts: of the Examples' runs, int64 [examples].

        So in the others.
        """
        pieces = _of_texts(texts)
        lengths = np.array([len(piece) for piece in pieces], np.int64)[codes]
        data = b"".join([pieces[code] for code in codes.tolist()])
        return cls(_TEXTS, data, _bounds(lengths, starts))

    @classmethod
    def of_floats(cls, values: np.ndarray, starts: np.ndarray) -> ListColumn:
        """values: [values], kept as float32."""
        return cls(_FLOATS, values.astype("<f4").tobytes(), 4 * np.append(starts, len(values)))

    @classmethod
    def of_ints(cls, values: np.ndarray, starts: np.ndarray) -> ListColumn:
        """values: int64 or bool, [values]."""
        varints, lengths = _varints(values)
        data = varints[np.arange(_MAX_VARINT_BYTES) < lengths[:, None]].tobytes()
        return cls(_INTS, data, _bounds(lengths, starts))

    def features(self, name: str) -> list[bytes]:
        """Of each Example the bytes of the feature; no values are an empty list."""
        bounds = self.bounds.tolist()
        contents = [self.data[start:end] for start, end in zip(bounds, bounds[1:])]
        if self.kind != _TEXTS:
            contents = [_sized(_FIRST, content) if content else content for content in contents]  # packed
        return [_feature(name, self.kind, content) for content in contents]


def serialized_lists(columns: Mapping[str, ListColumn]) -> list[bytes]:
    """Examples of lists by the names of their features, as `SerializeToString(deterministic=True)` gives them."""
    features = [columns[name].features(name) for name in sorted(columns)]
    return _examples(map(b"".join, zip(*features)))


def _bounds(lengths: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Where each run of values begins in their joined bytes, and where the last one ends."""
    ends = np.concatenate([[0], np.cumsum(lengths)])
    return np.append(ends[starts], ends[-1])


def _of_texts(texts: Sequence[str]) -> list[bytes]:
    """Each as a value of a list of bytes."""
    return [_sized(_FIRST, text.encode()) for text in texts]


def _feature(name: str, kind: bytes, content: bytes) -> bytes:
    """An entry of an Example's map of features. content: of the list."""
    return _sized(_FIRST, _sized(_FIRST, name.encode()) + _sized(_SECOND, _sized(kind, content)))


def _examples(features: Iterable[bytes]) -> list[bytes]:
    return [_sized(_FIRST, content) for content in features]


def _sized(field: bytes, content: bytes) -> bytes:
    """A field with its length before it."""
    size = len(content)
    if size < 0x80:
        return field + _BYTES[size] + content
    found = bytearray(field)
    while size > 0x7F:
        found.append(size & 0x7F | 0x80)
        size >>= 7
    found.append(size)
    return bytes(found) + content


_BYTES = [bytes([number]) for number in range(0x80)]


def _varints(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers as protobuf writes them: uint8 [values, 10], and how many of the ten bytes they are, int64 [values]."""
    groups = values.astype(np.int64).view(np.uint64)[:, None] >> (7 * np.arange(_MAX_VARINT_BYTES, dtype=np.uint64))
    lengths = np.maximum((groups > 0).sum(1), 1)
    varints = ((groups & np.uint64(0x7F)) | np.uint64(0x80)).astype(np.uint8)
    varints[np.arange(len(values)), lengths - 1] &= 0x7F
    return varints, lengths
