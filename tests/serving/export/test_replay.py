"""Recorded answers and what counts as the same: rounding may let items of one score change places, nothing else may."""

import numpy as np
import pytest
import tensorflow as tf

from serving.export import replay

SCORES = np.array([[0.9, 0.5 + 1e-7, 0.5, 0.1], [0.9, 0.5, 0.4, 0.1]], np.float32)
IDS = np.array([[b"a", b"b", b"c", b"d"], [b"e", b"f", b"g", b""]], object)
REASONS = np.array([[b"1", b"2", b"3", b"4"], [b"5", b"6", b"7", b""]], object)


def answer(order, scores=SCORES, ids=IDS):
    """A list of two people whose items stand in another order, each with its reason; the scores stay."""
    return {"item_ids": ids[:, order], "scores": scores, "reasons": REASONS[:, order], "count": np.array([4, 3])}


def compared(tmp_path, got):
    path = str(tmp_path)
    replay.record(path, lambda signature, inputs: answer([0, 1, 2, 3]), [("similar", {"k": tf.constant([4, 4])})])
    return replay.compare(path, lambda signature, inputs: got)


def test_items_of_one_score_may_stand_in_either_order_with_all_that_is_said_of_them(tmp_path):
    first = {name: array.copy() for name, array in answer([0, 1, 2, 3]).items()}
    for name in ("item_ids", "reasons"):
        first[name][0] = first[name][0][[0, 2, 1, 3]]
    assert compared(tmp_path, first) == 1
    first["reasons"][0] = REASONS[0]  # those of the other item
    with pytest.raises(replay.ReplayError, match="similar, output reasons"):
        compared(tmp_path, first)


@pytest.mark.parametrize("order", [[1, 0, 2, 3], [0, 1, 3, 2]])
def test_items_of_other_scores_may_not(tmp_path, order):
    with pytest.raises(replay.ReplayError, match="similar, output (item_ids|reasons)"):
        compared(tmp_path, answer(order))


LONG_SCORES = np.array([[0.9, 0.5 + 3e-6, 0.5 + 1e-6, 0.5, 0]], np.float32)


def long_list(ids, reasons="abcd"):
    listed = np.array([[*ids, ""]], "S1").astype(object)
    return {
        "item_ids": listed,
        "scores": LONG_SCORES,
        "probabilities": np.array([[[ord(one)] for one in [*reasons, "0"]]], np.float32),
        "count": np.array([4]),
    }


@pytest.mark.parametrize("ids", ["abcx", "abxd", "axcb", "adcx", "axyz", "acxb"])
def test_the_last_places_of_one_score_may_hold_others_of_it(tmp_path, ids):
    """More items have the score of the last place than there are places left."""
    path = str(tmp_path)
    replay.record(path, lambda *_: long_list("abcd"), [("similar", {"k": tf.constant([4])})])
    assert replay.compare(path, lambda *_: long_list(ids, ids)) == 1


@pytest.mark.parametrize(
    ("ids", "said_of_them"), [("xbcd", "xbcd"), ("bacd", "bacd"), ("abc", "abc0"), ("abdx", "abcx"), ("abbx", "abbx")]
)
def test_no_other_place_may_and_those_that_stay_are_said_the_same_of(tmp_path, ids, said_of_them):
    path = str(tmp_path)
    replay.record(path, lambda *_: long_list("abcd"), [("similar", {"k": tf.constant([4])})])
    with pytest.raises(replay.ReplayError, match="similar, output (item_ids|probabilities)"):
        replay.compare(path, lambda *_: long_list(ids.ljust(4, "\0"), said_of_them))


def test_another_item_or_another_score_is_another_answer(tmp_path):
    with pytest.raises(replay.ReplayError, match="similar, output (item_ids|reasons)"):
        compared(tmp_path, answer([0, 1, 2, 3], ids=np.where(IDS == b"c", b"x", IDS)))
    with pytest.raises(replay.ReplayError, match="similar, output scores"):
        compared(tmp_path, answer([0, 1, 2, 3], SCORES + np.float32(1e-3)))
