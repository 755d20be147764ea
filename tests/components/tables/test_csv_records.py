"""Quotes of delimited text: no row is swallowed, none is made up, and each stands under its line."""

import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.tables import csv_records
from components.tables.csv_records import quote_style, records
from tests.components.tables.reading import faults, notes, read, titles, write

TEXT = st.text(st.characters(blacklist_characters="\r\0", blacklist_categories=("Cs",)), max_size=8)


def parsed(text, separator=",", quotes="auto"):
    """(line, fields or reason) of each record."""
    found = records(io.StringIO(text), separator, quotes)
    return [(record.line, record.reason or record.fields) for record in found]


@given(st.integers(1, 4).flatmap(lambda width: st.lists(st.lists(TEXT, min_size=width, max_size=width), min_size=1)))
@settings(deadline=None)
def test_records_are_what_the_csv_module_reads(table):
    """With stated quotes; without, some are rejected, and the others are those very records."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows(table)
    expected = [row for row in csv.reader(io.StringIO(buffer.getvalue())) if row]
    assert [fields for _, fields in parsed(buffer.getvalue(), quotes="double")] == expected
    found = parsed(buffer.getvalue())
    accepted = [fields for _, fields in found if fields != "bad_quotes"]
    assert [row for row in expected if row in accepted] == [row for row in accepted if row in expected] == accepted


QUOTED_NAMES = 'item_id\ttitle\n1\t"Quoted" Name\n2\t"Heroes"\n3\t"Open at start only\n4\tx\n5\tEnds here"\n6\tlast\n'
NAMES = {"1": '"Quoted" Name', "2": '"Heroes"', "3": '"Open at start only', "4": "x", "5": 'Ends here"', "6": "last"}


@pytest.mark.parametrize("quotes", ["auto", "none"])
def test_a_tsv_that_knows_no_quotes_keeps_its_titles(tmp_path, quotes):
    """D01: and says so, unless the table does."""
    path = write(tmp_path / "items.tsv", QUOTED_NAMES)
    rows, rejects = read(path, separator="\t", quotes=quotes)
    assert titles(rows) == NAMES and not rejects and [row.line for row in rows] == [2, 3, 4, 5, 6, 7]
    told = notes(path, separator="\t", quotes=quotes).get("files_without_quotes")
    assert told == ([str(path)] if quotes == "auto" else None)


def test_a_tsv_whose_only_odd_quotes_swallow_a_row_knows_none(tmp_path):
    """D01: `"Open` and `here"` make a sound value of RFC 4180, with a row in it."""
    path = write(tmp_path / "items.tsv", 'item_id\ttitle\n3\t"Open\n4\tx\n5\tEnds here"\n6\t"whole"\n')
    rows, rejects = read(path, separator="\t")
    assert titles(rows) == {"3": '"Open', "4": "x", "5": 'Ends here"', "6": '"whole"'} and not rejects


def test_a_tsv_that_a_spreadsheet_wrote_keeps_its_quoted_lines(tmp_path):
    """D01: quotes that pair up are quotes."""
    path = write(tmp_path / "items.tsv", 'item_id\ttitle\n1\t"two\nlines"\n2\t"say ""hi"""\n3\tplain\n')
    rows, rejects = read(path, separator="\t")
    assert titles(rows) == {"1": "two\nlines", "2": 'say "hi"', "3": "plain"} and not rejects
    assert "files_without_quotes" not in notes(path, separator="\t")


def test_a_quoted_value_may_reach_beyond_the_lines_that_decide(tmp_path, monkeypatch):
    """D01: the last of them ends within it; a quote that is open over rows of the table still says that there are
    none."""
    monkeypatch.setattr(csv_records, "SAMPLE_LINES", 10)
    plain = "".join(f"{n}\tplain\n" for n in range(8))
    path = write(tmp_path / "items.tsv", f'item_id\ttitle\n{plain}x\t"two\nlines"\n')
    rows, rejects = read(path, separator="\t")
    assert titles(rows)["x"] == "two\nlines" and len(rows) == 9 and not rejects
    assert "files_without_quotes" not in notes(path, separator="\t")
    rows, rejects = read(write(path, f'item_id\ttitle\nx\t"open\n{plain}'), separator="\t")
    assert titles(rows)["x"] == '"open' and len(rows) == 9 and not rejects


def test_quotes_can_be_switched_off_in_any_table(tmp_path):
    """D01."""
    path = write(tmp_path / "items.csv", 'item_id,title\n1,"Quoted" Name\n2,5" disc\n3,"open\n4,x\n')
    rows, rejects = read(path, quotes="none")
    assert titles(rows) == {"1": '"Quoted" Name', "2": '5" disc', "3": '"open', "4": "x"} and not rejects
    _, rejects = read(path)
    assert faults(rejects) == [(2, "bad_quotes"), (4, "bad_quotes")]
    assert all("quotes: none" in reject["detail"] for reject in rejects)


@pytest.mark.parametrize("num_lines", [2, 600, 100_000])
def test_a_long_quoted_text_is_one_row(tmp_path, num_lines):
    """D02."""
    text = "\n".join(f"line {n}, of a text" for n in range(num_lines))
    path = write(tmp_path / "items.csv", f'item_id,title,description\n1,a,"{text}"\n2,b,"{text}"\n3,c,d\n')
    rows, rejects = read(path)
    assert not rejects and [row.values["item_id"] for row in rows] == ["1", "2", "3"]
    assert rows[0].values["description"] == rows[1].values["description"] == text
    assert [row.line for row in rows] == [2, 2 + num_lines, 2 + 2 * num_lines]


def test_a_text_that_is_too_long_is_one_reject(tmp_path, monkeypatch):
    """D02: also where its lines hold quotes of their own."""
    monkeypatch.setattr(csv_records, "MAX_RECORD_CHARS", 1000)
    text = "\n".join(f'line {n} says ""hi"", often' for n in range(500))
    rows, rejects = read(write(tmp_path / "items.csv", f'item_id,title,domain\n1,"{text}",film\n2,b,film\n'))
    assert titles(rows) == {"2": "b"} and rows[0].line == 502
    assert faults(rejects) == [(2, "bad_quotes")] and "goes on for more than 1,000" in rejects[0]["detail"]


def test_a_quote_that_is_open_for_too_long_gives_the_rows_back(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_records, "MAX_RECORD_CHARS", 1000)
    lines = [f"{n},title {n},film" for n in range(1200)]
    lines[100] = '100,"never closed,film'
    rows, rejects = read(write(tmp_path / "items.csv", "item_id,title,domain\n" + "\n".join(lines) + "\n"))
    assert len(rows) == 1199 and faults(rejects) == [(102, "bad_quotes")]


def test_rows_that_a_quote_swallowed_come_back_where_the_record_is_no_row(tmp_path):
    """D03: too many fields, too few."""
    for broken, last in (('2,a,"open,film', '4,y",film'), ('2,"open', '4,y"')):
        text = f"item_id,title,domain\n1,a,film\n{broken}\n3,x,film\n{last}\n5,z,film\n"
        rows, rejects = read(write(tmp_path / "items.csv", text))
        found = sorted([row.line for row in rows] + [reject["line"] for reject in rejects])
        assert found == [2, 3, 4, 5, 6], "every line is accepted or rejected"
        assert {"1", "3", "5"} <= titles(rows).keys() and rejects[0]["line"] == 3
        assert all("\n" not in title for title in titles(rows).values())


def test_rows_that_a_sound_value_has_swallowed_are_all_rejected(tmp_path):
    """D03: the value has the right number of fields around it, and whole rows in it; stated quotes are taken at their
    word."""
    path = write(
        tmp_path / "items.csv", 'item_id,title,domain\n1,a,film\n2,"open,film\n3,x,film\n4,y",film\n5,z,film\n'
    )
    rows, rejects = read(path)
    assert list(titles(rows)) == ["1", "5"]
    assert faults(rejects) == [(3, "bad_quotes"), (4, "bad_quotes"), (5, "bad_quotes")]
    rows, rejects = read(path, quotes="double")
    assert titles(rows) == {"1": "a", "2": "open,film\n3,x,film\n4,y", "5": "z"} and not rejects


def test_prose_with_commas_is_no_row():
    """D02, D03: a text may stand in the last column and have as many commas a line as the table has."""
    text = 'item_id,description\n1,"First\nover 1,000 people, or so\nsecond line, with comma\nlast"\n2,b\n'
    assert parsed(text)[1] == (2, ["1", "First\nover 1,000 people, or so\nsecond line, with comma\nlast"])
    assert parsed(text)[2:] == [(6, ["2", "b"])]


def test_a_broken_text_without_rows_in_it_is_one_reject():
    """D02: its lines are not told one by one."""
    text = 'item_id,title,domain\n1,"a text\nof some\nlines",film,extra\n2,b,film\n3,"open\nto the\nend'
    assert parsed(text)[1:] == [(2, "field_count"), (5, ["2", "b", "film"]), (6, "bad_quotes")]


def test_blanks_outside_of_quotes_do_not_count():
    """D12: after separators, before them, around quotes; inside quotes they stay."""
    text = 'item_id, title, domain\n1, "With, comma" , film\n 2,  plain, "film" \n3," kept ",film\n'
    text += '4, "two, a\nlines" , x\n'
    assert [fields for _, fields in parsed(text)] == [
        ["item_id", "title", "domain"],
        ["1", "With, comma", "film"],
        ["2", "plain", "film"],
        ["3", " kept ", "film"],
        ["4", "two, a\nlines", "x"],
    ]


def test_blanks_after_values_do_not_count_either(tmp_path):
    """D12: an address with one would name another file; inside quotes they stay."""
    lines = ("1 ,a,1.mp3 ", "2,b , 2.mp3  ", '3,"say ""hi"" ", 3.mp3 ', '4,"two\nlines",4.mp3 ', '5,b," 5.mp3 "')
    path = write(tmp_path / "items.csv", "item_id,title,media_uri \n" + "\n".join(lines) + "\n")
    rows, rejects = read(path)
    assert not rejects
    assert [row.values["media_uri"] for row in rows] == ["1.mp3", "2.mp3", "3.mp3", "4.mp3", " 5.mp3 "]
    assert parsed("a|b\n1 | 2 \n", "|", "none")[1] == (2, ["1", "2"])


@pytest.mark.parametrize("quotes", ["auto", "double", "none"])
def test_a_nul_character_costs_its_line(quotes):
    assert parsed("item_id,title\n1,a\n2,\0\n3,b\n", quotes=quotes)[1:] == [
        (2, ["1", "a"]),
        (3, "bad_text"),
        (4, ["3", "b"]),
    ]


def test_a_nul_character_within_a_quoted_text_costs_its_lines():
    text = 'item_id,title,tags\n1,"one\ntwo",x\0|y\ntwo" ,z\n3,"one\n2,\0",x\n4,a,b\n'
    assert parsed(text)[-1] == (7, ["4", "a", "b"])
    assert "bad_text" in [fields for _, fields in parsed(text)]


@pytest.mark.parametrize("separator, decided", [("\t", "none"), (",", "auto")])
def test_only_tab_separated_files_are_asked_for_their_quotes(separator, decided):
    text = f'a{separator}b\n1{separator}5" disc\n'
    style, lines = quote_style(io.StringIO(text), separator, "auto")
    assert style == decided and "".join(lines) == text
