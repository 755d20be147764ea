"""How the benchmark of the events' stream counts what was lost, what came twice, and what a run did with it."""

import pytest

from benchmarks.stream import account_of, compared

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


def test_a_run_accounts_for_all_rows_by_what_became_of_them():
    summary = {"rows": 10, "accepted": 4, "rejects": {"bad_id": 1, "bad_time": 2}, "notes": {"exact_copies": 3}}
    assert account_of(summary) == {"accepted": 4, "rejected": 3, "exact_copies": 3}
    assert account_of({"rows": 1, "accepted": 1, "rejects": {}, "notes": {}})["exact_copies"] == 0
