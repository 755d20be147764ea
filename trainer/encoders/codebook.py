"""A dictionary of spectro-temporal patches, learned from the sounds of a catalogue alone.

B tracks, S segments, F frames of 10 ms, M mel bins, P patches, D whitened dimensions, K atoms.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from sklearn.cluster import KMeans

from components.contract import AUDIO_FRAMES, AUDIO_MELS
from trainer.encoders.audio import dequantised, frame_mask
from trainer.encoders.blocks import Standardise, masked_mean
from trainer.encoders.modality import ContentEncoder
from trainer.keras import tf

CODEBOOK = "audio_codebook"  # name of the layer, and of its weights where they are stored
PATCH_FRAMES, HOP_FRAMES = 8, 4  # 80 ms of sound every 40 ms
DIMENSIONS, ATOMS = 48, 128
_THRESHOLD = 0.1  # cosine below which an atom is silent
_SMOOTHING = 0.05  # added to the variances in whitening, as a share of their mean
_PATCHES = 30_000  # that the dictionary is learned from
_ITERATIONS = 20
_BATCH = 32


class CodebookFit(NamedTuple):
    """How well a dictionary describes patches of tracks it was not learned from."""

    before: float  # share of a patch's energy that its nearest atom leaves, for atoms drawn at random
    after: float  # the same, as learned
    iterations: int


class PatchCodebook(ContentEncoder):
    """Encodes `audio_log_mel` uint8 [B, S, F, M] with `audio_num_frames` int64 [B, S] by how strongly patches of the
    sound resemble the atoms of a dictionary: mean and deviation over time, standardised, float [B, 2 K].

    Patches are whitened and of unit length; an atom answers by its cosine above a threshold.
    Sources: Coates & Ng, Learning Feature Representations with K-means, 2012; Dieleman & Schrauwen, Multiscale
    approaches to music audio feature learning, 2013.
    """

    inputs = ("audio_log_mel", "audio_num_frames")

    def __init__(self, **kwargs):
        super().__init__(name=CODEBOOK, **kwargs)
        self.standardise = Standardise()

    def build(self, input_shape):
        fixed = {"initializer": "zeros", "trainable": False}
        self.projection = self.add_weight("projection", [PATCH_FRAMES, AUDIO_MELS, DIMENSIONS], **fixed)
        self.offset = self.add_weight("offset", [DIMENSIONS], **fixed)
        self.atoms = self.add_weight("atoms", [DIMENSIONS, ATOMS], **fixed)
        super().build(input_shape)

    def call(self, features, training=None):
        return self.standardise(self.activity(features))

    def activity(self, features):
        """Mean and deviation of the atoms' answers over a track's patches: float [B, 2 K]; 0 without a patch."""
        mels = dequantised(features["audio_log_mel"])  # [B, S, F, M]
        segments = mels.shape[1]
        flat = tf.reshape(mels, [-1, AUDIO_FRAMES, AUDIO_MELS])
        whitened = tf.nn.conv1d(flat, self.projection, HOP_FRAMES, "VALID") + self.offset  # [B S, P, D]
        answers = tf.nn.relu(tf.math.l2_normalize(whitened, -1) @ self.atoms - _THRESHOLD)
        answers = tf.reshape(answers, [-1, segments, answers.shape[1], ATOMS])  # [B, S, P, K]
        is_whole = frame_mask(features["audio_num_frames"])[:, :, PATCH_FRAMES - 1 :: HOP_FRAMES]
        mean = masked_mean(answers, is_whole, [1, 2])
        variance = masked_mean((answers - mean[:, None, None]) ** 2, is_whole, [1, 2])
        return tf.concat([mean, tf.sqrt(variance + 1e-8)], -1)

    def learn(self, features: Mapping[str, np.ndarray], is_held_out: np.ndarray, seed: int) -> CodebookFit:
        """Learns the dictionary and the scales from R tracks.

        features: `audio_log_mel` uint8 [R, S, F, M], `audio_num_frames` int64 [R, S].
        is_held_out: bool [R], tracks that only measure how well it does.
        Raises ValueError where there are fewer patches than atoms.
        """
        random = np.random.default_rng(seed)
        patches = sample_patches(features, np.flatnonzero(~is_held_out), random)
        if len(patches) < ATOMS:
            raise ValueError(f"codebook: got {len(patches)} patches of sound, expected at least {ATOMS}")
        mean = patches.mean(0)
        values, vectors = np.linalg.eigh(np.cov(patches, rowvar=False))
        values, vectors = np.maximum(values[::-1][:DIMENSIONS], 0.0), vectors[:, ::-1][:, :DIMENSIONS]
        projection = vectors / np.sqrt(values + _SMOOTHING * values.mean() + 1e-12)

        def whitened(raw: np.ndarray) -> np.ndarray:
            projected = (raw - mean) @ projection
            return projected / np.maximum(np.linalg.norm(projected, axis=1, keepdims=True), 1e-9)

        known = whitened(patches)
        means = KMeans(ATOMS, n_init=1, max_iter=_ITERATIONS, random_state=seed).fit(known)
        atoms = means.cluster_centers_ / np.maximum(np.linalg.norm(means.cluster_centers_, axis=1, keepdims=True), 1e-9)
        if not self.built:
            self.build(None)
        self.projection.assign(projection.reshape(PATCH_FRAMES, AUDIO_MELS, DIMENSIONS).astype(np.float32))
        self.offset.assign((-mean @ projection).astype(np.float32))
        self.atoms.assign(atoms.T.astype(np.float32))
        starts = range(0, len(is_held_out), _BATCH)
        batches = ({name: tf.constant(features[name][s : s + _BATCH]) for name in self.inputs} for s in starts)
        self.standardise.fit(np.concatenate([self.activity(batch).numpy() for batch in batches]))
        others = whitened(sample_patches(features, np.flatnonzero(is_held_out), random))
        drawn = known[random.choice(len(known), ATOMS, replace=False)]
        return CodebookFit(_left(others, drawn), _left(others, atoms), int(means.n_iter_))


def sample_patches(features: Mapping[str, np.ndarray], rows: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Patches at random places of some tracks: float32 [at most _PATCHES, PATCH_FRAMES x M]; those that lie within the
    sound.

    rows: int, tracks among the features'.
    """
    counts = features["audio_num_frames"]
    if not len(rows):
        return np.zeros((0, PATCH_FRAMES * AUDIO_MELS), np.float32)
    chosen, segments = random.choice(rows, _PATCHES), random.integers(0, counts.shape[1], _PATCHES)
    room = counts[chosen, segments] - PATCH_FRAMES + 1
    chosen, segments, room = (values[room > 0] for values in (chosen, segments, room))
    starts = random.integers(0, room) if len(room) else room
    places = starts[:, None] + np.arange(PATCH_FRAMES)
    raw = features["audio_log_mel"][chosen[:, None], segments[:, None], places]  # [patches, PATCH_FRAMES, M]
    return dequantised(raw).numpy().reshape(-1, PATCH_FRAMES * AUDIO_MELS)


def _left(patches: np.ndarray, atoms: np.ndarray) -> float:
    """The mean over unit patches of the energy that the nearest atom leaves; NaN without patches."""
    return float((1 - ((patches @ atoms.T).max(1).clip(0.0)) ** 2).mean()) if len(patches) else float("nan")
