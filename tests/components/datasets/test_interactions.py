"""One reader of users' interactions, and one window over them, compared with what plain loops give."""

import math

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from components.config import EventRule
from components.datasets import sequence_files
from components.datasets.interactions import (
    PADDING,
    UNKNOWN_EVENT,
    Interactions,
    latest,
    read_interactions,
    training_windows,
    window,
)
from components.events.interactions import Interaction
from components.events.sequences import UserSequence, sequence_example

ITEM_IDS = [f"ü{row}" for row in range(6)]
RULES = {"play": EventRule(weight=1.0), "skip": EventRule(weight=0.5, positive=False)}


def interaction(item, time_s=None, event="play", value=None):
    rule = RULES[event]
    return Interaction(ITEM_IDS[item], event, value, time_s, rule.weight, rule.is_positive(value))


def write(folder, *sequences, parts=1):
    """Sequences as the node Interactions writes them, dealt out to so many files."""
    folder.mkdir(parents=True, exist_ok=True)
    for part in range(parts):
        with tf.io.TFRecordWriter(f"{folder}/part-{part}.gz", "GZIP") as writer:
            for sequence in sequences[part::parts]:
                writer.write(sequence_example(sequence).SerializeToString())
    return str(folder)


def of(*users):
    """Interactions of users: each (number of history, [(item, code of the event, time or NaN)])."""
    flat = [step for _, steps in users for step in steps]
    column = lambda place, dtype: np.array([step[place] for step in flat], dtype)  # noqa: E731
    return Interactions(
        user_ids=[f"u{number}" for number in range(len(users))],
        splits=np.cumsum([0, *(len(steps) for _, steps in users)]),
        items=column(0, np.int32),
        events=column(1, np.int32),
        event_names=("play", "skip"),
        times_s=column(2, np.float64),
        weights=np.arange(len(flat), dtype=np.float32),
        positives=np.ones(len(flat), bool),
        values=np.full(len(flat), np.nan, np.float32),
        num_history=np.array([known for known, _ in users], np.int64),
        ordered=np.ones(len(users), bool),
    )


TIMES = st.one_of(st.just(math.nan), st.integers(-(10**6), 10**6).map(float))
STEPS = st.lists(st.tuples(st.integers(0, 9), st.integers(UNKNOWN_EVENT, 3), TIMES), max_size=7)
WORLDS = st.lists(STEPS, min_size=1, max_size=4)


@settings(deadline=None, max_examples=200)
@given(WORLDS, st.integers(1, 5), st.data())
def test_the_window_is_what_plain_loops_give(steps_of_users, length, data):
    """The last interactions before the moment, oldest first; the moment is that of the next one, else of the last."""
    interactions = of(*((0, steps) for steps in steps_of_users))
    users = data.draw(st.lists(st.integers(0, len(steps_of_users) - 1), max_size=5))
    stops = [data.draw(st.integers(0, len(steps_of_users[user]))) for user in users]
    found = window(interactions, np.array(users, int), np.array(stops, int), length)
    width = max([1, *(min(stop, length) for stop in stops)])
    for row, (user, stop) in enumerate(zip(users, stops)):
        steps = steps_of_users[user]
        asked_at_s = steps[stop][2] if stop < len(steps) else steps[-1][2] if steps else math.nan
        expected = []
        for item, event, time_s in steps[max(stop - length, 0) : stop]:
            age_s = max(asked_at_s - time_s, 0.0) if not math.isnan(asked_at_s - time_s) else 0.0
            expected.append((item, event, np.float32(age_s)))
        expected += [(-1, PADDING, 0.0)] * (width - len(expected))
        assert list(zip(found.items[row], found.events[row], found.age_s[row])) == expected
        assert found.is_there[row].sum() == min(stop, length)
    assert found.items.shape == (len(users), width)
    assert (found.items.dtype, found.events.dtype, found.age_s.dtype) == (np.int32, np.int32, np.float32)


def test_a_window_picks_further_columns_and_ages_count_from_the_moment_asked_for():
    interactions = of((0, [(4, 2, 10.0), (5, 2, 30.0)]), (0, []))
    found = window(interactions, np.array([0, 1]), np.array([2, 0]), 9, np.array([100.0, 100.0]))
    assert found.age_s.tolist() == [[90, 70], [0, 0]]
    assert found.pick(interactions.weights, 7).tolist() == [[0, 1], [7, 7]]


def test_an_event_of_1970_has_an_age_as_any_other():
    interactions = of((0, [(0, 2, 0.0), (1, 2, -50.0), (2, 2, 100.0)]))
    assert window(interactions, np.array([0]), np.array([2]), 5).age_s.tolist() == [[100, 150]]


@settings(deadline=None, max_examples=100)
@given(st.lists(st.integers(0, 9), max_size=5), st.integers(1, 5))
def test_every_interaction_is_in_one_training_window(counts, length):
    """The last window of a user is what an answer sees, and only the earliest one may be shorter."""
    interactions = of(*((0, [(0, 2, float(step)) for step in range(count)]) for count in counts))
    users, stops = training_windows(interactions, length)
    found = window(interactions, users, stops, length)
    assert sorted(found.at[found.is_there].tolist()) == list(range(len(interactions.items)))
    assert users.tolist() == sorted(users.tolist())
    for user, count in enumerate(counts):
        sizes = found.is_there[users == user].sum(1)
        assert sorted(stops[users == user])[-1:] == [count][: bool(count)]
        assert (sizes == length).sum() >= len(sizes) - 1


def test_nobody_has_a_window_of_padding():
    found = window(of(), np.zeros(0, int), np.zeros(0, int), 3)
    assert found.items.shape == (0, 1)


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("parts", [1, 3])
def test_what_was_written_is_read_in_the_order_of_the_ids(tmp_path, mapped, parts):
    """However many files the writer made of it, and whether the columns are in memory or mapped from files."""
    sequences = (
        UserSequence("ß", "eval", [interaction(1, 10)], [interaction(3, 20, "skip"), interaction(1, 30, value=4.5)]),
        UserSequence("a", "eval", [], [interaction(4)]),
        UserSequence("b", "eval", [interaction(2, 5), interaction(0, 6)], []),
    )
    read = read_interactions(
        write(tmp_path / "in", *sequences, parts=parts), ITEM_IDS, folder=tmp_path / "out" if mapped else None
    )
    assert read.user_ids == ["a", "b", "ß"] and read.splits.tolist() == [0, 1, 3, 6]
    assert read.items.tolist() == [4, 2, 0, 1, 3, 1] and isinstance(read.items, np.memmap) == mapped
    assert read.event_texts(read.events).tolist() == ["play"] * 4 + ["skip", "play"]
    np.testing.assert_array_equal(read.times_s, [np.nan, 5, 6, 10, 20, 30])
    np.testing.assert_array_equal(read.values, [np.nan] * 5 + [4.5])
    assert read.positives.tolist() == [True] * 4 + [False, True] and read.weights.tolist() == [1] * 4 + [0.5, 1]
    assert read.num_history.tolist() == [0, 2, 1] and read.ordered.tolist() == [False, True, True]
    assert read.user_rows.tolist() == [0, 1, 1, 2, 2, 2]
    assert read.is_history.tolist() == [False, True, True, True, False, False]
    assert read.counts(6).tolist() == [1, 2, 1, 0, 1, 0]


def test_events_have_the_codes_of_the_names_given_and_others_are_unknown(tmp_path):
    folder = write(tmp_path, UserSequence("a", "train", [], [interaction(0, 1, "skip"), interaction(1, 2)]))
    read = read_interactions(folder, ITEM_IDS, ("like", "skip"))
    assert read.events.tolist() == [UNKNOWN_EVENT + 2, UNKNOWN_EVENT] and read.event_names == ("like", "skip")


def test_without_any_user_all_is_empty(tmp_path):
    read = read_interactions(write(tmp_path / "in"), ITEM_IDS, folder=tmp_path / "out")
    assert len(read) == 0 and read.splits.tolist() == [0] and read.counts(6).tolist() == [0] * 6
    assert list(read.blocks(5)) == []


def test_an_item_that_the_catalogue_lacks_is_named(tmp_path):
    folder = write(tmp_path, UserSequence("a", "train", [], [interaction(0, 1), interaction(5, 2)]))
    with pytest.raises(ValueError, match="1 items .* 'ü5' for one"):
        read_interactions(folder, ITEM_IDS[:5])


def test_a_matrix_counts_an_item_once():
    interactions = of((2, [(1, 2, 1.0), (3, 2, 2.0), (1, 2, 3.0)]), (0, [(0, 2, 1.0)]))
    assert interactions.matrix(np.ones(4, bool), 4).toarray().tolist() == [[0, 1, 0, 1], [1, 0, 0, 0]]
    assert interactions.matrix(interactions.is_history, 4).toarray().tolist() == [[0, 1, 0, 1], [0, 0, 0, 0]]


def test_blocks_hold_all_users_once_and_no_more_interactions_than_asked_for():
    interactions = of(*((0, [(0, 2, 1.0)] * count) for count in (2, 3, 9, 0, 1)))
    assert [block.tolist() for block in interactions.blocks(5)] == [[0, 1], [2], [3, 4]]


def test_some_users_in_the_order_asked_for():
    interactions = of((0, [(0, 2, 1.0)]), (0, []), (1, [(1, 2, 2.0), (2, 3, 3.0)]))
    chosen = interactions.select(np.array([2, 1, 0, 2]))
    assert chosen.user_ids == ["u2", "u1", "u0", "u2"] and chosen.items.tolist() == [1, 2, 0, 1, 2]
    assert chosen.splits.tolist() == [0, 2, 2, 3, 5] and chosen.num_history.tolist() == [1, 0, 0, 1]


def test_of_more_users_than_wanted_evenly_spaced_ones():
    people = of(*[(0, [(0, 2, 1.0)])] * 9)
    assert people.at_most(9) is people
    assert people.at_most(3).user_ids == [people.user_ids[row] for row in (0, 4, 8)]


def test_the_latest_of_everyone_is_that_of_their_last_split(tmp_path):
    """A later split holds the earlier ones as its history; events have the same names, whatever each split had seen."""
    early = read_interactions(
        write(
            tmp_path / "early",
            UserSequence("a", "train", [], [interaction(1, 10, "skip")]),
            UserSequence("b", "train", [], [interaction(2, 10, "skip"), interaction(3, 50, "skip")]),
        ),
        ITEM_IDS,
    )
    late = read_interactions(
        write(tmp_path / "late", UserSequence("a", "test", [interaction(1, 10, "skip")], [interaction(4, 40)])),
        ITEM_IDS,
    )
    both = latest([early, late])
    assert both.user_ids == ["a", "b"] and both.items.tolist() == [1, 4, 2, 3] and both.splits.tolist() == [0, 2, 4]
    assert both.event_texts(both.events).tolist() == ["skip", "play", "skip", "skip"]
    assert len(latest([late.select(np.zeros(0, int))])) == 0


def test_the_first_event_of_an_item_is_the_earliest_that_has_a_time():
    interactions = of((0, [(1, 2, 30.0), (0, 2, math.nan)]), (0, [(1, 3, 20.0), (3, 2, 5.0)]))
    np.testing.assert_array_equal(interactions.first_event_s(4), [np.nan, 20, np.nan, 5])


def one_by_one(folder, item_ids):
    """The columns of a folder of sequences by user, read by protobuf one interaction after the other."""
    rows, found = {item_id.encode(): row for row, item_id in enumerate(item_ids)}, {}
    for path in sorted(folder.iterdir()):
        for record in tf.data.TFRecordDataset(str(path), "GZIP").as_numpy_iterator():
            example = tf.train.Example.FromString(record).features.feature
            ids = example["item_ids"].bytes_list.value
            found[example["user_id"].bytes_list.value[0].decode()] = list(
                zip(
                    [rows[item_id] for item_id in ids],
                    [name.decode() for name in example["events"].bytes_list.value],
                    example["timestamps_s"].int64_list.value or [math.nan] * len(ids),
                    example["weights"].float_list.value,
                    [value > 0 for value in example["positives"].int64_list.value],
                    example["values"].float_list.value,
                )
            )
    return dict(sorted(found.items()))


@settings(deadline=None, max_examples=25)
@given(st.data())
def test_many_users_at_once_are_what_each_is_alone(tmp_path_factory, data):
    """Users with times and without, of any length, in files in any order; in batches of two users."""
    folder = tmp_path_factory.mktemp("sequences")
    kinds, values = st.sampled_from(["play", "skip"]), st.none() | st.floats(0, 5, width=32)
    sequences = []
    for number in data.draw(st.permutations(range(data.draw(st.integers(0, 7))))):
        times = data.draw(st.booleans())
        steps = data.draw(st.lists(st.tuples(st.integers(0, 5), kinds, values), min_size=1, max_size=5))
        made = [interaction(item, 10 * place if times else None, *rest) for place, (item, *rest) in enumerate(steps)]
        sequences.append(UserSequence(f"ü{number}", "train", made[:1], made[1:]))
    write(folder, *sequences, parts=2)
    expected = one_by_one(folder, ITEM_IDS)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sequence_files, "_USERS_AT_ONCE", 2)
        read = read_interactions(str(folder), ITEM_IDS)
    assert read.user_ids == list(expected) and read.lengths.tolist() == [len(steps) for steps in expected.values()]
    names = [("", "", *read.event_names)[code] for code in read.events]
    columns = (read.items, names, read.times_s, read.weights, read.positives, read.values)
    for column, wanted in zip(columns, zip(*(step for steps in expected.values() for step in steps))):
        np.testing.assert_array_equal(column, wanted)


def test_an_item_of_another_catalogue_is_named_with_its_user(tmp_path):
    folder = write(tmp_path, *(UserSequence(f"u{place}", "train", [], [interaction(place)]) for place in range(3)))
    with pytest.raises(ValueError, match="1 items of the interactions of 'u1' are not in the catalogue, 'ü1' for one"):
        read_interactions(folder, [ITEM_IDS[0], ITEM_IDS[2]])
