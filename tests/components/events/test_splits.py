"""Splits and sequences: nothing of the future reaches the past."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.config import DEFAULT_EVENTS, SplitConfig
from components.events.interactions import Event
from components.events.sequences import sequence_example, user_sequences
from components.events.splits import (
    NEVER,
    SPLITS,
    Cuts,
    fold_in_cut,
    last_cuts,
    quantile_cuts,
    stable_share,
    user_split,
)
from components.events.time_histogram import TimeHistogram

TIMED = st.builds(
    Event,
    item_id=st.sampled_from("abcde"),
    event=st.sampled_from(sorted(DEFAULT_EVENTS)),
    value=st.none() | st.sampled_from([1.0, 5.0]),
    time_s=st.integers(0, 20),
    split=st.none(),
)
UNTIMED = TIMED.map(lambda event: event._replace(time_s=None))
SHARES = st.sampled_from([(0.1, 0.1), (0.3, 0.3), (0.0, 0.2), (0.05, 0.5)])


def histogram(times_s):
    return [(time_s, times_s.count(time_s)) for time_s in sorted(set(times_s))]


def split_users(users, split):
    """{user: events} → {user: {split: UserSequence}}."""
    cuts = (
        quantile_cuts(histogram([event.time_s for events in users.values() for event in events]), split)
        if split.kind == "time"
        else None
    )
    return {
        user: {sequence.split: sequence for sequence in user_sequences(user, events, DEFAULT_EVENTS, split, cuts)}
        for user, events in users.items()
    }


def test_the_last_tenth_of_ten_events_is_test_and_the_one_before_eval():
    assert quantile_cuts(histogram(list(range(10))), SplitConfig()) == Cuts(8, 9)
    assert quantile_cuts(histogram(list(range(10))), SplitConfig(eval_share=0.0)) == Cuts(9, 9)
    assert last_cuts(list(range(10)), SplitConfig()) == Cuts(8, 9)
    assert last_cuts([1, 2], SplitConfig()) == Cuts(NEVER, NEVER)


def test_a_moment_is_never_cut_in_two():
    assert quantile_cuts([(0, 8), (1, 2)], SplitConfig()) == Cuts(1, 1)
    assert quantile_cuts([(5, 10)], SplitConfig()) == Cuts(NEVER, NEVER)
    assert last_cuts([0, 1, 1, 1], SplitConfig()) == Cuts(NEVER, NEVER)
    assert last_cuts([0, 0, 1, 2, 2], SplitConfig()) == Cuts(2, NEVER)
    assert fold_in_cut([0, 1, 2, 3, 4]) == 4
    assert fold_in_cut([7]) == fold_in_cut([7, 7]) == 7


@given(
    st.dictionaries(st.sampled_from("uvwx"), st.lists(TIMED, min_size=1, max_size=12), min_size=1),
    st.sampled_from(["time", "time_per_user", "user"]),
    SHARES,
)
@settings(deadline=None, max_examples=200)
def test_no_event_of_the_future_reaches_the_past(users, kind, shares):
    """C29: whatever the events, history is strictly earlier than each target; by time, train than eval than test."""
    result = split_users(users, SplitConfig(kind, *shares))
    ends = {name: [] for name in SPLITS}
    for user, parts in result.items():
        for name, sequence in parts.items():
            own = [interaction.time_s for interaction in sequence.own]
            assert all(interaction.time_s < min(own) for interaction in sequence.history)
            ends[name] += own
        if kind == "time_per_user":
            _check_order([[i.time_s for i in parts[name].own] for name in SPLITS if name in parts])
        if kind == "user":
            assert len(parts) == 1, "a user belongs to one split"
        assert {i.item_id for part in parts.values() for i in part.history + part.own} == {
            event.item_id for event in users[user]
        }
    if kind == "time":
        _check_order([ends[name] for name in SPLITS if ends[name]])


def _check_order(parts):
    for earlier, later in zip(parts, parts[1:]):
        assert max(earlier) < min(later)


@given(st.lists(TIMED, min_size=1, max_size=12), st.integers(0, 21), st.integers(0, 21))
@settings(deadline=None)
def test_what_happens_from_a_cut_on_changes_nothing_before_it(events, one, other):
    """C29: without the events of the test period, train and eval are the same to the last bit, and so is what test
    knows as history."""
    cuts = Cuts(*sorted([one, other]))

    def sequences(kept):
        return {sequence.split: sequence for sequence in user_sequences("u", kept, DEFAULT_EVENTS, SplitConfig(), cuts)}

    whole, past = sequences(events), sequences([event for event in events if event.time_s < cuts.test_from])
    assert [whole.get(name) for name in ("train", "eval")] == [past.get(name) for name in ("train", "eval")]
    if "test" in whole:
        stop = Event("stop", "play", None, cuts.test_from)
        shortened = sequences([event for event in events if event.time_s < cuts.test_from] + [stop])
        assert whole["test"].history == shortened["test"].history


@given(st.lists(TIMED, min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_the_order_of_the_file_does_not_matter(events, random):
    shuffled = random.sample(events, len(events))
    for kind in ("time_per_user", "user"):
        assert split_users({"u": events}, SplitConfig(kind)) == split_users(
            {"u": shuffled + events[:1]}, SplitConfig(kind)
        )


@given(st.lists(UNTIMED, min_size=1, max_size=12))
def test_events_without_time_are_a_set(events):
    """One interaction an item, no time, marked as not ordered; a held-out user's items are in history or held out,
    never both."""
    for user in ("u", "v", "w", "x", "y", "z"):
        (sequence,) = user_sequences(user, events, DEFAULT_EVENTS, SplitConfig("user", 0.3, 0.4), None)
        items = [interaction.item_id for interaction in sequence.history + sequence.own]
        assert sorted(items) == sorted({event.item_id for event in events})
        features = sequence_example(sequence).features.feature
        assert features["ordered"].int64_list.value == [0] and not features["timestamps_s"].int64_list.value


def test_a_later_play_is_kept_and_an_exact_copy_is_not():
    """C09: three plays, two of them identical: one visit while nothing lies between, two with another item between."""
    twice = [Event("a", "play", None, 1), Event("a", "play", None, 1), Event("a", "play", None, 9)]
    cuts = Cuts(NEVER, NEVER)
    (sequence,) = user_sequences("u", twice, DEFAULT_EVENTS, SplitConfig(), cuts)
    assert [(interaction.item_id, interaction.time_s) for interaction in sequence.own] == [("a", 9)]
    (sequence,) = user_sequences("u", [*twice, Event("b", "play", None, 5)], DEFAULT_EVENTS, SplitConfig(), cuts)
    assert [(interaction.item_id, interaction.time_s) for interaction in sequence.own] == [("a", 1), ("b", 5), ("a", 9)]


def test_the_strongest_event_names_the_visit():
    visit = [
        Event("a", "play", None, 1),
        Event("a", "like", None, 2),
        Event("a", "complete", None, 3),
        Event("b", "skip", None, 4),
    ]
    rated = [Event("c", "rating", 5.0, 5), Event("c", "rating", 2.0, 6), Event("c", "play", None, 7)]
    (sequence,) = user_sequences("u", visit + rated, DEFAULT_EVENTS, SplitConfig(), Cuts(NEVER, NEVER))
    assert [tuple(interaction) for interaction in sequence.own] == [
        ("a", "like", None, 3, 3.0, True),
        ("b", "skip", None, 4, 0.5, False),
        ("c", "rating", 2.0, 7, 2.0, False),
    ]


def test_a_visit_that_lies_across_a_cut_is_two():
    """Else the train part of it would carry a like of the test period."""
    events = [Event("a", "play", None, 1), Event("a", "like", None, 2)]
    train, test = user_sequences("u", events, DEFAULT_EVENTS, SplitConfig(), Cuts(2, 2))
    assert [i.event for i in train.own] == ["play"] and train.history == []
    assert [i.event for i in test.own] == ["like"] and [i.event for i in test.history] == ["play"]


def test_a_given_split_is_kept():
    """valid is eval; what is history is what the earlier splits hold, also where there is no time."""
    events = [Event("a", "play", split="train"), Event("b", "play", split="valid"), Event("c", "play", split="test")]
    train, evaluated, test = user_sequences("u", events, DEFAULT_EVENTS, SplitConfig("given"), None)
    assert [i.item_id for i in train.own] == ["a"]
    assert ([i.item_id for i in evaluated.history], [i.item_id for i in evaluated.own]) == (["a"], ["b"])
    assert ({i.item_id for i in test.history}, [i.item_id for i in test.own]) == ({"a", "b"}, ["c"])


def test_the_example_of_a_sequence():
    events = [Event("a", "rating", 5.0, 1), Event("b", "play", None, 2)]
    _, test = user_sequences("ü", events, DEFAULT_EVENTS, SplitConfig(), Cuts(2, 2))
    features = sequence_example(test).features.feature
    assert features["user_id"].bytes_list.value == ["ü".encode()]
    assert features["item_ids"].bytes_list.value == [b"a", b"b"] and features["events"].bytes_list.value == [
        b"rating",
        b"play",
    ]
    assert features["timestamps_s"].int64_list.value == [1, 2] and features["ordered"].int64_list.value == [1]
    rating, none = features["values"].float_list.value
    assert rating == 5.0 and math.isnan(none)
    assert features["weights"].float_list.value == [2.0, 1.0] and features["positives"].int64_list.value == [1, 1]
    assert features["num_history"].int64_list.value == [1]


def test_users_are_split_by_a_hash_that_every_process_shares():
    """The shares come out, and one value is pinned: a change of the hash would reshuffle everyone's splits."""
    parts = [user_split(f"user {n}", SplitConfig("user", 0.2, 0.1)) for n in range(5000)]
    assert parts.count("test") == pytest.approx(500, abs=80) and parts.count("eval") == pytest.approx(1000, abs=110)
    assert stable_share("u", "a") == stable_share("u", "a") != stable_share("ua", "")
    assert stable_share("user 1") == pytest.approx(0.5095717234396346, abs=1e-12)


@given(st.lists(st.integers(-1000, 100_000), max_size=60), st.lists(st.integers(0, 60), max_size=4))
def test_the_histogram_does_not_depend_on_how_the_events_were_cut_up(times_s, borders):
    combine = TimeHistogram(max_buckets=8)

    def accumulate(values):
        accumulator = combine.create_accumulator()
        for value in values:
            accumulator = combine.add_input(accumulator, value)
        return accumulator

    edges = sorted([0, *borders, len(times_s)])
    parts = [accumulate(times_s[start:end]) for start, end in zip(edges, edges[1:])]
    counts = combine.extract_output(combine.merge_accumulators(parts))
    assert counts == combine.extract_output(accumulate(times_s))
    assert sum(count for _, count in counts) == len(times_s) and len(counts) <= 8
