"""Key frames -> one token: statistics of colour, light, edges and motion lead a Transformer over patches in space and time.

B items, K key frames, H x W pixels, C channels, P patches.
"""

from __future__ import annotations

import keras_nlp
import numpy as np

from components.contract import VIDEO_HEIGHT, VIDEO_KEY_FRAMES, VIDEO_WIDTH
from trainer.config import EncoderConfig
from trainer.encoders.blocks import Standardise, Summary, keep_some, masked_mean
from trainer.keras import tf

HUES = 12  # bins around the colour circle
ORIENTATIONS = 8  # bins of edge direction, over half a turn
GRID = 3  # cells a side of the layout


class VideoEncoder(tf.keras.layers.Layer):
    """`video_frames` uint8 [B, K, H, W, 3], `video_times_s` float [B, K], `video_num_frames` int64 [B] -> [B, width].

    `video_statistics` float [B, E], where it is given, stands in for its calculation. Patches as in ViViT (Arnab et al., 2021).
    """

    inputs = ("video_frames", "video_times_s", "video_num_frames")

    def __init__(self, config: EncoderConfig, **kwargs):
        super().__init__(**kwargs)
        self.pixels = config.video_patch_pixels
        if VIDEO_HEIGHT % self.pixels or VIDEO_WIDTH % self.pixels:
            raise ValueError(f"video_patch_pixels: got {self.pixels}, expected a divisor of {VIDEO_HEIGHT} and {VIDEO_WIDTH}")
        self.keep_tokens = config.keep_tokens
        self.standardise = Standardise()
        self.project_statistics = tf.keras.layers.Dense(config.width)
        self.project_patches = tf.keras.layers.Dense(config.width)
        self.space = keras_nlp.layers.PositionEmbedding(VIDEO_HEIGHT // self.pixels * (VIDEO_WIDTH // self.pixels))
        self.time = keras_nlp.layers.SinePositionEncoding()
        self.summary = Summary(config)
        self.dropout = tf.keras.layers.Dropout(config.dropout)
        self.has_blocks = config.layers > 0

    def call(self, features, training=None):
        statistics = features.get("video_statistics")
        if statistics is None:
            statistics = video_statistics(features["video_frames"], features["video_times_s"], features["video_num_frames"])
        leading = self.project_statistics(self.dropout(self.standardise(statistics), training=training))
        if not self.has_blocks:
            return leading
        patches, mask = self.patches(features)
        patches, mask = keep_some(patches, mask, self.keep_tokens, training)
        return self.summary(leading, patches, mask, training=training)

    def patches(self, features):
        """Patch tokens [B, P, width] and their mask [B, P]."""
        frames = tf.cast(features["video_frames"], tf.float32) / 127.5 - 1
        rows, columns = VIDEO_HEIGHT // self.pixels, VIDEO_WIDTH // self.pixels
        frames = tf.reshape(frames, [-1, VIDEO_KEY_FRAMES, rows, self.pixels, columns, self.pixels, 3])
        cells = tf.transpose(frames, [0, 1, 2, 4, 3, 5, 6])
        tokens = self.project_patches(tf.reshape(cells, [-1, rows * columns, self.pixels * self.pixels * 3]))
        tokens = tf.reshape(tokens + self.space(tokens), [-1, VIDEO_KEY_FRAMES, rows * columns, tokens.shape[-1]])
        tokens += self.time(tokens[:, :, 0])[:, :, None]
        valid = tf.range(VIDEO_KEY_FRAMES, dtype=tf.int64) < tf.cast(features["video_num_frames"], tf.int64)[:, None]
        num_patches = VIDEO_KEY_FRAMES * rows * columns
        return tf.reshape(tokens, [-1, num_patches, tokens.shape[-1]]), tf.repeat(valid, rows * columns, axis=1)

    def fit(self, features: dict[str, np.ndarray]) -> None:
        """Measure the scale of the statistics on items that have video; features as in `call`, with `video_statistics`."""
        self.standardise.fit(features["video_statistics"])


def video_statistics(frames, times_s, num_frames):
    """What an eye notes in passing: colours, light, edges and their directions, layout, and how much moves.

    frames: uint8 [B, K, H, W, 3]; times_s: float [B, K]; num_frames: int64 [B]. Returns float32 [B, E], finite throughout.
    """
    valid = tf.cast(tf.range(VIDEO_KEY_FRAMES, dtype=tf.int64) < tf.cast(num_frames, tf.int64)[:, None], tf.float32)  # [B, K]
    pixels = tf.cast(frames, tf.float32) / 255
    light = tf.reduce_mean(pixels, -1)  # [B, K, H, W]
    parts = [
        tf.reduce_mean(pixels, [2, 3]),
        tf.math.reduce_std(pixels, [2, 3]),
        _hues(pixels),
        *(_edges(light, scale) for scale in (1, 2, 4)),
        _layout(light),
    ]
    steady = masked_mean(tf.concat(parts, -1), valid[..., None], 1)
    return tf.concat([steady, _motion(pixels, times_s, valid)], -1)


def _hues(pixels):
    """Share of each hue, weighted by how colourful a pixel is, with mean saturation and value: [B, K, HUES + 2]."""
    hue, saturation, value = tf.unstack(tf.image.rgb_to_hsv(pixels), axis=-1)  # hue in turns
    centres = tf.range(HUES, dtype=tf.float32) / HUES
    nearness = tf.exp(8 * (tf.cos(2 * np.pi * (hue[..., None] - centres)) - 1))  # [B, K, H, W, HUES]
    shares = tf.reduce_mean(nearness * (saturation * value)[..., None], [2, 3])
    return tf.concat([shares, tf.reduce_mean(saturation, [2, 3])[..., None], tf.reduce_mean(value, [2, 3])[..., None]], -1)


def _edges(light, scale: int):
    """Edge strength and the shares of the edge directions at one scale: [B, K, 1 + ORIENTATIONS]."""
    side_y, side_x = VIDEO_HEIGHT // scale, VIDEO_WIDTH // scale
    small = tf.reduce_mean(tf.reshape(light, [-1, VIDEO_KEY_FRAMES, side_y, scale, side_x, scale]), [3, 5])
    across, down = small[:, :, :-1, 1:] - small[:, :, :-1, :-1], small[:, :, 1:, :-1] - small[:, :, :-1, :-1]
    strength = tf.sqrt(across**2 + down**2 + 1e-8)
    angle = tf.atan2(down, across + 1e-8)
    centres = tf.range(ORIENTATIONS, dtype=tf.float32) * (np.pi / ORIENTATIONS)
    nearness = tf.exp(4 * (tf.cos(2 * (angle[..., None] - centres)) - 1)) * strength[..., None]
    shares = tf.reduce_mean(nearness, [2, 3]) / (tf.reduce_mean(strength, [2, 3])[..., None] + 1e-3)
    return tf.concat([tf.reduce_mean(strength, [2, 3])[..., None], shares], -1)


def _layout(light):
    """Mean light of each cell of a grid, against the whole: [B, K, GRID * GRID]."""
    cells = tf.reshape(light, [-1, VIDEO_KEY_FRAMES, GRID, VIDEO_HEIGHT // GRID, GRID, VIDEO_WIDTH // GRID])
    cells = tf.reshape(tf.reduce_mean(cells, [3, 5]), [-1, VIDEO_KEY_FRAMES, GRID * GRID])
    return cells - tf.reduce_mean(cells, -1, keepdims=True)


def _motion(pixels, times_s, valid):
    """Change between neighbouring key frames, whole and per second, of the picture and of its mean colour: [B, 4]."""
    both = valid[:, 1:] * valid[:, :-1]  # [B, K - 1]
    gap_s = tf.maximum(times_s[:, 1:] - times_s[:, :-1], 0.04)  # one frame at 25 a second
    change = tf.reduce_mean(tf.abs(pixels[:, 1:] - pixels[:, :-1]), [2, 3, 4])
    colour = tf.reduce_mean(pixels, [2, 3])
    drift = tf.reduce_mean(tf.abs(colour[:, 1:] - colour[:, :-1]), -1)
    return masked_mean(tf.stack([change, change / gap_s, drift, drift / gap_s], -1), both[..., None], 1)
