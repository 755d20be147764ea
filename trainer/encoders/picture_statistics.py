"""Statistics of the colours and of the texture of pictures.

B items, K pictures of an item, H x W pixels, E statistics.
"""

from __future__ import annotations

import numpy as np

from trainer.keras import tf

HUES, SATURATIONS, VALUES = 6, 3, 3  # levels of the joint histogram of colours
# Neighbours of a pixel in turn around it, as rows down and columns across: bits 0 to 7 of a pattern.
AROUND = ((-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1))


def colours(pixels):
    """Roots of the shares of hues, saturations and values together.

    A pixel counts for the levels on both sides of it, by nearness, so that a little more light changes little. Roots
    keep the many rare colours from being all or nothing (Swain & Ballard, Color Indexing, 1991; Arandjelovic &
    Zisserman's RootSIFT, 2012).
    pixels: float [B, K, H, W, 3], RGB, 0 to 1.
    Returns float [B, K, HUES * SATURATIONS * VALUES].
    """
    hue, saturation, value = tf.unstack(tf.image.rgb_to_hsv(pixels), axis=-1)  # hue in turns
    apart = tf.abs(hue[..., None] * HUES - tf.range(HUES, dtype=tf.float32))
    hues = tf.maximum(1 - tf.minimum(apart, HUES - apart), 0)  # [B, K, H, W, HUES]
    shades = _nearness(saturation, SATURATIONS)[..., None] * _nearness(value, VALUES)[..., None, :]
    num_pixels = pixels.shape[2] * pixels.shape[3]
    hues = tf.reshape(hues, [-1, pixels.shape[1], num_pixels, HUES])
    shades = tf.reshape(shades, [-1, pixels.shape[1], num_pixels, SATURATIONS * VALUES])
    shares = tf.matmul(hues, shades, transpose_a=True) / num_pixels
    return _root(tf.reshape(shares, [-1, pixels.shape[1], HUES * SATURATIONS * VALUES]))


def textures(frames):
    """Roots of the shares of local binary patterns of light, and of those of two opponent colours.

    A pattern says which neighbours of a pixel are no less than it, so neither brightness nor contrast change it (Ojala,
    Pietikainen & Maenpaa, 2002). Patterns of light that mirror each other left to right count as one; those of red
    less green, and of yellow less blue, by how many neighbours are no less.
    frames: integers, or numbers that are rounded down, [B, K, H, W, 3], RGB, 0 to 255.
    Returns float [B, K, E].
    """
    red, green, blue = tf.unstack(tf.cast(frames, tf.int32), axis=-1)  # sums of integers tie exactly
    channels = ((red + green + blue, MIRRORED), (red - green, TURNED), (red + green - 2 * blue, TURNED))
    return _root(tf.concat([_patterns(channel) @ tf.constant(bins) for channel, bins in channels], -1))


def _nearness(share, levels: int):
    """How near numbers from 0 to 1 are to each of so many even levels, 1 in all: float [..., levels]."""
    return tf.maximum(1 - tf.abs(share[..., None] * (levels - 1) - tf.range(levels, dtype=tf.float32)), 0)


def _root(shares):
    return tf.sqrt(shares + 1e-6)  # far less than one pixel's share, and the slope at 0 is not endless


def _patterns(channel):
    """Shares of the 256 local binary patterns of a channel, its rim left out: int [B, K, H, W] -> float [B, K, 256]."""
    pictures, height, width = channel.shape[1:]
    centre = channel[:, :, 1:-1, 1:-1]
    codes = tf.zeros_like(centre)
    for bit, (down, across) in enumerate(AROUND):
        neighbour = channel[:, :, 1 + down : height - 1 + down, 1 + across : width - 1 + across]
        codes += tf.cast(neighbour >= centre, tf.int32) * 2**bit
    num_pixels = (height - 2) * (width - 2)
    codes = tf.reshape(codes, [-1, num_pixels])
    counts = tf.math.bincount(codes, minlength=256, maxlength=256, dtype=tf.float32, axis=-1)
    return tf.reshape(counts, [-1, pictures, 256]) / num_pixels


def _bins(of_pattern: np.ndarray) -> np.ndarray:
    """Which bin each pattern counts for, from any int [256]: float32 [256, number of bins], one 1 in a row."""
    bins = np.unique(of_pattern, return_inverse=True)[1]
    return np.eye(bins.max() + 1, dtype=np.float32)[bins]


def _mirrored_and_turned() -> tuple[np.ndarray, np.ndarray]:
    """Bins of the uniform patterns, those with at most two changes around the circle; all others share one.

    The first are alike for patterns that mirror each other left to right: float32 [256, 35]; the second for all with
    as many neighbours: float32 [256, 10].
    """
    patterns = np.arange(256)
    bits = (patterns[:, None] >> np.arange(8)) & 1
    is_uniform = (bits != np.roll(bits, 1, 1)).sum(1) <= 2
    mirror = bits[:, [AROUND.index((down, -across)) for down, across in AROUND]] @ 2 ** np.arange(8)
    mirrored = np.where(is_uniform, np.minimum(patterns, mirror), 256)
    return _bins(mirrored), _bins(np.where(is_uniform, bits.sum(1), 9))


MIRRORED, TURNED = _mirrored_and_turned()
