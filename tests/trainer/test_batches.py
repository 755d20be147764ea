"""A batch is a function of its place, and the replicas' parts of it are the whole."""

import itertools

import numpy as np
import pytest

from trainer.batches import TrainingBatches
from trainer.keras import tf


def _pairs(batch):
    """Users' item rows, told apart by the catalogue."""
    return [tuple(sorted(batch["candidates"][row[row >= 0]])) for row in batch["items"]]


@pytest.mark.parametrize("items_per_step", [100, 8])
def test_batches_point_into_their_candidates(train_split, table, items_per_step):
    batches = TrainingBatches(train_split, table, ["numeric"], 5, items_per_step, 100, seed=1)
    found = []
    for step in range(batches.steps_per_epoch):
        batch = batches.at(0, step)
        assert (np.diff(batch["candidates"]) > 0).all()
        np.testing.assert_array_equal(batch["features"]["numeric"], table.arrays["numeric"][batch["candidates"]])
        found += batch["candidates"][batch["items"][batch["items"] >= 0]].tolist()
    assert sorted(found) == sorted(train_split.items.tolist())  # every interaction once an epoch


@pytest.mark.parametrize("items_per_step", [100, 8])
def test_a_batch_depends_on_its_place_alone(train_split, table, items_per_step):
    one, other = (TrainingBatches(train_split, table, ["numeric"], 5, items_per_step, 100, seed=1) for _ in range(2))
    for epoch, step in [(2, 1), (0, 0), (2, 1)]:
        for name, value in one.at(epoch, step).items():
            np.testing.assert_equal(other.at(epoch, step)[name], value)
    assert _pairs(one.at(0, 0)) != _pairs(one.at(1, 0))


@pytest.mark.parametrize("items_per_step", [100, 8])
def test_the_parts_of_a_batch_are_the_batch(train_split, table, items_per_step):
    """Also of the last one, which has 4 users: with 6 replicas, two of them get nobody."""
    batches = TrainingBatches(train_split, table, ["numeric"], 5, items_per_step, 100, seed=1)
    whole = batches.at(0, batches.steps_per_epoch - 1)
    parts = [batches.at(0, batches.steps_per_epoch - 1, part, 6) for part in range(6)]
    assert [len(part["items"]) for part in parts] == [1, 1, 1, 1, 0, 0]
    assert sorted(itertools.chain(*map(_pairs, parts))) == sorted(_pairs(whole))
    assert all((part["candidates"] == whole["candidates"]).all() for part in parts)


def test_the_stream_goes_on_from_anywhere_across_epochs(train_split, table):
    batches = TrainingBatches(train_split, table, ["numeric"], 5, 100, 100, seed=1)
    stream = batches.dataset(0, batches.steps_per_epoch - 1, tf.distribute.InputContext()).as_numpy_iterator()
    for place in [(0, batches.steps_per_epoch - 1), (1, 0), (1, 1)]:
        np.testing.assert_array_equal(next(stream)["items"], batches.at(*place)["items"])


def test_two_workers_with_two_replicas_each_get_four_parts(train_split, table):
    batches = TrainingBatches(train_split, table, ["numeric"], 5, 100, 100, seed=1)
    found = []
    for worker in range(2):
        context = tf.distribute.InputContext(num_input_pipelines=2, input_pipeline_id=worker, num_replicas_in_sync=4)
        found += [next(stream) for stream in [batches.dataset(0, 0, context).as_numpy_iterator()] for _ in range(2)]
    assert [_pairs(batch) for batch in found] == [_pairs(batches.at(0, 0, part, 4)) for part in range(4)]


def test_few_shapes_are_the_same_interactions_with_more_padding(train_split, table):
    """Users have 5 items each, so rows of 8; the last batch of 4 users is filled up with nobody."""
    plain, filled = (
        TrainingBatches(train_split, table, ["numeric"], 5, 100, 100, seed=1, few_shapes=few) for few in (False, True)
    )
    for step in range(plain.steps_per_epoch):
        few, batch = filled.at(0, step), plain.at(0, step)
        assert few["items"].shape == few["weights"].shape == (5, 8) and few["ordered"].shape == (5,)
        assert [pair for pair in _pairs(few) if pair] == _pairs(batch)
        assert few["weights"].sum() == batch["weights"].sum() and few["positives"].sum() == batch["positives"].sum()


def test_a_user_with_more_interactions_than_the_window_stands_for_several(train_split, table):
    """Users have 5 items each: with a window of 2 the last two, the two before, the first; ages go to the last one."""
    batches = TrainingBatches(train_split, table, ["numeric"], 1, 100, 2, seed=1)
    assert batches.steps_per_epoch == 3 * len(train_split)
    found = [batches.at(0, step) for step in range(batches.steps_per_epoch)]
    taken = [item for batch in found for item in batch["candidates"][batch["items"][batch["items"] >= 0]]]
    assert sorted(taken) == sorted(train_split.items.tolist())  # every interaction once an epoch
    ages = sorted(tuple(batch["age_s"][0]) for batch in found)
    assert set(ages) == {(60.0, 0.0), (180.0, 120.0), (240.0,)}  # an interaction a minute


@pytest.mark.parametrize(("items_per_step", "window"), [(100, 100), (8, 100), (100, 2)])
def test_flat_batches_are_the_padded_ones_without_padding(train_split, table, items_per_step, window):
    padded, flat = (
        TrainingBatches(train_split, table, ["numeric"], 5, items_per_step, window, seed=1, flat=flat)
        for flat in (False, True)
    )
    for step in range(padded.steps_per_epoch):
        batch, found = padded.at(0, step), flat.at(0, step)
        is_there = batch["items"] >= 0
        np.testing.assert_array_equal(found["rows"], np.nonzero(is_there)[0])
        for name in ("items", "events", "age_s", "weights", "positives"):
            np.testing.assert_array_equal(found[name], batch[name][is_there])
        np.testing.assert_array_equal(found["users"], batch["users"])
        np.testing.assert_array_equal(found["candidates"], batch["candidates"])
