"""Weights that PyTorch stored in its format before 1.6, as arrays, without PyTorch and without running what they say.

The format is a row of pickles (magic number, version, machine, tensors, names of the storages) and then the storages.
Nothing but what tensors are made of is unpickled.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

_MAGIC = 0x1950A86A20F9469CFC6C
_STORAGES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


def read_weights(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a state dict by name: float32 or int64.

    Raises ValueError for a file of another kind, one that is cut off, and one that names anything but tensors.
    """
    try:
        with path.open("rb") as file:
            return _read(file)
    except (pickle.UnpicklingError, EOFError, AttributeError, IndexError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: no weights in PyTorch's older format ({error})") from error


def _read(file: IO[bytes]) -> dict[str, np.ndarray]:
    storages: dict[str, np.ndarray] = {}
    if _Tensors(file, storages).load() != _MAGIC:
        raise pickle.UnpicklingError("another magic number")
    for _ in ("version", "machine"):
        _Tensors(file, storages).load()
    tensors = dict(_Tensors(file, storages).load())
    for key in _Tensors(file, storages).load():
        storage = storages[key]
        if int.from_bytes(file.read(8), "little") != storage.size or file.readinto(storage) != storage.nbytes:  # type: ignore[attr-defined]
            raise pickle.UnpicklingError("cut off")
    return tensors


class _Tensors(pickle.Unpickler):
    """Reads tensors as views of storages that are filled later."""

    def __init__(self, file: IO[bytes], storages: dict[str, np.ndarray]) -> None:
        super().__init__(file)
        self._storages = storages

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        raise pickle.UnpicklingError(f"names {module}.{name}")

    def persistent_load(self, found: Any) -> np.ndarray:
        _, dtype, key, _, size, _ = found
        return self._storages.setdefault(key, np.zeros(size, dtype))


def _tensor(storage: np.ndarray, start: int, shape: Sequence[int], strides: Sequence[int], *_: object) -> np.ndarray:
    last = start + sum((size - 1) * step for size, step in zip(shape, strides))
    if start < 0 or min((*shape, *strides), default=0) < 0 or last >= storage.size:
        raise pickle.UnpicklingError("a tensor beyond its storage")
    return np.lib.stride_tricks.as_strided(storage[start:], shape, [step * storage.itemsize for step in strides])
