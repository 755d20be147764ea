"""Self-supervised pretraining of the content encoders on the catalogue: masked words and masked patches are predicted,
and a dictionary of the patches of its sounds is learned.

B items, P tokens (words or patches), W width of a token, V words of the vocabulary, E values of a patch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from trainer.config.encoder import EncoderConfig
from trainer.config.pretraining import PretrainingConfig
from trainer.data import ItemTable
from trainer.encoders.codebook import PatchCodebook
from trainer.encoders.modality import Modality
from trainer.encoders.text import TextEncoder, trimmed
from trainer.keras import tf
from trainer.loop import EpochLog, ProgressBar, Stopping, run_epochs

_HELD_OUT = 0.1  # share of the items that decides when a modality stops
_HELD_OUT_DRAWS = 4  # masks drawn for each of them
_SOUNDS = 4_000  # items whose sounds the dictionary of patches is learned from
_UNKNOWN = 1  # word id that stands for all rare words: nothing to guess
_AS_MASK, _AS_OTHER = 0.8, 0.1  # shares of the chosen words; the rest stays as it is (Devlin et al., 2019)


class MaskedWords(tf.keras.layers.Layer):
    """Masked language modelling with a TextEncoder: the mean cross-entropy of the hidden words of `text_tokens` int64
    [B, P].

    Source: Devlin et al., BERT, 2019.
    """

    def __init__(self, encoder, share: float, config: EncoderConfig, **kwargs):
        super().__init__(**kwargs)
        self.encoder, self.share = encoder, share
        self.mask_token = self.add_weight(
            "mask_token", [config.width], initializer=tf.keras.initializers.RandomNormal(stddev=0.01)
        )
        self.normalise = tf.keras.layers.LayerNormalization()
        self.decode = tf.keras.layers.Dense(config.width, activation="gelu")
        self.logits = tf.keras.layers.Dense(encoder.vectors.input_dim)

    def call(self, features, training=None):
        words = trimmed(features["text_tokens"])
        mask = words > 0
        hidden = hide(words > _UNKNOWN, self.share)
        noise = tf.random.uniform(tf.shape(words))
        others = tf.random.uniform(
            tf.shape(words), _UNKNOWN + 1, max(self.encoder.vectors.input_dim, _UNKNOWN + 2), words.dtype
        )
        seen = tf.where(hidden & (noise >= 1 - _AS_OTHER), others, words)
        vectors = tf.where((hidden & (noise < _AS_MASK))[..., None], self.mask_token, self.encoder.vectors(seen))
        tokens = self.encoder.read(vectors, mask, training=training)
        logits = self.logits(self.decode(self.normalise(tokens[:, 1:] + tokens[:, :1])))  # [B, P, V]
        errors = tf.nn.sparse_softmax_cross_entropy_with_logits(words, logits)
        return _mean_where(errors, hidden)


class MaskedPatches(tf.keras.layers.Layer):
    """Masked autoencoding with an AudioEncoder or a VideoEncoder: the mean squared error of the hidden patches.

    Each patch is normalised to mean 0 and deviation 1, so that an error of 1 is that of predicting the mean.
    Source: He et al., Masked Autoencoders, 2022.
    """

    def __init__(self, encoder, share: float, config: EncoderConfig, **kwargs):
        super().__init__(**kwargs)
        self.encoder, self.share = encoder, share
        self.mask_token = self.add_weight(
            "mask_token", [config.width], initializer=tf.keras.initializers.RandomNormal(stddev=0.02)
        )
        self.normalise = tf.keras.layers.LayerNormalization()
        self.decode = tf.keras.layers.Dense(2 * config.width, activation="gelu")
        self.restore = tf.keras.layers.Dense(encoder.patch_size)

    def call(self, features, training=None):
        patches, mask = self.encoder.patches(features)  # [B, P, E], [B, P]
        hidden = hide(mask, self.share)
        shown = tf.where(hidden[..., None], self.mask_token, self.encoder.project_patches(patches))
        leading = self.encoder.leading(features, training=training)
        tokens = self.encoder.transformer.refine(leading, self.encoder.place(shown), mask, training=training)
        restored = self.restore(self.decode(self.normalise(tokens[:, 1:] + tokens[:, :1])))
        errors = tf.reduce_mean((restored - normalised(patches)) ** 2, -1)
        return _mean_where(errors, hidden)


def normalised(patches):
    """Scales each patch to mean 0 and deviation 1: float [B, P, E]; one of a single value becomes 0."""
    mean, variance = tf.nn.moments(patches, -1, keepdims=True)
    return (patches - mean) / tf.sqrt(variance + 1e-6)


def hide(there, share: float):
    """Chooses the tokens to be masked: a random `share` of those that are there, at least one of each item with any.

    there: bool [B, P].
    Returns bool [B, P].
    """
    noise = tf.where(there, tf.random.uniform(tf.shape(there)), 2.0)
    count = tf.reduce_sum(tf.cast(there, tf.float32), 1, keepdims=True)
    wanted = tf.maximum(tf.round(share * count), 1.0)
    rank = tf.argsort(tf.argsort(noise, 1), 1)  # 0 = drawn first
    return there & (tf.cast(rank, tf.float32) < wanted)


def pretrain(
    modalities: Sequence[Modality],
    table: ItemTable,
    encoder: EncoderConfig,
    config: PretrainingConfig,
    log_dir: str = "",
) -> dict[str, dict[str, float]]:
    """Pretrains each modality's encoder on all items that have it, with or without interactions.

    An encoder stops when the error on items held out (by hash of their id) no longer falls.
    table: prepared by the item tower of the modalities, which has measured the encoders' scales.
    log_dir: where TensorBoard's logs go, a folder a modality; none are written where empty.
    Returns modality -> {"before", "after": held-out error, NaN where no item is held out, "epochs", "items"}.
    """
    report = {}
    for modality in modalities:
        tf.keras.utils.set_random_seed(config.seed)
        rows = np.flatnonzero(table.arrays[str(modality.flag)])
        model: tf.keras.layers.Layer = (
            MaskedWords(modality.encoder, config.mask_words, encoder)
            if isinstance(modality.encoder, TextEncoder)
            else MaskedPatches(modality.encoder, config.mask_patches, encoder)
        )
        bar = ProgressBar(f"pretraining of {modality.name}")
        callbacks = [bar, EpochLog(f"{log_dir}/{modality.name}")] if log_dir else [bar]
        report[modality.name] = _fit(model, table, rows, config, modality, callbacks)
    return report


def learn_codebook(table: ItemTable, seed: int) -> tuple[PatchCodebook, dict[str, float]]:
    """Learns the dictionary of patches from the table's sounds, of at most _SOUNDS items.

    Returns it and the report of `pretrain`: the error is the share of a patch's energy that its nearest atom leaves.
    """
    rows = np.flatnonzero(table.arrays["has_audio"])
    rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), _SOUNDS)).astype(int)]
    is_held_out = np.array([_share(table.item_ids[row]) < _HELD_OUT for row in rows])
    codebook = PatchCodebook()
    fit = codebook.learn(table.take(rows, codebook.inputs), is_held_out, seed)
    return codebook, {"before": fit.before, "after": fit.after, "epochs": fit.iterations, "items": len(rows)}


def _fit(
    model: tf.keras.layers.Layer,
    table: ItemTable,
    rows: np.ndarray,
    config: PretrainingConfig,
    modality: Modality,
    callbacks: Sequence[tf.keras.callbacks.Callback],
) -> dict[str, float]:
    """Trains one encoder on items int [R] until the error on the held-out ones stops falling."""
    columns = modality.columns
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
        return float(np.mean([error(features).numpy() for features in batches(held_out)]))

    generator = np.random.default_rng(config.seed)

    def train_epoch(epoch: int) -> float:
        tf.random.set_seed(config.seed + epoch + 1)
        return float(np.mean([step(features).numpy() for features in batches(generator.permutation(training))]))

    stopping, before = None, float("nan")
    if len(held_out):
        before = held_out_error()
        stopping = Stopping("error", held_out_error, config.patience, higher_is_better=False, start_value=before)
    progress = run_epochs(train_epoch, model.trainable_variables, config.epochs, stopping, callbacks)
    if stopping is None:
        return {"before": before, "after": float("nan"), "epochs": progress.epoch, "items": len(rows)}
    return {"before": before, "after": progress.best_value, "epochs": progress.best_epoch + 1, "items": len(rows)}


def _mean_where(errors, hidden):
    """The mean of the errors [B, P] of the hidden tokens, 0 where none is hidden."""
    weights = tf.cast(hidden, errors.dtype)
    return tf.reduce_sum(errors * weights) / tf.maximum(tf.reduce_sum(weights), 1.0)


def _share(item_id: bytes) -> float:
    """Where the item's hash lies between 0 and 1."""
    return int.from_bytes(hashlib.blake2b(b"pretraining:" + item_id, digest_size=8).digest(), "big") / 2**64
