"""A domain's own sequences: the same people, what lies outside gone, history still history."""

import numpy as np

from benchmarks.cross_domain import within
from benchmarks.quality import ours
from benchmarks.quality.splits import matrix


def test_within_keeps_the_domain_and_what_is_history():
    """Person 0 knows items 0, 1, 2 and seeks 3; person 1 knows item 1 alone. Inside are items 0, 1 and 3."""
    known = matrix(np.array([0, 0, 0, 1]), np.array([0, 1, 2, 1]), (2, 4))
    sought = matrix(np.array([0]), np.array([3]), (2, 4))
    inside = within(ours.sequences(known, None, sought), np.array([True, True, False, True]))
    assert inside.items.tolist() == [0, 1, 3, 1]
    assert (inside.splits.tolist(), inside.num_history.tolist()) == ([0, 3, 4], [2, 1])
    outside = within(ours.sequences(known, None, sought), np.array([False, False, True, False]))
    assert (outside.items.tolist(), outside.splits.tolist(), outside.num_history.tolist()) == ([2], [0, 1, 1], [1, 0])
