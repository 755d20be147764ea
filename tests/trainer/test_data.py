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


def test_media_that_no_item_has_take_no_room_on_the_disk(tmp_path, tiny):
    """Of forty items the eleventh alone has sound, and none has pictures."""
    bare = {**tiny.raw_features(0, 0), "audio_log_mel": b"", "video_frames": b""}
    items = [{**bare, "item_id": f"item-{number}"} for number in range(40)]
    items[10]["audio_log_mel"] = sound = tiny.raw_features(1, 1)["audio_log_mel"]
    pattern = tiny.write_records(tmp_path / "items.gz", [tiny.serialized(item) for item in items])
    arrays = ItemTable.build(pattern, tiny.DATA, tmp_path / "table").arrays
    np.testing.assert_array_equal(arrays["audio_log_mel"][10], sound)
    assert not arrays["video_frames"].any() and not arrays["audio_log_mel"][np.arange(40) != 10].any()
    room = {name: 512 * (tmp_path / "table" / f"{name}.npy").stat().st_blocks for name in arrays}
    assert room["audio_log_mel"] < 3 * sound.nbytes and room["video_frames"] < 20_000


def test_media_of_a_view_are_read_where_they_are_sliced(table):
    rows = np.array([7, 2, 9])
    view, taken = (read(rows, ["audio_log_mel", "numeric"]) for read in (table.view, table.take))
    assert len(view["audio_log_mel"]) == 3
    np.testing.assert_array_equal(view["audio_log_mel"][1:5], taken["audio_log_mel"][1:])
    np.testing.assert_array_equal(view["numeric"], taken["numeric"])


def test_a_known_vocabulary_size_counts_words_that_no_item_has(item_file, tiny, tmp_path):
    assert ItemTable.build(item_file, tiny.DATA, tmp_path / "t", {"tags": 40}).vocabulary_sizes["tags"] == 40


def test_duplicate_ids_and_empty_catalogues_are_refused(tmp_path, tiny):
    twice = tiny.write_records(tmp_path / "twice.gz", [tiny.serialized(tiny.raw_features(0, 0))] * 2)
    with pytest.raises(ValueError, match="1 item ids come more than once"):
        ItemTable.build(twice, tiny.DATA, tmp_path / "a")
    with pytest.raises(ValueError, match="no items"):
        ItemTable.build(str(tmp_path / "nothing*"), tiny.DATA, tmp_path / "b")
