"""The video encoder: key frames -> one token, by statistics of the pictures and a Transformer over patches in space and
time.

B items, K key frames, H x W pixels, P patches, E statistics.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from components.contract import VIDEO_HEIGHT, VIDEO_KEY_FRAMES, VIDEO_WIDTH
from trainer.config.encoder import EncoderConfig
from trainer.encoders.blocks import CLSTransformer, Standardise, keep_some, masked_mean
from trainer.encoders.fusion import hide_some
from trainer.encoders.modality import ContentEncoder
from trainer.encoders.picture_statistics import colours, textures
from trainer.keras_nlp import keras_nlp, tf

HUES = 12  # bins around the colour circle
ORIENTATIONS = 8  # bins of edge direction, over half a turn
GRID = 3  # cells a side of the layout


class VideoEncoder(ContentEncoder):
    """Encodes `video_frames` uint8 [B, K, H, W, 3] with `video_times_s` float [B, K] and `video_num_frames` int64 [B]
    as a token.

    The token of the statistics of colour, texture, light, edges and motion leads a Transformer over patches (Arnab et
    al., ViViT, 2021).
    `video_statistics` float [B, E] is not computed again where the features hold it.
    Returns float [B, width].
    """

    inputs = ("video_frames", "video_times_s", "video_num_frames")
    statistics = "video_statistics"

    def __init__(self, config: EncoderConfig, **kwargs):
        super().__init__(**kwargs)
        self.pixels = config.video_patch_pixels
        if VIDEO_HEIGHT % self.pixels or VIDEO_WIDTH % self.pixels:
            raise ValueError(
                f"video_patch_pixels: got {self.pixels}, expected a divisor of {VIDEO_HEIGHT} and {VIDEO_WIDTH}"
            )
        self.patch_size = self.pixels * self.pixels * 3
        self.keep_tokens = config.keep_tokens
        self.standardise = Standardise()
        self.project_statistics = tf.keras.layers.Dense(config.width)
        self.project_patches = tf.keras.layers.Dense(config.width)
        self.space = keras_nlp.layers.PositionEmbedding(VIDEO_HEIGHT // self.pixels * (VIDEO_WIDTH // self.pixels))
        self.time = keras_nlp.layers.SinePositionEncoding()
        self.transformer = CLSTransformer(config)
        self.dropout = tf.keras.layers.Dropout(config.dropout)
        self.has_blocks = config.layers > 0
        self.drop_frames = config.drop_frames

    def call(self, features, training=None):
        leading = self.leading(features, training=training)
        if not self.has_blocks:
            return leading
        patches, mask = self.patches(features, training=training)
        tokens, mask = keep_some(self.place(self.project_patches(patches)), mask, self.keep_tokens, training)
        return self.transformer(leading, tokens, mask, training=training)

    def measure(self, features):
        return video_statistics(*(features[name] for name in self.inputs))

    def leading(self, features, training=None):
        """The statistics as a token: float [B, width]."""
        statistics = features.get("video_statistics")
        if statistics is None:
            statistics = self.measure(features)
        return self.project_statistics(self.dropout(self.standardise(statistics), training=training))

    def patches(self, features, training=None):
        """Pixels of each patch, -1 to 1, float [B, P, patch_size], and which of them are there, bool [B, P]; in
        training some frames are hidden.
        """
        frames = tf.cast(features["video_frames"], tf.float32) / 127.5 - 1
        rows, columns = VIDEO_HEIGHT // self.pixels, VIDEO_WIDTH // self.pixels
        frames = tf.reshape(frames, [-1, VIDEO_KEY_FRAMES, rows, self.pixels, columns, self.pixels, 3])
        patches = tf.transpose(frames, [0, 1, 2, 4, 3, 5, 6])
        valid = tf.range(VIDEO_KEY_FRAMES, dtype=tf.int64) < tf.cast(features["video_num_frames"], tf.int64)[:, None]
        if training and self.drop_frames > 0:
            valid = hide_some(valid, self.drop_frames)
        patches = tf.reshape(patches, [-1, VIDEO_KEY_FRAMES * rows * columns, self.patch_size])
        return patches, tf.repeat(valid, rows * columns, axis=1)

    def place(self, tokens):
        """Adds to each token the position of its patch in the frame and of the frame in time: float [B, P, width]."""
        frames = tf.reshape(tokens, [-1, VIDEO_KEY_FRAMES, tokens.shape[1] // VIDEO_KEY_FRAMES, tokens.shape[-1]])
        frames += self.space(frames[:, 0])[:, None]
        frames += self.time(frames[:, :, 0])[:, :, None]
        return tf.reshape(frames, [-1, *tokens.shape[1:]])

    def fit(self, features: Mapping[str, np.ndarray]) -> None:
        """Measures the scale of the statistics on items that have video; features as in `call`, with the statistics."""
        self.standardise.fit(features["video_statistics"])


@tf.function(reduce_retracing=True, autograph=False)  # one trace for all models and signatures of a process
def video_statistics(frames, times_s, num_frames):
    """Summary statistics of key frames: colours, texture, light, edges with their directions and curvature, layout, and
    motion.

    frames: uint8 [B, K, H, W, 3].
    times_s: float [B, K], seconds.
    num_frames: int64 [B], key frames that are no padding.
    Returns float32 [B, E], finite throughout.
    """
    is_frame = tf.range(VIDEO_KEY_FRAMES, dtype=tf.int64) < tf.cast(num_frames, tf.int64)[:, None]
    valid = tf.cast(is_frame, tf.float32)  # [B, K]
    pixels = tf.cast(frames, tf.float32) / 255
    light = tf.reduce_mean(pixels, -1)  # [B, K, H, W]
    parts = [
        tf.reduce_mean(pixels, [2, 3]),
        tf.math.reduce_std(pixels, [2, 3]),
        _hues(pixels),
        *(_edges(light, scale) for scale in (1, 2, 4)),
        _layout(light),
        *_shapes(light),
    ]
    steady = masked_mean(tf.concat(parts, -1), valid[..., None], 1)
    shares = masked_mean(tf.concat([textures(frames), colours(pixels)], -1), valid[..., None], 1)
    return tf.concat([steady, _motion(pixels, times_s, valid), shares], -1)


def _hues(pixels):
    """Histogram of hues, weighted by saturation and value, with the mean of both: float [B, K, HUES + 2]."""
    hue, saturation, value = tf.unstack(tf.image.rgb_to_hsv(pixels), axis=-1)  # hue in turns
    centres = tf.range(HUES, dtype=tf.float32) / HUES
    nearness = tf.exp(8 * (tf.cos(2 * np.pi * (hue[..., None] - centres)) - 1))  # [B, K, H, W, HUES]
    shares = tf.reduce_mean(nearness * (saturation * value)[..., None], [2, 3])
    return tf.concat(
        [shares, tf.reduce_mean(saturation, [2, 3])[..., None], tf.reduce_mean(value, [2, 3])[..., None]], -1
    )


def _edges(light, scale: int):
    """Mean edge strength and histogram of edge directions at one scale: float [B, K, 1 + ORIENTATIONS]."""
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
    """Mean light of each cell of a grid, less that of the whole picture: float [B, K, GRID * GRID]."""
    cells = tf.reshape(light, [-1, VIDEO_KEY_FRAMES, GRID, VIDEO_HEIGHT // GRID, GRID, VIDEO_WIDTH // GRID])
    cells = tf.reshape(tf.reduce_mean(cells, [3, 5]), [-1, VIDEO_KEY_FRAMES, GRID * GRID])
    return cells - tf.reduce_mean(cells, -1, keepdims=True)


LIGHT_LEVELS = np.arange(-1.0, 3.5, 0.5, dtype=np.float32)  # deviations from a picture's mean light


def _shapes(light):
    """Statistics of the drawing, whatever its contrast: histogram of light levels, and at three scales sharpness,
    curvature, corners and alignment of the edges. Returns a list of float [B, K, E_m].

    Bends are the curvature of lines of equal light, corners the smaller eigenvalue of the structure tensor (Shi &
    Tomasi, 1994).
    """
    mean, deviation = tf.reduce_mean(light, [2, 3], keepdims=True), tf.math.reduce_std(light, [2, 3], keepdims=True)
    picture = (light - mean) / (deviation + 0.02)
    levels = tf.reduce_mean(tf.exp(-(((picture[..., None] - LIGHT_LEVELS) / 0.4) ** 2)), [2, 3])
    scales = [picture, _blurred(picture, 1), _blurred(picture, 3)]
    return [levels, *(_edge_shapes(scale) for scale in scales)]


def _edge_shapes(picture):
    down, across = _slopes(picture)
    square = across**2 + down**2 + 1e-8
    strength = tf.sqrt(square)
    average = lambda values: tf.reduce_mean(values, [2, 3])  # noqa: E731
    log_average = lambda values: tf.math.log(average(values) + 1e-6)  # noqa: E731
    total, total_square = average(strength) + 1e-6, average(square) + 1e-6

    (yy, yx), (_, xx) = _slopes(down), _slopes(across)
    bend = (xx * down**2 - 2 * yx * across * down + yy * across**2) / (square + 0.01)
    corner_area = [_blurred(part, 2) for part in (across**2, down**2, across * down)]
    trace = corner_area[0] + corner_area[1]
    difference = tf.sqrt((corner_area[0] - corner_area[1]) ** 2 + 4 * corner_area[2] ** 2 + 1e-12)
    corner = tf.maximum((trace - difference) / 2, 0.0)
    whole = [average(part) for part in corner_area]
    aligned = tf.sqrt((whole[0] - whole[1]) ** 2 + 4 * whole[2] ** 2 + 1e-12) / (whole[0] + whole[1] + 1e-6)
    return tf.stack(
        [
            log_average(tf.sqrt(strength)),
            tf.math.log(total),
            tf.math.log(total_square),
            log_average(square**2),
            log_average(tf.abs(bend)) - tf.math.log(total),
            log_average(bend**2) - tf.math.log(total_square),
            average(bend) / total,
            log_average(tf.abs(xx + yy)) - tf.math.log(total),
            log_average(tf.abs(xx * yy - yx**2)) - tf.math.log(total_square),
            log_average(difference) - log_average(trace),
            log_average(corner) - log_average(trace),
            log_average(tf.sqrt(corner + 1e-8)),
            aligned,
        ],
        -1,
    )


def _slopes(picture):
    """Central differences, the rim repeated outwards: (down, across), each float [B, K, H, W]."""
    padded = tf.pad(picture, [[0, 0], [0, 0], [1, 1], [1, 1]], "SYMMETRIC")
    down, across = padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1], padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]
    return down / 2, across / 2


def _blurred(picture, times: int):
    """A box filter of 3 x 3 pixels, so many times: near a Gaussian with a variance of two thirds each."""
    flat = tf.reshape(picture, [-1, VIDEO_HEIGHT, VIDEO_WIDTH, 1])
    for _ in range(times):
        flat = tf.nn.avg_pool2d(flat, 3, 1, "SAME")
    return tf.reshape(flat, tf.shape(picture))


def _motion(pixels, times_s, valid):
    """Mean change between neighbouring key frames, whole and per second, of pixels and of mean colour: float [B, 4]."""
    both = valid[:, 1:] * valid[:, :-1]  # [B, K - 1]
    gap_s = tf.maximum(times_s[:, 1:] - times_s[:, :-1], 0.04)  # one frame at 25 a second
    change = tf.reduce_mean(tf.abs(pixels[:, 1:] - pixels[:, :-1]), [2, 3, 4])
    colour = tf.reduce_mean(pixels, [2, 3])
    drift = tf.reduce_mean(tf.abs(colour[:, 1:] - colour[:, :-1]), -1)
    return masked_mean(tf.stack([change, change / gap_s, drift, drift / gap_s], -1), both[..., None], 1)
