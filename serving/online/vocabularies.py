"""Names <-> places in a list, as files that travel inside the SavedModel."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf

_NO_NAME = "\0"


class Vocabularies:
    """Makes tables from files that stay until the SavedModel has its copies."""

    def __init__(self, owner: object):
        """owner: the files go when it does."""
        self._folder = tempfile.mkdtemp(prefix="zhiyin-vocabularies-")
        weakref.finalize(owner, shutil.rmtree, self._folder, ignore_errors=True)

    def table(self, names: Sequence[str], filename: str) -> tf.lookup.StaticHashTable:
        """A table from name to its line in the asset: 0 for unknown names, then the names. TensorFlow refuses an empty
        file or line.
        """
        unusable = [name for name in names if not name or set(name) & {"\n", "\r", _NO_NAME}]
        if unusable or len(set(names)) != len(names):
            raise ValueError(
                f"{filename}: ids must be distinct, not empty and on one line; got {unusable[:3] or 'repeated ids'}"
            )
        path = Path(self._folder, filename)
        path.write_text("".join(f"{name}\n" for name in [_NO_NAME, *names]), "utf-8")
        initializer = tf.lookup.TextFileInitializer(
            str(path), tf.string, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER
        )
        return tf.lookup.StaticHashTable(initializer, 0)


def lookup(table: tf.lookup.StaticHashTable, names: tf.Tensor) -> tf.Tensor:
    """Places of names in their list, int32, -1 for unknown ones."""
    return tf.cast(table.lookup(names), tf.int32) - 1
