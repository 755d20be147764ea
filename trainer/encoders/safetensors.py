"""Reads the safetensors format: eight bytes with the header's length, a JSON header, then the arrays' bytes, all little-endian."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

_DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U8": "u1",
    "BOOL": "?",
}
_MAX_HEADER_BYTES = 100 << 20


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """All arrays of a file, by name; bfloat16 comes as float32, everything else as it is.

    Raises ValueError where the file is cut short or is something else.
    """
    content = np.memmap(path, np.uint8, "r") if path.stat().st_size else np.zeros(0, np.uint8)
    length = int.from_bytes(content[:8].tobytes(), "little")
    if len(content) < 8 or not 0 < length <= min(_MAX_HEADER_BYTES, len(content) - 8):
        raise ValueError(f"{path}: got {len(content)} bytes with a header of {length}, expected a safetensors file")
    try:
        header = json.loads(content[8 : 8 + length].tobytes())
    except ValueError as error:
        raise ValueError(f"{path}: the header is not JSON: {error}") from error
    data = content[8 + length :]
    return {name: _array(data, entry, f"{path}: {name}") for name, entry in header.items() if name != "__metadata__"}


def _array(data: np.ndarray, entry: dict, where: str) -> np.ndarray:
    start, stop = entry["data_offsets"]
    kind = _DTYPES.get(entry["dtype"])
    if kind is None:
        raise ValueError(f"{where}: got dtype {entry['dtype']}, expected one of {', '.join(_DTYPES)}")
    size = int(np.prod(entry["shape"], dtype=np.int64)) * np.dtype(kind).itemsize
    if not 0 <= start <= stop <= len(data) or stop - start != size:
        raise ValueError(
            f"{where}: got bytes {start} to {stop} of {len(data)}, expected {size}; the file is cut short or damaged"
        )
    values = np.frombuffer(data[start:stop].tobytes(), kind).reshape(entry["shape"])
    if entry["dtype"] != "BF16":
        return values
    return (values.astype(np.uint32) << 16).view(np.float32)  # bfloat16 is the upper half of a float32
