"""Weights of content encoders on disk: pretraining writes them, the item tower starts from them."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np

from trainer.keras import tf

_FILE = "weights.npz"


def write_weights(encoders: Mapping[str, tf.keras.layers.Layer], folder: str) -> None:
    """Writes all weights of the encoders, scales included, as `weights.npz` into a folder or bucket.

    encoders: modality -> encoder.
    """
    stored = io.BytesIO()
    np.savez(
        stored,
        **{
            f"{name}/{place}": value
            for name, layer in encoders.items()
            for place, value in enumerate(layer.get_weights())
        },
    )
    with tf.io.gfile.GFile(f"{folder}/{_FILE}", "wb") as file:
        file.write(stored.getvalue())


def read_weights(folder: str) -> dict[str, list[np.ndarray]]:
    """Reads what `write_weights` wrote: modality -> the weights of its encoder, in their order."""
    with tf.io.gfile.GFile(f"{folder}/{_FILE}", "rb") as file, np.load(io.BytesIO(file.read())) as stored:
        names = dict.fromkeys(key.partition("/")[0] for key in stored)
        return {
            name: [stored[f"{name}/{place}"] for place in range(sum(key.startswith(f"{name}/") for key in stored))]
            for name in names
        }


def initialise(encoder: tf.keras.layers.Layer, weights: Sequence[np.ndarray]) -> None:
    """Sets the weights of a built encoder. Raises ValueError where they are those of another encoder."""
    expected, got = [tuple(weight.shape) for weight in encoder.weights], [weight.shape for weight in weights]
    if expected != got:
        raise ValueError(
            f"pretrained weights of {encoder.name}: shapes differ from its own; "
            "pretrain with the same `retrieval.encoder` and catalogue"
        )
    encoder.set_weights(weights)
