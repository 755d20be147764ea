"""Encoders learn from the catalogue alone: words are hidden and guessed, patches of sounds and pictures hidden and restored.

B items, P tokens (words or patches), W width, V words of the vocabulary, E values of a patch.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence

import numpy as np
from tqdm import tqdm

from trainer.config.retrieval import EncoderConfig, PretrainingConfig
from trainer.data import ItemTable
from trainer.encoders.text import trimmed
from trainer.keras import tf

_FILE = "weights.npz"
_HELD_OUT = 0.1  # share of the items that decides when a modality stops
_HELD_OUT_DRAWS = 4  # masks drawn for each of them
_UNKNOWN = 1  # word id that stands for all rare words: nothing to guess
_AS_MASK, _AS_OTHER = (
    0.8,
    0.1,
)  # of the chosen words; the rest stays, so that an encoder cannot trust what it sees (Devlin et al., 2019)


class MaskedWords(tf.keras.layers.Layer):
    """BERT's objective (Devlin et al., 2019) on a TextEncoder: `text_tokens` int64 [B, T] -> mean cross-entropy of the hidden words."""

    def __init__(self, encoder, share: float, config: EncoderConfig, **kwargs):
        super().__init__(**kwargs)
        self.encoder, self.share = encoder, share
        self.stand_in = self.add_weight(
            "stand_in", [config.width], initializer=tf.keras.initializers.RandomNormal(stddev=0.01)
        )
        self.normalise = tf.keras.layers.LayerNormalization()
        self.decode = tf.keras.layers.Dense(config.width, activation="gelu")
        self.logits = tf.keras.layers.Dense(encoder.vectors.input_dim)

    def call(self, features, training=None):
        words = trimmed(features["text_tokens"])
        mask = words > 0
        hidden = hide(words > _UNKNOWN, self.share)
        lottery = tf.random.uniform(tf.shape(words))
        others = tf.random.uniform(
            tf.shape(words), _UNKNOWN + 1, max(self.encoder.vectors.input_dim, _UNKNOWN + 2), words.dtype
        )
        seen = tf.where(hidden & (lottery >= 1 - _AS_OTHER), others, words)
        vectors = tf.where((hidden & (lottery < _AS_MASK))[..., None], self.stand_in, self.encoder.vectors(seen))
        tokens = self.encoder.read(vectors, mask, training=training)
        logits = self.logits(self.decode(self.normalise(tokens[:, 1:] + tokens[:, :1])))  # [B, T, V]
        errors = tf.nn.sparse_softmax_cross_entropy_with_logits(words, logits)
        return _mean_where(errors, hidden)


class MaskedPatches(tf.keras.layers.Layer):
    """The masked autoencoder's objective (He et al., MAE, 2022) on an AudioEncoder or VideoEncoder: mean squared error of the hidden
    patches, each brought to mean 0 and deviation 1, so that 1 is the error of knowing nothing.
    """

    def __init__(self, encoder, share: float, config: EncoderConfig, **kwargs):
        super().__init__(**kwargs)
        self.encoder, self.share = encoder, share
        self.stand_in = self.add_weight(
            "stand_in", [config.width], initializer=tf.keras.initializers.RandomNormal(stddev=0.02)
        )
        self.normalise = tf.keras.layers.LayerNormalization()
        self.decode = tf.keras.layers.Dense(2 * config.width, activation="gelu")
        self.restore = tf.keras.layers.Dense(encoder.cell_size)

    def call(self, features, training=None):
        cells, mask = self.encoder.cells(features)  # [B, P, E], [B, P]
        hidden = hide(mask, self.share)
        shown = tf.where(hidden[..., None], self.stand_in, self.encoder.project_patches(cells))
        leading = self.encoder.leading(features, training=training)
        tokens = self.encoder.summary.refine(leading, self.encoder.place(shown), mask, training=training)
        restored = self.restore(self.decode(self.normalise(tokens[:, 1:] + tokens[:, :1])))
        errors = tf.reduce_mean((restored - unit_cells(cells)) ** 2, -1)
        return _mean_where(errors, hidden)


def unit_cells(cells):
    """Each patch with mean 0 and deviation 1: float [B, P, E]; an even one is 0."""
    mean, variance = tf.nn.moments(cells, -1, keepdims=True)
    return (cells - mean) / tf.sqrt(variance + 1e-6)


def hide(there, share: float):
    """A random `share` of the tokens that are there, at least one of each item that has any: bool [B, P] -> bool [B, P]."""
    lottery = tf.where(there, tf.random.uniform(tf.shape(there)), 2.0)
    count = tf.reduce_sum(tf.cast(there, tf.float32), 1, keepdims=True)
    wanted = tf.maximum(tf.round(share * count), 1.0)
    rank = tf.argsort(tf.argsort(lottery, 1), 1)  # 0 = drawn first
    return there & (tf.cast(rank, tf.float32) < wanted)


def pretrain(
    encoders: Mapping[str, tf.keras.layers.Layer], table: ItemTable, encoder: EncoderConfig, config: PretrainingConfig
) -> dict:
    """Train each encoder on all items that have its modality, whether anybody played them or not; its scales are measured, its features
    in the table (`ItemTower.prepare`'s). A modality stops when the error on items held out (by hash of their id) no longer falls.

    Returns modality -> {"before", "after": held-out error, "epochs", "items"}.
    """
    report = {}
    for name, layer in encoders.items():
        tf.keras.utils.set_random_seed(config.seed)
        rows = np.flatnonzero(table.arrays[f"has_{name}"])
        if name == "text":
            model: tf.keras.layers.Layer = MaskedWords(layer, config.mask_words, encoder)
        else:
            model = MaskedPatches(layer, config.mask_patches, encoder)
        report[name] = _fit(model, table, rows, config, name)
    return report


def _fit(
    model: tf.keras.layers.Layer, table: ItemTable, rows: np.ndarray, config: PretrainingConfig, name: str
) -> dict[str, float]:
    columns = [column for column in table.arrays if column.startswith(f"{name}_")]
    is_held_out = np.array([_share(table.item_ids[row]) < _HELD_OUT for row in rows])
    training, held_out = rows[~is_held_out], np.repeat(rows[is_held_out], _HELD_OUT_DRAWS)
    model({column: tf.constant(array) for column, array in table.take(rows[:1], columns).items()})  # builds every layer
    optimizer = tf.keras.optimizers.AdamW(config.learning_rate, weight_decay=config.weight_decay)
    optimizer.build(model.trainable_variables)

    @tf.function(reduce_retracing=True)
    def step(features):
        with tf.GradientTape() as tape:
            loss = model(features, training=True)
        variables = model.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables))
        return loss

    @tf.function(reduce_retracing=True)
    def error(features):
        return model(features, training=False)

    def batches(order: np.ndarray):
        for start in range(0, len(order), config.batch_size):
            part = table.take(np.sort(order[start : start + config.batch_size]), columns)
            yield {column: tf.constant(array) for column, array in part.items()}

    def held_out_error() -> float:
        tf.random.set_seed(config.seed)  # the same masks each time
        return (
            float(np.mean([error(features).numpy() for features in batches(held_out)]))
            if len(held_out)
            else float("nan")
        )

    generator = np.random.default_rng(config.seed)
    errors, best = [held_out_error()], [variable.numpy() for variable in model.variables]
    for epoch in tqdm(range(config.epochs), desc=f"pretraining of {name}", unit="epoch", disable=None, leave=False):
        tf.random.set_seed(config.seed + epoch + 1)
        for features in batches(generator.permutation(training)):
            step(features)
        errors.append(held_out_error())
        if not len(held_out) or errors[-1] <= min(errors):
            best = [variable.numpy() for variable in model.variables]
        if len(held_out) and epoch + 1 - int(np.argmin(errors)) >= config.patience:
            break
    for variable, value in zip(model.variables, best):
        variable.assign(value)
    stopped = int(np.argmin(errors)) if len(held_out) else len(errors) - 1
    return {"before": errors[0], "after": errors[stopped], "epochs": stopped, "items": len(rows)}


def _mean_where(errors, hidden):
    weights = tf.cast(hidden, errors.dtype)
    return tf.reduce_sum(errors * weights) / tf.maximum(tf.reduce_sum(weights), 1.0)


def _share(item_id: bytes) -> float:
    return int.from_bytes(hashlib.blake2b(b"pretraining:" + item_id, digest_size=8).digest(), "big") / 2**64


def write_weights(encoders: Mapping[str, tf.keras.layers.Layer], folder: str) -> None:
    """All weights of the encoders, scales included, as `weights.npz` in a folder or bucket."""
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
    """What `write_weights` wrote: modality -> the weights of its encoder, in their order."""
    with tf.io.gfile.GFile(f"{folder}/{_FILE}", "rb") as file, np.load(io.BytesIO(file.read())) as stored:
        names = dict.fromkeys(key.partition("/")[0] for key in stored)
        return {
            name: [stored[f"{name}/{place}"] for place in range(sum(key.startswith(f"{name}/") for key in stored))]
            for name in names
        }


def initialise(encoder: tf.keras.layers.Layer, weights: Sequence[np.ndarray]) -> None:
    """Give a built encoder pretrained weights.

    Raises ValueError where they are those of another encoder.
    """
    expected, got = [tuple(weight.shape) for weight in encoder.weights], [weight.shape for weight in weights]
    if expected != got:
        raise ValueError(
            f"pretrained weights of {encoder.name}: shapes differ from its own; pretrain with the same `retrieval.encoder` and catalogue"
        )
    encoder.set_weights(weights)
