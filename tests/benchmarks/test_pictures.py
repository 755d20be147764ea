"""What the classic contenders of the pictures benchmark measure, on pictures whose answer is known."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import pictures
from benchmarks.pictures.contenders import hog, hsv_histogram, lbp_histogram
from benchmarks.pictures.frames import Frames

STRIPES = np.tile((np.arange(224) // 8 % 2 * 255).astype(np.uint8)[None, :, None], (224, 1, 3))


def test_colours_alone_tell_histograms_apart():
    """Moved pixels change nothing; another colour leaves nothing in common."""
    random = np.random.default_rng(0)
    picture = random.integers(0, 256, (224, 224, 3), np.uint8)
    shuffled = random.permutation(picture.reshape(-1, 3)).reshape(picture.shape)
    assert hsv_histogram(picture) @ hsv_histogram(shuffled) == pytest.approx(1, abs=1e-6)
    red, blue = (np.full((224, 224, 3), colour, np.uint8) for colour in ((255, 0, 0), (0, 0, 255)))
    assert hsv_histogram(red) @ hsv_histogram(blue) == 0


@pytest.mark.parametrize("measure", [hog, lbp_histogram])
def test_the_direction_of_edges_tells_textures_apart_and_light_does_not(measure):
    upright, lying, dim = (measure(picture) for picture in (STRIPES, STRIPES.transpose(1, 0, 2), STRIPES // 2))
    cosine = lambda one, other: one @ other / np.linalg.norm(one) / np.linalg.norm(other)  # noqa: E731
    assert cosine(upright, dim) > 0.99 > 0.95 > cosine(upright, lying)


def test_pictures_of_an_item_are_averaged():
    frames = Frames([], {}, np.zeros(0), np.zeros(0), np.array([1, 2]), np.zeros(0), "")
    np.testing.assert_allclose(frames.by_item(np.array([[1.0, 0], [2, 4], [4, 0]])), [[1, 0], [3, 2]])


def test_the_goals_are_over_every_classic_contender():
    """None is left out because it wins."""
    stored = json.loads((Path(pictures.__file__).parents[1] / "results" / "pictures.json").read_text(encoding="utf-8"))
    classic = {row["contender"] for row in stored["rows"]} - {"random"}
    assert {goal["of"] for goal in pictures.GOALS} == {
        name for name in classic if not name.startswith("ours") and "net" not in name
    }
