"""What a training of the retrieval model has found beside its weights, as files in its SavedModel."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from components.settings import from_mapping
from trainer.config.retrieval import RetrievalConfig
from trainer.keras import tf

_FITTED_FILE = "assets.extra/fitted.json"
_MEASURED_FOLDER = "assets.extra/measured"


@dataclass(frozen=True)
class Fitted:
    """What a training has found beside the weights."""

    retrieval: RetrievalConfig  # its settings, with those of a search
    epochs: int  # after which validation was best

    @classmethod
    def of(cls, config: RetrievalConfig, logs: Mapping[str, Sequence[float]]) -> Fitted:
        """From the logs of all epochs, name -> a value each; where validation told nothing all of them counted."""
        values = np.asarray(logs.get(f"val_{config.metric}", []))
        return cls(config, len(logs["loss"]) if np.isnan(values).all() else int(np.nanargmax(values)) + 1)


def write_fitted(folder: str, fitted: Fitted) -> None:
    """Leaves what a training found in its SavedModel."""
    tf.io.gfile.makedirs(f"{folder}/{_FITTED_FILE.partition('/')[0]}")
    with tf.io.gfile.GFile(f"{folder}/{_FITTED_FILE}", "w") as file:
        file.write(json.dumps(asdict(fitted), sort_keys=True))


def read_fitted(folder: str) -> Fitted:
    """What `write_fitted` left."""
    with tf.io.gfile.GFile(f"{folder}/{_FITTED_FILE}") as file:
        return from_mapping(Fitted, json.loads(file.read()))


def write_measured(folder: str, features: Mapping[str, np.ndarray]) -> None:
    """Leaves what was measured of the items' content in a SavedModel. features: name -> [N, ...], a row an item."""
    tf.io.gfile.makedirs(f"{folder}/{_MEASURED_FOLDER}")
    for name, values in features.items():
        with tf.io.gfile.GFile(f"{folder}/{_MEASURED_FOLDER}/{name}.npy", "wb") as file:
            np.lib.format.write_array(file, values, allow_pickle=False)


def read_measured(folder: str) -> dict[str, np.ndarray]:
    """What `write_measured` left; nothing where the model is older."""
    found = {}
    for path in tf.io.gfile.glob(f"{folder}/{_MEASURED_FOLDER}/*.npy"):
        with tf.io.gfile.GFile(path, "rb") as file:
            found[Path(path).stem] = np.lib.format.read_array(file, allow_pickle=False)
    return found
