"""Parses delimited text into records (RFC 4180), each with the line on which it starts.

A quoted value may hold line breaks, so one odd quote can swallow the rows after it. Two rules keep that from passing
unseen. A record over several lines that is not a whole row costs its first line, and reading goes on at its second, if
a later line looks like a row of its own; else the record costs one reject. A record over several lines that is a whole
row, but has a line that looks like one in it, is rejected line by line, unless the table states its quotes.
"""

from __future__ import annotations

import csv
import itertools
import re
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

QuoteStyle = Literal["auto", "double", "none"]

MAX_RECORD_CHARS = 1 << 24  # a longer record is one reject
SAMPLE_LINES = 10_000  # of a file's head, when its quotes have to be found out
ADVICE = "state quotes: none where the file knows no quotes, double where each is meant"


class Record(NamedTuple):
    """The fields of one record, or the reason why it has none."""

    line: int
    fields: list[str]
    reason: str = ""
    detail: str = ""
    num_lines: int = 1


class Taken(NamedTuple):
    """Lines of a file: those that are a record each, whole, and the records of all others."""

    numbers: list[int]  # of `lines`, 1-based
    lines: list[str]
    records: list[Record]


def records(lines: Iterable[str], separator: str, quotes: QuoteStyle) -> Records:
    """The records of a file in order, its header first; blank lines are none.

    lines: with their line ends. separator: one or more characters.
    quotes: "double" reads RFC 4180; "none" takes a quote as a character like any other, as separators of several
    characters always do; "auto" is RFC 4180 with the check for swallowed rows.
    Each record has as many fields as the header, or a reason: field_count, bad_quotes or bad_text.
    """
    if quotes == "none" or len(separator) > 1:
        return Records(lines, separator)
    return _QuotedRecords(lines, separator, stated=quotes == "double")


def quote_style(lines: Iterator[str], separator: str, stated: QuoteStyle) -> tuple[QuoteStyle, Iterator[str]]:
    """Whether a file's quotes are meant as quotes, and all its lines again.

    Only tab-separated files are looked at: many know no quotes. One is taken for such a file as soon as a quote of its
    head stands where RFC 4180 has none, or opens a value that swallows rows.
    """
    if stated != "auto" or separator != "\t":
        return stated, lines
    head = list(itertools.islice(lines, SAMPLE_LINES))
    lines = itertools.chain(head, lines)
    if not any('"' in text for text in head):
        return "auto", lines
    found = list(records(head, separator, "auto"))
    if len(head) == SAMPLE_LINES and "never closed" in found[-1].detail:
        found.pop()  # the head ends within its value
    alone = (head[record.line - 1] for record in found if record.num_lines == 1)
    sound = all(record.reason != "bad_quotes" for record in found) and all(
        _is_quoted_well(text, separator) for text in alone
    )
    return ("auto" if sound else "none"), lines


def _is_quoted_well(text: str, separator: str) -> bool:
    """Whether each value of a line has its quotes around all of it or none at all."""
    return all(
        '"' not in cell or re.fullmatch(r'"([^"]|"")*"', cell.strip(" ")) for cell in text.rstrip("\n").split(separator)
    )


def _is_text(text: str) -> bool:
    return bool(text.strip(" \n"))


def record_of(line: int, text: str, separator: str, num_fields: int) -> Record | None:
    """The record that a line is by itself, with `num_fields` fields or a reason; None of a blank one."""
    return _counted(_split(line, text, separator), num_fields) if _is_text(text) else None


def _split(line: int, text: str, separator: str) -> Record:
    if "\0" in text:
        return Record(line, [], "bad_text", "holds a NUL character")
    text = text.removesuffix("\n")
    cells = text.split(separator)
    if separator != " " and " " in text:
        cells = [cell.strip(" ") for cell in cells]
    return Record(line, cells)


def _counted(record: Record, num_fields: int) -> Record:
    if record.reason or len(record.fields) == num_fields:
        return record
    return Record(record.line, [], "field_count", f"got {len(record.fields)} fields, expected {num_fields}")


class Records(Iterator[Record]):
    """The records of a file that knows no quotes, one by one, or many lines at a time."""

    def __init__(self, lines: Iterable[str], separator: str):
        self._lines, self._separator = iter(lines), separator
        self._line = self._num_fields = 0
        self._read = self._all()

    def __next__(self) -> Record:
        return next(self._read)

    def take(self, num_lines: int) -> Taken:
        """The next lines; none at the end. Only between two records."""
        lines = list(itertools.islice(self._lines, num_lines))
        first = self._line + 1
        self._line += len(lines)
        return Taken(list(range(first, first + len(lines))), lines, [])

    def _all(self) -> Iterator[Record]:
        for text in self._lines:
            self._line += 1
            if _is_text(text):
                record = _split(self._line, text, self._separator)
                self._num_fields = self._num_fields or len(record.fields)
                yield _counted(record, self._num_fields)


class _TooLong(csv.Error):
    pass


class _Lines:
    """Lines that remember those of the current record, so that reading can go on after its first one."""

    def __init__(self, lines: Iterable[str], separator: str):
        self._lines = iter(lines)
        self._again: deque[str] = deque()
        self._separator = separator
        self._mending = False
        self.taken: list[str] = []
        self._chars = 0
        self.line = 0  # of the last line that was taken

    @property
    def next_again(self) -> str | None:
        """The next line, if it has been seen before."""
        return self._again[0] if self._again else None

    def look_at(self, num_lines: int) -> list[str]:
        """The next lines, which then come again."""
        seen = list(itertools.islice(self._lines, num_lines))
        self._again.extend(seen)
        return seen

    def take_seen(self) -> str:
        """The next of the lines that were looked at, unread."""
        self.line += 1
        return self._again.popleft()

    def drop_seen(self) -> None:
        """Take all of them."""
        self.line += len(self._again)
        self._again.clear()

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        if self._chars > MAX_RECORD_CHARS:
            raise _TooLong(f"a quoted value goes on for more than {MAX_RECORD_CHARS:,} characters")
        text = self._again.popleft() if self._again else next(self._lines)
        self.taken.append(text)
        self._chars += len(text)
        self.line += 1
        if "\0" in text:
            raise csv.Error("holds a NUL character")
        return _without_blanks_after_quotes(text, self._separator) if self._mending else text

    def begin(self) -> None:
        self.taken, self._chars, self._mending = [], 0, False

    def go_back(self, keep: int, mending: bool = False) -> None:
        """Give all lines of the record after the first `keep` again."""
        self._again.extendleft(reversed(self.taken[keep:]))
        self.line -= len(self.taken) - keep
        self.taken, self._chars, self._mending = self.taken[:keep], 0, mending

    def has_blanks_after_quotes(self) -> bool:
        """Whether the record has blanks between a closing quote and the separator, which `go_back` can mend."""
        return any(_without_blanks_after_quotes(text, self._separator) != text for text in self.taken)

    def skip_quoted(self) -> None:
        """Drop the rest of a value that is too long to be kept: all up to the line with its closing quote."""
        while text := self._again.popleft() if self._again else next(self._lines, ""):
            self.line += 1
            if text.count('"') % 2:
                return


def _trimmed(cell: str, text: str) -> str:
    """A field without the blanks at its end, unless a quote stands after them in the text of its record."""
    return cell.rstrip(" ") if cell.endswith(" ") and cell.replace('"', '""') + '"' not in text else cell


def _without_blanks_after_quotes(text: str, separator: str) -> str:
    return re.sub(rf'"[ ]+(?={re.escape(separator)}|\n|$)', '"', text)


class _QuotedRecords(Records):
    def __init__(self, lines: Iterable[str], separator: str, stated: bool):
        super().__init__(lines, separator)
        self._source = _Lines(self._lines, separator)
        self._stated = stated
        self._blanks_after_separators = False

    def take(self, num_lines: int) -> Taken:
        source = self._source
        lines = source.look_at(num_lines)
        taken = Taken([], [], [])
        if not any('"' in text for text in lines):
            taken.numbers.extend(range(source.line + 1, source.line + 1 + len(lines)))
            source.drop_seen()
            return taken._replace(lines=lines)
        while (text := source.next_again) is not None:
            if '"' in text:  # how far it reaches, nobody knows
                taken.records.extend(itertools.chain.from_iterable(map(self._judged, self._parsed(1))))
            else:
                taken.lines.append(source.take_seen())
                taken.numbers.append(source.line)
        return taken

    def _all(self) -> Iterator[Record]:
        csv.field_size_limit(4 * MAX_RECORD_CHARS)  # beyond what `_Lines` lets pass
        header = next((record for record in self._parsed() if record.fields or record.reason), None)
        if header is None:
            return
        self._num_fields = len(header.fields)
        self._blanks_after_separators = self._separator + " " in self._source.taken[0]
        yield header
        if header.reason:
            return
        for record in self._parsed():
            yield from self._judged(record)

    def _parsed(self, limit: int | None = None) -> Iterator[Record]:
        """One record after the other, by the csv module; lines without a quote are only split."""
        for _ in itertools.repeat(None) if limit is None else range(limit):
            self._source.begin()
            start = self._source.line + 1
            try:
                fields, fault = self._parse()
            except StopIteration:
                return
            if fault and self._source.has_blanks_after_quotes():
                self._source.go_back(0, mending=True)
                fields, fault = self._parse()
            if fault or fields:
                reason = "bad_text" if "NUL" in fault else "bad_quotes" if fault else ""
                yield Record(start, fields, reason, fault, len(self._source.taken))

    def _parse(self) -> tuple[list[str], str]:
        """The fields of the next record, or what is wrong with it. Raises StopIteration at the end of the file."""
        try:
            first = next(self._source)
            if '"' not in first:
                return (_split(0, first, self._separator).fields if _is_text(first) else []), ""
            texts = itertools.chain([first], self._source)
            reader = csv.reader(texts, delimiter=self._separator, strict=True, skipinitialspace=self._separator != " ")
            fields, text = next(reader), "".join(self._source.taken)
            return [_trimmed(cell, text) for cell in fields], ""
        except csv.Error as error:
            return [], _in_words(error)

    def _judged(self, record: Record) -> Iterator[Record]:
        source, lines = self._source, self._source.taken
        last = record.line + len(lines) - 1
        swallowed = len(lines) > 1 and any(map(self._looks_like_a_row, lines[1:]))
        if record.reason == "bad_quotes":
            if swallowed:
                source.go_back(1)
            elif len(lines) > 1 and "goes on" in record.detail:
                source.skip_quoted()
            yield record._replace(detail=f"{record.detail}; {ADVICE}")
        elif record.reason:
            source.go_back(1)
            yield record
        elif len(record.fields) != self._num_fields:
            if swallowed:
                source.go_back(1)
            reaching = f" up to line {last}" if len(lines) > 1 else ""
            detail = f"got {len(record.fields)} fields{reaching}, expected {self._num_fields}"
            yield Record(record.line, [], "field_count", detail)
        elif swallowed and not self._stated:
            detail = f"a quote from line {record.line} to {last} holds lines that look like rows of their own; {ADVICE}"
            yield from (Record(line, [], "bad_quotes", detail) for line in range(record.line, last + 1))
        else:
            yield record

    def _looks_like_a_row(self, text: str) -> bool:
        """Whether a line by itself could be one: as many fields as the header, and no prose, whose commas have blanks
        after them and whose first words are more than one."""
        cells = text.rstrip("\n").split(self._separator)
        if len(cells) != self._num_fields and '"' in text and "\0" not in text:
            cells = next(csv.reader([text], delimiter=self._separator, skipinitialspace=self._separator != " "), cells)
        prose = not self._blanks_after_separators and any(cell.startswith(" ") for cell in cells[1:])
        first = cells[0].strip()
        whole = first[:1] == '"' or '"' not in first  # not the end of a value that began before
        return len(cells) == self._num_fields and not prose and whole and bool(first.strip('"')) and " " not in first


def _in_words(error: csv.Error) -> str:
    if "NUL" in str(error) or isinstance(error, _TooLong):
        return str(error)
    if "unexpected end" in str(error):
        return "broken quotes: one is never closed"
    return f"broken quotes: {error}"
