"""The account of a table: every row of every file is accepted, rejected or an exact copy. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ROWS, ACCEPTED, REJECTED, COPIES = "rows", "accepted", "rejected", "exact_copies"


class AccountError(RuntimeError):
    """Rows that were read and are neither accepted nor rejected nor copies, or the other way round."""


def check_account(summary: Mapping[str, Any]) -> None:
    """Raise AccountError unless rows = accepted + rejected + exact copies in each file of a table's summary.

    summary: as `components.rejects.WriteRejects` writes it, with `files`: by file the number of rows that its reader
    saw, and those that came out as accepted, rejected or copies.
    """
    for path, counts in sorted(summary["files"].items()):
        parts = {kind: counts.get(kind, 0) for kind in (ACCEPTED, REJECTED, COPIES)}
        if counts.get(ROWS, 0) != sum(parts.values()):
            said = " + ".join(f"{count} {kind}" for kind, count in parts.items())
            raise AccountError(f"{path}: the account does not add up: {counts.get(ROWS, 0)} rows, but {said}")


def account_line(summary: Mapping[str, Any]) -> str:
    """A summary's counts in a line: accepted and all rows, files, rejects by reason, copies."""
    files = summary.get("files", {})
    parts = [f"{summary['accepted']:,} of {summary['rows']:,} rows" + (f" in {len(files)} files" * (len(files) > 1))]
    if summary["rejects"]:
        parts.append("rejects: " + ", ".join(f"{name} {count}" for name, count in sorted(summary["rejects"].items())))
    if copies := summary.get("notes", {}).get(COPIES):
        parts.append(f"exact copies {copies:,}")
    return "; ".join(parts)


MEDIA_NOTES = {  # code of a note on media that were used -> what it says of their number
    "truncated": "media are cut off: less is there than the header states",
    "channels_cancel": "media have channels that cancel each other out; one of them is taken",
    "audio_unusable": "videos have sound that cannot be used",
    "video_unusable": "media have pictures that cannot be used",
}


def remarks(summary: Mapping[str, Any]) -> list[str]:
    """What the owner of a table should know beside the counts, a line each; none where all is as expected."""
    notes = summary.get("notes", {})
    lines = [f"the column {name} is read as {column}" for column, name in sorted(notes.get("near_misses", {}).items())]
    meant = notes.get("did_you_mean", {})
    lines += [f"the column {name} is not read; did you mean {column}?" for name, column in sorted(meant.items())]
    if others := [name for name in notes.get("ignored_columns", ()) if name not in meant]:
        lines.append(f"columns that are not read: {', '.join(others)}")
    for path in notes.get("files_without_rows", ()):
        lines.append(f"{path} has no row")
    for path in notes.get("files_without_quotes", ()):
        lines.append(
            f"{path}: its quotes do not pair up, so they are read as characters; state quotes to say what they are"
        )
    for name in notes.get("lists_with_commas", ()):
        lines.append(f"{name}: most values have a comma between; state list_separator")
    lines += [f"{notes[code]:,} {words} (notes.jsonl)" for code, words in MEDIA_NOTES.items() if code in notes]
    lines += [f"{note} ({count:,} cells)" for note, count in sorted(notes.get("cells", {}).items())]
    return lines
