"""Columns of interactions that grow user by user: in memory, or as files that are mapped when they are complete."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

import numpy as np

_REARRANGED_AT_ONCE = 250_000  # values


class Columns:
    """Appends arrays of equal length to named columns, and gives them back with their users in another order."""

    def __init__(self, dtypes: Mapping[str, type], folder: Path | None):
        """dtypes: name -> type of a column. folder: where the files are written; in memory where None."""
        self._dtypes, self._folder = dtypes, folder
        self._parts: dict[str, list[np.ndarray]] = {name: [] for name in dtypes}
        self._files: dict[str, IO[bytes]] = {}

    def __enter__(self) -> Columns:
        if self._folder:
            self._folder.mkdir(parents=True, exist_ok=True)
            for name in self._dtypes:
                self._files[name] = TemporaryFile(dir=self._folder)  # noqa: SIM115  (closed in __exit__)
        return self

    def __exit__(self, *error: object) -> None:
        for file in self._files.values():
            file.close()

    def append(self, **values: Any) -> None:
        """Append the values of some users, a sequence for each column; what is no column is left aside."""
        assert len({len(values[name]) for name in self._dtypes}) == 1, "columns are of one length"
        for name, dtype in self._dtypes.items():
            array: np.ndarray = np.asarray(values[name], dtype)
            if self._files:
                array.tofile(self._files[name])
            else:
                self._parts[name].append(array)

    def rearranged(self, splits: np.ndarray, order: np.ndarray) -> dict[str, np.ndarray]:
        """The columns with their users in another order, once; with a folder, mapped from one file each.

        splits: int64 [num_users + 1], the bounds of the users in the order in which they were appended. order: int64,
        their rows, as wanted.
        """
        found: dict[str, np.ndarray] = {}
        for name, dtype in self._dtypes.items():
            column = self._appended(name, dtype, int(splits[-1]))
            blocks = (column[at] for at in rows_in_blocks(splits, order))
            if self._folder is None:
                found[name] = np.empty(len(column), dtype)
                start = 0
                for block in blocks:
                    found[name][start : (start := start + len(block))] = block
                continue
            with (self._folder / name).open("wb") as file:
                for block in blocks:
                    block.tofile(file)
            found[name] = np.memmap(self._folder / name, dtype, "r") if len(column) else column
        return found

    def _appended(self, name: str, dtype: type, length: int) -> np.ndarray:
        if not length:
            return np.zeros(0, dtype)
        if not self._files:
            return np.concatenate(self._parts.pop(name))
        self._files[name].flush()
        return np.memmap(self._files[name], dtype, "r", shape=(length,))


def rows_in_blocks(splits: np.ndarray, order: np.ndarray):
    """The rows of the users in their new order: int64 arrays, each about `_REARRANGED_AT_ONCE` long."""
    lengths = np.diff(splits)[order]
    ends = np.cumsum(lengths)
    start = 0
    while start < len(order):
        before = ends[start] - lengths[start]
        stop = max(int(np.searchsorted(ends, before + _REARRANGED_AT_ONCE, "right")), start + 1)
        sizes = lengths[start:stop]
        offsets = np.repeat(splits[order[start:stop]] - (ends[start:stop] - sizes - before), sizes)
        yield offsets + np.arange(ends[stop - 1] - before)
        start = stop
