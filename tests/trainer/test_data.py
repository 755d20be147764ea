"""Examples on disk arrive as the right arrays."""

import numpy as np
import pytest

from trainer.data import ItemTable, Sequences


def test_table_holds_what_the_examples_said(table, tiny):
    assert len(table) == tiny.NUM_ITEMS
    assert table.item_ids[3] == b"item-3" and table.index[b"item-3"] == 3
    raw = tiny.raw_features(1, 3)
    for name, array in table.take(np.array([3])).items():
        np.testing.assert_array_equal(array[0], raw[name], err_msg=name)
    assert table.modalities == ("text", "tags", "audio", "video", "embedding_given")


def test_table_is_memory_mapped_and_opens_again(table, tmp_path):
    assert isinstance(table.arrays["audio_log_mel"], np.memmap)
    again = ItemTable.open(tmp_path / "table")
    assert again.item_ids == table.item_ids and again.vocabulary_sizes == table.vocabulary_sizes


def test_take_repeats_rows_in_the_order_asked(table):
    rows = np.array([5, 1, 5, 0])
    np.testing.assert_array_equal(table.take(rows, ["numeric"])["numeric"][:, 0], table.arrays["numeric"][rows, 0])


def test_absent_media_are_zeros_of_the_right_shape(tmp_path, tiny):
    absent = {**tiny.raw_features(0, 0), "audio_log_mel": b"", "audio_num_frames": np.zeros(3), "has_audio": 0}
    pattern = tiny.write_records(tmp_path / "items.gz", [tiny.serialized(absent)])
    table = ItemTable.build(pattern, tiny.DATA, tmp_path / "table")
    assert not table.arrays["audio_log_mel"].any() and table.arrays["audio_log_mel"].shape == (1, 3, 300, 64)
    assert "audio" not in table.modalities


def test_a_known_vocabulary_size_counts_words_that_no_item_has(item_file, tiny, tmp_path):
    assert ItemTable.build(item_file, tiny.DATA, tmp_path / "t", {"tags": 40}).vocabulary_sizes["tags"] == 40


def test_duplicate_ids_and_empty_catalogues_are_refused(tmp_path, tiny):
    twice = tiny.write_records(tmp_path / "twice.gz", [tiny.serialized(tiny.raw_features(0, 0))] * 2)
    with pytest.raises(ValueError, match="1 item ids come more than once"):
        ItemTable.build(twice, tiny.DATA, tmp_path / "a")
    with pytest.raises(ValueError, match="no items"):
        ItemTable.build(str(tmp_path / "nothing*"), tiny.DATA, tmp_path / "b")


def _read(tmp_path, tiny, records, index):
    return Sequences.read([tiny.write_records(tmp_path / "s.gz", records)], index, ("play", "like"))


def test_unknown_items_leave_the_sequence_and_its_history(tmp_path, tiny):
    index = {b"a": 0, b"b": 1, b"c": 2}
    sequences = _read(tmp_path, tiny, [tiny.sequence_example("u", ["a", "gone", "b", "c"], num_history=3)], index)
    assert sequences.items.tolist() == [0, 1, 2] and sequences.num_history.tolist() == [2]


def test_padded_history_and_ages(tmp_path, tiny):
    index = {b"a": 0, b"b": 1, b"c": 2}
    records = [tiny.sequence_example("u", ["a", "b", "c"], num_history=2), tiny.sequence_example("v", [])]
    batch = _read(tmp_path, tiny, records, index).padded(np.array([0, 1]), history_only=True)
    assert batch["items"].tolist() == [[0, 1], [-1, -1]]
    assert batch["events"].tolist() == [[2, 2], [0, 0]]
    assert batch["age_s"].tolist() == [
        [120, 60],
        [0, 0],
    ]  # before the first interaction of the split, a minute after the last one


def test_longest_keeps_the_newest(tmp_path, tiny):
    sequences = _read(tmp_path, tiny, [tiny.sequence_example("u", ["a", "b", "c"])], {b"a": 0, b"b": 1, b"c": 2})
    assert sequences.padded(np.array([0]), longest=2)["items"].tolist() == [[1, 2]]


def test_sets_have_no_ages(tmp_path, tiny):
    sequences = _read(
        tmp_path, tiny, [tiny.sequence_example("u", ["a", "b"], ordered=False, event="like")], {b"a": 0, b"b": 1}
    )
    batch = sequences.padded(np.array([0]))
    assert not batch["age_s"].any() and not batch["ordered"].any() and batch["events"].tolist() == [[3, 3]]
