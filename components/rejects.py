"""Rejected records: each with its place and reason, written and counted by every step that reads data."""

from __future__ import annotations

import heapq
import json
from collections import defaultdict
from typing import Any

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems
from tfx.utils import io_utils

from components.account import COPIES

FORGOTTEN = "forgotten"  # the reason of rows of people who asked to be forgotten: no fault of the data


def reject(stage: str, source: str, line: int | None, item_id: str | None, reason: str, detail: str) -> dict[str, Any]:
    """A record that was left out, as it is written to `rejects.jsonl`.

    stage: the step that left it out.
    source: its file.
    line: 1-based line of the file, in Parquet the row's number; None where the source is no table.
    reason: a code that is counted.
    detail: what was got and what was expected.
    """
    return {"stage": stage, "source": source, "line": line, "item_id": item_id, "reason": reason, "detail": detail}


class WriteRejects(beam.PTransform):
    """Writes the rejected records of a step and its counts: `rejects.jsonl` and `summary.json` in a folder.

    Takes {"accepted", "rejects", "exact_copies", "by_file", "cells", "numbers", anything else}; all but `rejects` may
    be missing. `rejects` are dicts (see `reject`), `by_file` ((file, kind of row), number) with the kinds of
    `components.account`, and `cells` texts on single cells, which are counted. Of any other collection the elements
    are counted in the summary's `notes`, under its name. What has been counted already is in `numbers`: (("cells",
    text) or ("count", name of the collection), number). `rows` are the accepted, the rejected and the exact copies.
    """

    def __init__(self, uri: str, notes: dict[str, Any] | None = None):
        super().__init__()
        self._uri, self._notes = uri, notes or {}

    def expand(self, collections: dict[str, beam.PCollection]) -> Any:
        rejects = collections["rejects"]
        lines = rejects | "FormatRejects" >> beam.Map(json.dumps, ensure_ascii=False)
        summary = (
            rejects.pipeline
            | "Notes" >> beam.Create([self._notes])
            | "Summarize" >> beam.Map(_summary, beam.pvalue.AsDict(collections | "Count" >> _Count()))
            | "FormatSummary" >> beam.Map(json.dumps, indent=2, sort_keys=True, ensure_ascii=False)
        )
        return (
            lines | "WriteRejectLines" >> _one_file(f"{self._uri}/rejects.jsonl"),
            summary | "WriteSummary" >> _one_file(f"{self._uri}/summary.json"),
        )


class _Count(beam.PTransform):
    """The collections of `WriteRejects` → ((kind, name), number)."""

    def expand(self, collections: dict[str, beam.PCollection]) -> Any:
        counted = []
        for name, collection in collections.items():
            if name == "numbers":
                counted.append(collection)
                continue
            if name == "by_file":
                counted.append(collection | beam.MapTuple(lambda key, number: (("file", key), number)))
                continue
            key = {
                "rejects": lambda reject: ("rejects", reject["reason"]),
                "cells": lambda note: ("cells", note),
            }.get(name, lambda _, name=name: ("count", name))
            counted.append(collection | f"Key {name}" >> beam.Map(lambda element, key=key: (key(element), 1)))
        total = beam.CombinePerKey(sum)  # type: ignore[arg-type]
        return counted | "JoinCounts" >> beam.Flatten() | "SumCounts" >> total


def _one_file(path: str) -> beam.PTransform:
    return beam.io.WriteToText(path, num_shards=1, shard_name_template="")


def _summary(notes: dict[str, Any], counts: dict[tuple[str, Any], int]) -> dict[str, Any]:
    parts: dict[str, dict[Any, int]] = defaultdict(dict)
    for (kind, name), count in counts.items():
        parts[kind][name] = count
    files: dict[str, dict[str, int]] = defaultdict(dict)
    for (path, row_kind), count in parts["file"].items():
        files[path][row_kind] = count
    other, rejects = parts["count"], parts["rejects"]
    accepted = other.pop("accepted", 0)
    rows = accepted + sum(rejects.values()) + other.get(COPIES, 0)
    all_notes = {**notes, **other, **({"cells": parts["cells"]} if parts["cells"] else {})}
    return {"rows": rows, "accepted": accepted, "rejects": rejects, "notes": all_notes, "files": files}


def read_summary(uri: str) -> dict[str, Any]:
    """`summary.json` of a Rejects artifact."""
    return json.loads(io_utils.read_string_file(f"{uri}/summary.json"))


def sample_rejects(uri: str, count: int) -> list[dict[str, Any]]:
    """The first `count` rejects of a Rejects artifact by file and line, for messages."""
    with FileSystems.open(f"{uri}/rejects.jsonl") as lines:
        return heapq.nsmallest(count, map(json.loads, lines), key=_place)


def _place(reject: dict[str, Any]) -> tuple[str, int, str]:
    return reject["source"], reject["line"] or 0, reject["item_id"] or ""


def describe_rejects(uri: str, count: int = 3) -> str:
    """Counts by reason and a few rejects with their places, in a line."""
    summary = read_summary(uri)
    reasons = ", ".join(f"{reason} {number}" for reason, number in sorted(summary["rejects"].items()))
    samples = "; ".join(map(_described, sample_rejects(uri, count)))
    return f"{reasons} of {summary['rows']} rows; first: {samples}"


def _described(reject: dict[str, Any]) -> str:
    line = "" if reject["line"] is None else f":{reject['line']}"
    item = "" if reject["item_id"] is None else f" item {reject['item_id']!r}"
    return f"{reject['source']}{line}{item} {reject['reason']}: {reject['detail']}"
