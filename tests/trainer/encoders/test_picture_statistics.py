"""What the statistics of pictures tell apart, and what changes nothing in them."""

import numpy as np
import pytest

from components.contract import VIDEO_HEIGHT, VIDEO_KEY_FRAMES, VIDEO_WIDTH
from trainer.encoders.picture_statistics import AROUND, HUES, SATURATIONS, VALUES, colours, textures
from trainer.encoders.video import video_statistics
from trainer.keras import tf

NUM_LIGHT, NUM_OPPONENT = 35, 10  # bins of textures: of light, and of each of two opponent colours
DOWN, ACROSS = np.mgrid[:VIDEO_HEIGHT, :VIDEO_WIDTH]
NOISE = np.random.default_rng(0).integers(0, 256, (VIDEO_HEIGHT, VIDEO_WIDTH, 3))


def grey(light):
    return np.repeat(light[..., None], 3, -1)


def textures_of(picture):
    return textures(tf.constant(picture.astype(np.uint8)[None, None])).numpy()[0, 0]


def colours_of(picture):
    return colours(tf.constant(picture.astype(np.float32)[None, None] / 255)).numpy()[0, 0]


def statistics_of(frames, num_frames):
    frames = np.concatenate([frames, np.zeros((VIDEO_KEY_FRAMES, VIDEO_HEIGHT, VIDEO_WIDTH, 3))])[:VIDEO_KEY_FRAMES]
    times_s = np.arange(VIDEO_KEY_FRAMES, dtype=np.float32)
    given = frames.astype(np.uint8)[None], times_s[None], np.array([num_frames])
    return video_statistics(*(tf.constant(part) for part in given)).numpy()[0]


def test_shares_of_colours_and_of_patterns_are_a_whole_each():
    shares = textures_of(NOISE) ** 2
    edges = [0, NUM_LIGHT, NUM_LIGHT + NUM_OPPONENT, NUM_LIGHT + 2 * NUM_OPPONENT]
    assert len(shares) == edges[-1]
    for start, stop in zip(edges, edges[1:]):
        assert shares[start:stop].sum() == pytest.approx(1, abs=1e-4)
    assert (colours_of(NOISE) ** 2).sum() == pytest.approx(1, abs=1e-4)


def test_each_pixel_counts_for_the_pattern_of_its_neighbours():
    """The shares of patterns of red less green, against a loop over the pixels."""
    red, green = NOISE[..., 0], NOISE[..., 1]
    opponent, counts = red - green, np.zeros(NUM_OPPONENT)
    for row in range(1, VIDEO_HEIGHT - 1):
        for column in range(1, VIDEO_WIDTH - 1):
            bits = [opponent[row + down, column + across] >= opponent[row, column] for down, across in AROUND]
            changes = sum(bit != after for bit, after in zip(bits, [*bits[1:], bits[0]]))
            counts[sum(bits) if changes <= 2 else NUM_OPPONENT - 1] += 1
    shares = textures_of(NOISE)[NUM_LIGHT : NUM_LIGHT + NUM_OPPONENT] ** 2
    np.testing.assert_allclose(shares, counts / counts.sum(), atol=1e-5)


def test_pictures_of_the_same_colours_differ_by_their_texture():
    """Stripes of two pixels that lie, that stand, and one half black and one half white: as many pixels of either."""
    lying, standing, halves = (grey(255 * mask) for mask in (DOWN // 2 % 2, ACROSS // 2 % 2, DOWN >= VIDEO_HEIGHT // 2))
    np.testing.assert_allclose(colours_of(lying), colours_of(halves), atol=1e-5)
    for one, other in ((lying, halves), (standing, halves), (lying, standing)):
        assert np.abs(textures_of(one) - textures_of(other))[:NUM_LIGHT].max() > 0.3


def test_pictures_of_the_same_texture_differ_by_their_colours():
    red, blue = (NOISE[..., :1] * np.array(tint) // 255 for tint in ([255, 0, 0], [0, 0, 255]))
    np.testing.assert_allclose(textures_of(red)[:NUM_LIGHT], textures_of(blue)[:NUM_LIGHT], atol=1e-6)
    assert np.abs(colours_of(red) - colours_of(blue)).max() > 0.3


def test_texture_of_light_is_that_of_the_mirror_image_and_of_the_picture_in_less_light():
    picture = NOISE // 4 * 2  # even numbers: half of them is no other order
    np.testing.assert_allclose(textures_of(picture[:, ::-1]), textures_of(picture), atol=1e-6)
    np.testing.assert_allclose(textures_of(picture // 2 + 20), textures_of(picture), atol=1e-6)
    assert np.abs(textures_of(grey(DOWN)) - textures_of(grey(DOWN[::-1]))).max() > 0.3, "upside down is another picture"


def test_a_colour_counts_for_the_levels_beside_it():
    """Full red is one level of each; red a quarter as light lies midway between two of three levels of value."""
    full = colours_of(np.broadcast_to([255, 0, 0], NOISE.shape)).reshape(HUES, SATURATIONS, VALUES) ** 2
    assert full[0, -1, -1] == pytest.approx(1, abs=1e-4)
    dark = colours_of(np.broadcast_to([255 / 4, 0, 0], NOISE.shape)).reshape(HUES, SATURATIONS, VALUES) ** 2
    assert dark[0, -1, :2] == pytest.approx([0.5, 0.5], abs=1e-4)
    between = colours_of(np.broadcast_to([255, 127.5, 0], NOISE.shape)).reshape(HUES, SATURATIONS, VALUES) ** 2
    assert between[:2, -1, -1] == pytest.approx([0.5, 0.5], abs=1e-4), "orange is half red, half yellow"
    last = colours_of(np.broadcast_to([255, 0, 127.5], NOISE.shape)).reshape(HUES, SATURATIONS, VALUES) ** 2
    assert last[[0, -1], -1, -1] == pytest.approx([0.5, 0.5], abs=1e-4), "the circle of hues closes"


def test_a_padding_frame_changes_nothing():
    frames = np.stack([NOISE, NOISE[::-1] // 2])
    expected = statistics_of(frames, 2)
    np.testing.assert_array_equal(statistics_of(np.stack([*frames, 255 - NOISE]), 2), expected)
    assert np.abs(statistics_of(np.stack([*frames, 255 - NOISE]), 3) - expected).max() > 0.01, "a true frame does"


@pytest.mark.parametrize("level", [0, 128, 255])
def test_one_colour_throughout_and_no_frame_at_all_stay_finite(level):
    flat = np.full((1, *NOISE.shape), level)
    assert np.isfinite(statistics_of(flat, 1)).all()
    assert not statistics_of(flat, 0).any()
