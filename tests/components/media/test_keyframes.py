"""Which pictures are chosen, on pictures that a person can imagine."""

import numpy as np
import pytest

from components.media.keyframes import choose_key_frames, shown_at

RED, GREEN, BLUE, BLACK = (200, 20, 20), (20, 200, 20), (20, 20, 200), (0, 0, 0)


def shots(*colours_and_lengths, step=0.0):
    """Each shot: a colour on a fixed texture, growing brighter by `step` a picture."""
    texture = np.random.default_rng(0).integers(0, 40, (8, 8, 3))
    pictures = [
        np.clip(np.array(colour) + texture + step * i, 0, 255)
        for colour, length in colours_and_lengths
        for i in range(length)
    ]
    return np.array(pictures, np.uint8)


def chosen(pictures, fps=10.0, count=4):
    times_s = np.arange(len(pictures)) / fps
    return choose_key_frames(pictures, times_s, len(pictures) / fps, count)


def test_three_scenes_give_three_key_frames_at_the_cuts():
    assert chosen(shots((RED, 7), (GREEN, 15), (BLUE, 8))) == [0, 7, 22]


def test_a_still_picture_gives_one():
    assert chosen(shots((RED, 40))) == [0]
    assert chosen(shots((RED, 1))) == [0]


def test_one_moving_shot_gives_pictures_evenly_spaced_in_time():
    assert chosen(shots((RED, 40), step=1.0)) == [0, 10, 20, 30]


def test_the_longest_scene_that_moves_is_halved_first():
    moving = shots((RED, 20), step=2.0)
    assert chosen(np.concatenate([moving, shots((BLUE, 40))]), count=3) == [0, 10, 20]


def test_many_scenes_are_thinned_evenly_over_time():
    colours = [(RED, 5), (GREEN, 5), (BLUE, 5)] * 4
    picked = chosen(shots(*colours))
    assert len(picked) == 4
    assert [index // 15 for index in picked] == [0, 1, 2, 3], "one in each quarter"


def test_a_black_lead_in_gives_way_to_the_first_picture_that_shows_something():
    fade = np.stack([shots((RED, 1))[0] * (i / 20) for i in range(21)]).astype(np.uint8)
    picked = chosen(fade, count=1)
    assert fade[picked[0]].std() >= 4
    assert picked[0] > 0
    assert chosen(np.zeros((10, 8, 8, 3), np.uint8)) == [0], "where there is nothing else, black it is"


def test_uneven_times_are_respected():
    """C22: 25 pictures in the first second, 5 in the next."""
    times_s = np.concatenate([np.arange(25) / 25, 1 + np.arange(5) / 5])
    picked = choose_key_frames(shots((RED, 30), step=2.0), times_s, 2.0, 4)
    assert picked == [shown_at(times_s, time_s) for time_s in (0.0, 0.5, 1.0, 1.5)] == [0, 12, 25, 27]


@pytest.mark.parametrize("num_pictures", range(1, 8))
def test_indices_are_valid_ascending_and_at_most_count(num_pictures):
    rng = np.random.default_rng(num_pictures)
    pictures = rng.integers(0, 255, (num_pictures, 4, 4, 3), dtype=np.uint8)
    picked = chosen(pictures)
    assert picked == sorted(set(picked))
    assert 1 <= len(picked) <= min(4, num_pictures)
    assert 0 <= picked[0] <= picked[-1] < num_pictures
