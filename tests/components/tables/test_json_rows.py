"""JSON tables: an object a line, or one array."""

import gzip
import json

import pytest

from components.tables.raw import TableError
from tests.components.tables.reading import faults, read, titles, write

ITEMS = [{"item_id": "1", "title": "a", "tags": ["x", "y"]}, {"item_id": "2"}, {"item_id": 3, "title": "né"}]


@pytest.mark.parametrize("indent", [None, 0, 2])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_an_array_is_its_elements(tmp_path, indent, mark):
    """D15: on one line or many, gzipped, with a byte order mark; each element under its line."""
    text = mark + json.dumps(ITEMS, indent=indent, ensure_ascii=False).encode()
    write(tmp_path / "items.json", text)
    write(tmp_path / "items.json.gz", gzip.compress(text))
    for name in ("items.json", "items.json.gz"):
        rows, rejects = read(tmp_path / name)
        assert titles(rows) == {"1": "a", "2": None, "3": "né"} and not rejects
        lines = text.decode().split("\n")
        starts = [number for number, line in enumerate(lines, 1) for _ in range(line.count("{"))]
        assert [row.line for row in rows] == starts


@pytest.mark.parametrize("indent", [None, 2])
def test_a_broken_element_costs_itself(tmp_path, indent):
    """D15."""
    text = json.dumps([*ITEMS[:1], {"item_id": "BROKEN", "tags": [{"a": 1}]}, *ITEMS[1:]], indent=indent)
    path = write(tmp_path / "items.json", text.replace('"BROKEN"', '"BRO"KEN"'))
    rows, rejects = read(path)
    assert list(titles(rows)) == ["1", "2", "3"] and {reject["reason"] for reject in rejects} == {"bad_json"}


@pytest.mark.parametrize(
    "text, ids, line",
    [
        ('[\n{"item_id": "1", "tags": x}, {"item_id": "2"}, {"item_id": "3"}]', ["2", "3"], 2),
        ('[\n{"item_id": "1", "tags": x}, {"item_id": "2"},\n{"item_id": "3"}\n]', ["2", "3"], 2),
        ('[\n{"item_id": "1", "title": "5" disc", "tags": [{"a": 1}, {"a": 2}]},\n{"item_id": "2"}\n]', ["2"], 2),
        ('[{"item_id": "1", "tags": [{"a": x}, {"a": 2}]}, {"item_id": "2"}]', ["2"], 1),
        ('[\n  {\n    "item_id": "1",\n    "tags": [\n      {"a": 1}\n  },\n  {\n    "item_id": "2"\n  }\n]', ["2"], 2),
        ('[\nNone, {"item_id": "2"},\n{"item_id": "3"}]', ["2", "3"], 2),
        ('[{"item_id": "2"},\n{"item_id": "1", "tags": x}\n]\n', ["2"], 2),
    ],
)
def test_reading_goes_on_after_a_broken_element(tmp_path, text, ids, line):
    """D15: at the next one, on its line or a later one; objects within the broken one are none."""
    rows, rejects = read(write(tmp_path / "items.json", text))
    assert list(titles(rows)) == ids and faults(rejects) == [(line, "bad_json")]
    assert "never closed" not in rejects[0]["detail"]


def test_an_array_that_is_cut_off_within_an_element_says_so(tmp_path):
    """D15."""
    rows, (reject,) = read(write(tmp_path / "items.json", '[{"item_id": "1"},\n{"item_id": "2", "ti'))
    assert list(titles(rows)) == ["1"] and "the array is never closed after it" in reject["detail"]


def test_an_array_that_is_cut_off_says_so(tmp_path):
    """D15: after its last whole element."""
    text = json.dumps(ITEMS, indent=1)
    rows, rejects = read(write(tmp_path / "items.json", text[: text.rindex("{") - 3]))
    assert list(titles(rows)) == ["1", "2"] and [reject["reason"] for reject in rejects] == ["bad_json"]
    rows, rejects = read(write(tmp_path / "items.json", text + "\nnonsense\n[1]"))
    assert len(rows) == 3 and [reject["reason"] for reject in rejects] == ["bad_json"] * 2


def test_elements_that_are_no_objects_are_rejects(tmp_path):
    rows, rejects = read(write(tmp_path / "items.json", '[{"item_id": "1"},\n7,\nnull,\n[{"item_id": "2"}]\n]'))
    assert list(titles(rows)) == ["1"] and faults(rejects) == [(2, "bad_json"), (3, "bad_json"), (4, "bad_json")]


def test_a_name_that_stands_twice_in_an_object_costs_its_row(tmp_path):
    """D07's kind: of two values none is the right one."""
    rows, rejects = read(write(tmp_path / "items.jsonl", '{"item_id": "1", "item_id": "2"}\n{"item_id": "3"}\n'))
    assert list(titles(rows)) == ["3"] and faults(rejects) == [(1, "bad_json")]
    assert "'item_id' stands twice" in rejects[0]["detail"]


def test_one_object_over_many_lines_is_no_table(tmp_path):
    """D15."""
    with pytest.raises(TableError, match="no column item_id"):
        read(write(tmp_path / "items.json", json.dumps({"items": ITEMS}, indent=2)))
    with pytest.raises(TableError, match="no column item_id; columns found: 'items'"):
        read(write(tmp_path / "items.json", json.dumps({"items": ITEMS})))
