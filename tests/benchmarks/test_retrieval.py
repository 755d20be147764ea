"""Retrieval by label is measured as a pencil would, on two halves of the labels that share none."""

import numpy as np
import pytest

from benchmarks.goals import judged
from benchmarks.likeness import beside, directions, whitened, z_scores
from benchmarks.retrieval import MAX_ITEMS, MIN_ITEMS, Gallery, galleries, interval, precision
from benchmarks.soundtracks import GOALS, fusion_rows
from benchmarks.soundtracks.contenders import FUSION, PARTS


def test_precision_by_hand():
    """On a line of angles: a and b of one label, then c of another between them and d."""
    angles = np.radians([0, 10, 14, 40])
    vectors = np.stack([np.cos(angles), np.sin(angles)], 1)
    found = precision(vectors, Gallery(np.arange(4), np.array([0, 0, 1, 1]), ("one", "other")))
    # Neighbours: a: b c d, b: c a d, c: b a d, d: c b a.
    np.testing.assert_allclose(found["P@1"], [(1 + 0) / 2, (0 + 1) / 2])
    np.testing.assert_allclose(found["mAP"], [(1 + 1 / 2) / 2, (1 / 3 + 1) / 2])
    np.testing.assert_allclose(found["P@5"], [1 / 3, 1 / 3])


def test_the_length_of_a_vector_says_nothing():
    random = np.random.default_rng(0)
    vectors = random.normal(size=(12, 5))
    gallery = Gallery(np.arange(12), np.arange(12) % 3, ("a", "b", "c"))
    scaled = precision(vectors * random.uniform(0.1, 9, (12, 1)), gallery)
    for metric, values in precision(vectors, gallery).items():
        np.testing.assert_allclose(scaled[metric], values)


def test_halves_share_no_label_and_no_item():
    counts = {"large": MAX_ITEMS + 15, "small": MIN_ITEMS - 1, "": 9, **{f"g{n}": MIN_ITEMS + n for n in range(5)}}
    labels = [name for name, count in counts.items() for _ in range(count)]
    ids = [f"t{n}" for n in range(len(labels))]
    halves = galleries(ids, labels)
    names = [name for half in halves.values() for name in half.names]
    assert sorted(names) == sorted(name for name in counts if name and name != "small")
    assert not set(halves["choosing"].rows) & set(halves["test"].rows)
    for half in halves.values():
        assert abs(len(half.names) - 3) <= 1
        for place, name in enumerate(half.names):
            taken = half.rows[half.labels == place]
            assert len(taken) == min(counts[name], MAX_ITEMS)
            assert {labels[row] for row in taken} == {name}


def test_halves_do_not_depend_on_the_order_of_the_items():
    labels = [f"g{n % 7}" for n in range(70)]
    ids = [f"t{n}" for n in range(70)]
    order = np.random.default_rng(1).permutation(70)
    one, other = galleries(ids, labels), galleries([ids[n] for n in order], [labels[n] for n in order])
    for half in one:
        assert one[half].names == other[half].names
        assert [ids[row] for row in one[half].rows] == [ids[order[row]] for row in other[half].rows]


def test_the_interval_holds_the_mean_and_shrinks_with_labels():
    few, many = (interval(np.tile([0.2, 0.8], count)) for count in (2, 50))
    assert few[0] == many[0] == pytest.approx(0.5)
    assert few[1] < many[1] < 0.5 < many[2] < few[2]


def test_side_by_side_cosines_add_up():
    random = np.random.default_rng(2)
    first, second = random.normal(size=(4, 3)), random.normal(size=(4, 6))
    unit = [values / np.linalg.norm(values, axis=1, keepdims=True) for values in (first, second)]
    both = beside(first, second)
    np.testing.assert_allclose(both @ both.T, unit[0] @ unit[0].T + unit[1] @ unit[1].T)


def test_half_whitening_leaves_directions_and_takes_the_root_of_their_deviations():
    """Components of deviations 9 and 1 and one that is nothing, turned: of the ratio 9 a ratio of 3 is left."""
    random = np.random.default_rng(4)
    independent, _ = np.linalg.qr(random.normal(size=(200, 2)) - random.normal(size=2))
    independent -= independent.mean(0)
    independent, _ = np.linalg.qr(independent)
    turn, _ = np.linalg.qr(random.normal(size=(3, 3)))
    found = whitened(independent * [9, 1] @ turn[:2] + 5)
    assert found.shape == (200, 2)
    deviations = found.std(0)
    smoothed = [(1 + 0.1 * 41 / 81) ** 0.5, (1 / 81 + 0.1 * 41 / 81) ** 0.5]  # of the variances 81 and 1, mean 41
    np.testing.assert_allclose(deviations[1] / deviations[0], (1 / 9) * (smoothed[0] / smoothed[1]) ** 0.5)
    np.testing.assert_allclose(np.abs(independent.T @ (found / np.linalg.norm(found, axis=0))), np.eye(2), atol=1e-9)


def test_scales_of_columns_and_vectors_do_not_matter():
    random = np.random.default_rng(3)
    values = random.normal(size=(50, 4))
    np.testing.assert_allclose(z_scores(values * [1, 10, 100, 0.1] + 5), z_scores(values), atol=1e-6)
    np.testing.assert_allclose(directions(values * random.uniform(1, 5, (50, 1))), directions(values), atol=1e-12)


@pytest.mark.parametrize("value, is_met", [(0.52, True), (0.51, False)])
def test_the_fusion_is_held_against_its_best_part(value, is_met):
    """The half-whitened parts count as well, and whatever is no part does not."""
    values = {"random": 0.9, FUSION: value} | {part: 0.5 - place / 100 for place, part in enumerate(reversed(PARTS))}
    case = "composer test"
    rows = [
        {"case": case, "contender": name, "metric": metric, "value": found, "low": None, "high": None, "runs": 8}
        for name, found in values.items()
        for metric in ("P@1", "P@5", "mAP")
    ]
    found = [judgement for judgement in judged(GOALS, fusion_rows(case, rows)) if judgement.case == f"{case}, fusion"]
    assert [(one.metric, one.value, one.is_met) for one in found] == [("P@1", value, is_met), ("mAP", value, is_met)]
