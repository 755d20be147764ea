"""Examples on disk arrive as the right arrays."""

import numpy as np
import pytest

from trainer.data import ItemTable


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
