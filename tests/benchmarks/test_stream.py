"""How the benchmark of the events' stream counts what was lost and what came twice."""

import pytest

from benchmarks.stream import compared

GIVEN = [("u", "i", 1), ("u", "i", 2), ("v", "i", 1)]


@pytest.mark.parametrize(
    ("read", "lost", "twice"),
    [(GIVEN, 0, 0), (GIVEN[::-1], 0, 0), (GIVEN[1:], 1, 0), (GIVEN + GIVEN[:1] * 2, 0, 1), (GIVEN[:1] * 2, 2, 1)],
)
def test_lost_and_twice(read, lost, twice):
    assert compared(GIVEN, read) == (lost, twice)


def test_what_was_never_given_is_a_fault():
    with pytest.raises(ValueError, match="never given"):
        compared(GIVEN, [*GIVEN, ("w", "i", 1)])
