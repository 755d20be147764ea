"""Cells that say nothing, or look as if they did; lists and words in other spellings."""

import gzip
import json
import unicodedata

import pytest

from components.config import DataConfig, TableConfig
from components.contract import EVENTS
from components.settings import from_mapping
from components.tables.raw import TableError
from tests.components.tables.reading import ITEMS, PLAIN_ITEMS, faults, notes, read, titles, write


@pytest.mark.parametrize("word", ["nan", "NULL", "None", "\\N", "-", "N/A", "<NA>", "undefined"])
def test_text_that_looks_like_nothing_stays_and_is_counted(tmp_path, word):
    """D08: with the setting that declares it."""
    path = write(tmp_path / "items.csv", f"item_id,title,creator,tags\n1,a,{word},x|{word}\n2,{word},Ann,\n")
    rows, rejects = read(path)
    assert not rejects and rows[0].values["creator"] == word and rows[1].values["title"] == word
    told = f"{word!r}, read as text; if it says nothing, state it in empty_values"
    assert [set(row.notes) for row in rows] == [{f"tags: {told}", f"creator: {told}"}, {f"title: {told}"}]
    rows, _ = read(path, empty_values=(word,))
    assert [row.values for row in rows] == [
        {"item_id": "1", "title": "a", "tags": ["x"]},
        {"item_id": "2", "creator": "Ann"},
    ]
    assert not any(row.notes for row in rows)


def test_empty_values_can_be_stated_for_one_column(tmp_path):
    """D08: numbers are compared as numbers, in every format."""
    table = {"empty_values_of": {"year": ("-1", "9999"), "creator": ("-",)}}
    rows = [
        {"item_id": "1", "year": -1, "title": "-", "creator": "-"},
        {"item_id": "2", "year": 9999.0, "creator": "x"},
    ]
    rows = [{**row, "embedding:clip": [0.0, 1.0]} for row in rows]
    write(tmp_path / "items.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    write(tmp_path / "items.csv", "item_id,year,title,creator,embedding:clip\n1,-1.0,-,-,0 1\n2,9999,,x,0 1\n")
    for ending in ("jsonl", "csv"):
        found, rejects = read(tmp_path / f"items.{ending}", ITEMS, **table)
        assert not rejects and [row.values.get("year") for row in found] == [None, None]
        assert [row.values.get("creator") for row in found] == [None, "x"] and found[0].values["title"] == "-"
    stated = from_mapping(TableConfig, {"path": "x", "empty_values_of": {"year": ["-1"]}})
    assert stated.empty_values_of == {"year": ("-1",)}


@pytest.mark.parametrize("word", ["NULL", "None", "\\N", "-"])
def test_a_number_that_is_a_word_for_nothing_is_a_reject_that_says_what_to_state(tmp_path, word):
    """D08."""
    path = write(tmp_path / "items.csv", f"item_id,duration_s\n1,{word}\n2,3\n")
    rows, rejects = read(path)
    assert list(titles(rows)) == ["2"] and faults(rejects) == [(2, "bad_number")]
    assert "state it in empty_values" in rejects[0]["detail"]
    assert list(titles(read(path, empty_values=(word,))[0])) == ["1", "2"]


@pytest.mark.parametrize("cell", ["nan", "NaN", " NAN "])
def test_nan_in_a_number_is_absent_in_text_too(tmp_path, cell):
    """D08: no number is meant by it; in a title it is a word."""
    rows, rejects = read(write(tmp_path / "items.csv", f"item_id,duration_s,published_at\n1,{cell},{cell}\n2,3,1999\n"))
    assert not rejects and rows[0].values == {"item_id": "1"}
    assert set(rows[0].notes) == {"duration_s: NaN, read as absent", "published_at: NaN, read as absent"}
    rows, _ = read(
        write(tmp_path / "items.jsonl", '{"item_id": "1", "title": NaN, "duration_s": NaN, "tags": [NaN, "x"]}')
    )
    assert rows[0].values == {"item_id": "1", "tags": ["x"]}


@pytest.mark.parametrize("cell", ["-1", "0", "-0.5", "0.0"])
def test_a_length_of_nothing_is_absent(tmp_path, cell):
    """D09: and never an anomaly that ends the run."""
    rows, rejects = read(write(tmp_path / "items.csv", f"item_id,duration_s\n1,{cell}\n2,3\n"))
    assert not rejects and rows[0].values == {"item_id": "1"} and rows[1].values["duration_s"] == 3
    assert rows[0].notes == ("duration_s: 0 or less, read as absent",)


@pytest.mark.parametrize(
    "cell", ['["Drama", "War"]', ' [ "Drama" , " War " ] ', '["Drama", null, "", "War", "Drama"]', "Drama|War"]
)
def test_a_json_list_in_a_cell_is_a_list(tmp_path, cell):
    """D11."""
    quoted = '"' + cell.replace('"', '""') + '"'
    rows, rejects = read(write(tmp_path / "items.csv", f"item_id,tags\n1,{quoted}\n"))
    assert not rejects and list(dict.fromkeys(rows[0].values["tags"])) == ["Drama", "War"]
    rows, _ = read(write(tmp_path / "items.jsonl", json.dumps({"item_id": "1", "tags": cell})))
    assert list(dict.fromkeys(rows[0].values["tags"])) == ["Drama", "War"]


@pytest.mark.parametrize(
    "cell",
    ["['Drama', 'War']", "[{'name': 'x'}]", '[{"name": "x"}]', "[Drama, War]", "{Drama,War}", "{'a': 1}", "('a', 'b')"]
    + ["[1.5, 2.5]", "['Drama'|'War']", "['Drama' 'War']", "[[]]", '["a"]]'],
)
def test_a_list_in_another_language_is_no_tag(tmp_path, cell):
    """D11: never one tag with brackets."""
    quoted = '"' + cell.replace('"', '""') + '"'
    rows, rejects = read(write(tmp_path / "items.csv", f"item_id,tags\n1,{quoted}\n2,x\n"))
    assert list(titles(rows)) == ["2"] and faults(rejects) == [(2, "bad_list")]


def test_brackets_around_a_part_of_a_list_are_a_tag(tmp_path):
    """D11: what is no list stays what it is."""
    rows, rejects = read(write(tmp_path / "items.csv", 'item_id,tags\n1,[Live]|Rock\n2,"[]"\n3,(500) Days|(live)\n'))
    assert not rejects and [row.values.get("tags") for row in rows] == [
        ["[Live]", "Rock"],
        None,
        ["(500) Days", "(live)"],
    ]


def test_lists_with_another_separator_are_told(tmp_path):
    """D11: `Drama, War` is one tag until the separator is stated."""
    path = write(tmp_path / "items.csv", 'item_id,tags\n1,"Drama, War"\n2,"Action, Crime"\n3,Drama\n')
    assert notes(path)["lists_with_commas"] == ["tags"]
    rows, _ = read(path, list_separator=",")
    assert [row.values["tags"] for row in rows] == [["Drama", "War"], ["Action", "Crime"], ["Drama"]]
    assert "lists_with_commas" not in notes(write(path, "item_id,tags\n1,Drama|War\n2,Drama\n"))


@pytest.mark.parametrize("padded", [" 7", "7 ", "\t7", "\u00a07\u3000", "\ufeff7", "\ufeff 7", " \ufeff7 "])
def test_blanks_around_ids_do_not_count(tmp_path, padded):
    """D12: in every format; blanks inside do."""
    write(tmp_path / "items.jsonl", json.dumps({"item_id": padded}))
    write(tmp_path / "items.csv", f'item_id,title\n"{padded}",x\n')
    for ending in ("jsonl", "csv"):
        assert list(titles(read(tmp_path / f"items.{ending}")[0])) == ["7"]
    assert list(titles(read(write(tmp_path / "items.csv", "item_id\na b\n"))[0])) == ["a b"]


@pytest.mark.parametrize("cell", ["\ufeff", " \ufeff ", "\ufeff\u3000"])
def test_an_id_of_blanks_and_marks_alone_is_missing(tmp_path, cell):
    write(tmp_path / "items.jsonl", json.dumps({"item_id": cell}))
    write(tmp_path / "items.csv", f'item_id,title\n"{cell}",x\n')
    for ending, line in (("jsonl", 1), ("csv", 2)):
        rows, rejects = read(tmp_path / f"items.{ending}")
        assert not rows and faults(rejects) == [(line, "missing_required")]


@pytest.mark.parametrize("again", ["item_id,title", "\ufeffitem_id,title", '\ufeff"item_id","title"'])
def test_joined_files_have_no_item_named_item_id(tmp_path, again):
    """D12's kind: `cat a.csv b.csv`, with the second one's byte order mark and header."""
    path = write(tmp_path / "items.csv", f"\ufeffitem_id,title\n1,a\n{again}\n2,b\n")
    rows, rejects = read(path)
    assert titles(rows) == {"1": "a", "2": "b"} and faults(rejects) == [(3, "repeated_header")]


def test_joined_json_lines_keep_their_first_rows(tmp_path):
    """`cat a.jsonl b.jsonl`, each with a byte order mark."""
    rows, rejects = read(write(tmp_path / "items.jsonl", '\ufeff{"item_id": "1"}\n\ufeff{"item_id": "2"}\n'))
    assert list(titles(rows)) == ["1", "2"] and not rejects


def test_one_word_has_one_spelling(tmp_path):
    """D17: composed and decomposed letters in titles, tags, creators; an address stays as its file is called."""
    composed, decomposed = (unicodedata.normalize(form, "Amélie") for form in ("NFC", "NFD"))
    lines = [f"{n},{text},{text}|x,{text},{text}.mp3" for n, text in enumerate((composed, decomposed))]
    path = write(tmp_path / "items.csv", "item_id,title,tags,creator,media_uri\n" + "\n".join(lines) + "\n")
    rows, _ = read(path, PLAIN_ITEMS)
    first, second = ({name: row.values[name] for name in ("title", "tags", "creator")} for row in rows)
    assert first == second == {"title": composed, "tags": [composed, "x"], "creator": composed}
    assert rows[1].values["media_uri"] == f"{decomposed}.mp3"


def test_another_encoding_is_told_by_its_mark(tmp_path):
    """D12's kind: UTF-16 and gzip under a plain name."""
    for content, told in (
        ("item_id,title\n1,a\n".encode("utf-16"), "begins as utf-16 does; state encoding: utf-16"),
        (gzip.compress(b"item_id\n1\n"), "begins as gzip does; its name should end with .gz"),
    ):
        with pytest.raises(TableError, match=told):
            read(write(tmp_path / "items.csv", content))


def test_users_and_events_are_read_by_the_same_rules(tmp_path):
    data = DataConfig(catalogue=TableConfig("c"), events=TableConfig("e"))
    assert data.events.empty_values == ("(no genres listed)",)
    rows, _ = read(write(tmp_path / "events.csv", "User_ID, Item_ID ,VALUE\n u , a , nan \n"), EVENTS)
    assert rows[0].values == {"user_id": "u", "item_id": "a"}
