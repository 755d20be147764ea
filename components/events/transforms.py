"""Checks events against the catalogue, groups them by user and splits them into train, eval and test, on Beam."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa

from components.batches import by_user, coded, packed, unpacked
from components.config import DataConfig
from components.contract import EVENTS
from components.events.sequence_columns import sequence_records
from components.events.splits import GIVEN_SPLITS, SPLITS, Cuts, quantile_cuts
from components.events.time_histogram import TimeHistogram
from components.examples import SOURCE_FILE, SOURCE_LINE
from components.record_files import WriteRecordLists
from components.rejects import WriteRejects, reject

STAGE = "interactions"
TIMED_KINDS = ("time", "time_per_user")  # these split kinds cannot place an event without a time

# What is read of an event's Example, and of an item's.
EVENT_TYPES: Mapping[str, pa.DataType] = {
    "user_id": pa.string(),
    "item_id": pa.string(),
    "timestamp": pa.int64(),
    "event": pa.string(),
    "value": pa.float32(),
    "split": pa.string(),
    SOURCE_FILE: pa.string(),
    SOURCE_LINE: pa.int64(),
}
ITEM_TYPES: Mapping[str, pa.DataType] = {"item_id": pa.string()}


class EventsToSequences(beam.PTransform):
    """Builds each user's sequence of interactions from {"events", "catalogue"} (tables, see EVENT_TYPES, ITEM_TYPES).

    Gives `sequences` ((split, list of serialized Examples)), `rejects`: unknown_item, unknown_event (no rule),
    missing_timestamp (where other events have one, or the split needs one), bad_split (split.kind "given" without a
    known name), and `numbers` (((kind, name), number), see `components.rejects.WriteRejects`): of the events that were
    accepted, and of each split's sequences.
    """

    def __init__(self, data: DataConfig):
        super().__init__()
        self._data = data

    def expand(self, tables: dict[str, beam.PCollection]) -> Any:
        data = self._data
        known = (
            tables["catalogue"]
            | "TakeItemIds" >> beam.FlatMap(lambda rows: rows["item_id"].to_pylist())
            | "GatherItemIds" >> beam.combiners.ToSet()
        )
        events = tables["events"] | "PackEvents" >> beam.FlatMap(_packed).with_outputs("timed", main="events")
        timed = events.timed | "AnyTime" >> beam.CombineGlobally(any)
        sides = [beam.pvalue.AsSingleton(known), beam.pvalue.AsSingleton(timed)]
        checked = events.events | "CheckEvents" >> beam.FlatMap(_checked, data, *sides).with_outputs(
            "rejects", "numbers", "times", main="events"
        )
        cuts = None
        if data.split.kind == "time":
            cuts = beam.pvalue.AsSingleton(
                checked.times
                | "CountTimes" >> beam.CombineGlobally(TimeHistogram())
                | "FindCuts" >> beam.Map(quantile_cuts, data.split)
            )
        built = (
            checked.events
            | "GatherUsers" >> beam.GroupByKey()
            | "SplitUsers" >> beam.FlatMap(_sequences, data, cuts).with_outputs("numbers", main="sequences")
        )
        return {
            "sequences": built.sequences,
            "rejects": checked.rejects,
            "numbers": (checked.numbers, built.numbers) | "JoinNumbers" >> beam.Flatten(),
        }


def _packed(rows: pa.Table) -> Iterator[Any]:
    yield packed(rows)
    yield beam.pvalue.TaggedOutput("timed", rows["timestamp"].null_count < rows.num_rows)


def _checked(batch: bytes, data: DataConfig, known: Set[str], timed: bool) -> Iterator[Any]:
    """(bucket of users, packed events), rejects, the number and the times of the events."""
    rows = unpacked([batch])
    given = rows["split"].drop_null()
    if len(given) and data.split.kind != "given":
        raise ValueError(
            f"the events carry a split ({given[0].as_py()!r}), which is kept as given, but split.kind is "
            f"{data.split.kind!r}: set it to 'given', or leave the column out"
        )
    sound = _are_in(rows["item_id"], known) & _are_in(rows["event"], data.event_rules.keys())
    if timed or data.split.kind in TIMED_KINDS:
        sound &= rows["timestamp"].is_valid().to_numpy()
    if data.split.kind == "given":
        sound &= _are_in(rows["split"], GIVEN_SPLITS.keys())
    for row in rows.filter(pa.array(~sound)).to_pylist():
        yield beam.pvalue.TaggedOutput("rejects", _rejected(row, data, known, timed))
    accepted = rows.filter(pa.array(sound))
    if accepted.num_rows:
        yield from by_user(accepted.select([column.name for column in EVENTS]))
        yield beam.pvalue.TaggedOutput("numbers", (("count", "accepted"), accepted.num_rows))
        yield beam.pvalue.TaggedOutput("times", accepted["timestamp"].drop_null().to_numpy())


def _are_in(values: pa.ChunkedArray, known: Set[str]) -> np.ndarray:
    """Which texts are among the known ones, bool [rows]; a null is not."""
    distinct, codes = coded(values)
    return np.array([*(value in known for value in distinct.to_pylist()), False])[codes]


def _rejected(cells: dict[str, Any], data: DataConfig, known: Set[str], timed: bool) -> dict[str, Any]:
    row = {name: value for name, value in cells.items() if value is not None}
    reason, detail = _fault(row, data, known, timed)
    source, line = row.get(SOURCE_FILE, "events"), row.get(SOURCE_LINE)
    return reject(STAGE, source, line, row["item_id"], reason, f"{detail} (user {row['user_id']!r})")


def _sequences(bucket: tuple[int, Iterable[bytes]], data: DataConfig, cuts: Cuts | None) -> Iterator[Any]:
    _, batches = bucket
    for split, records in sequence_records(unpacked(batches), data.event_rules, data.split, cuts):
        if records:
            yield split, records
            yield beam.pvalue.TaggedOutput("numbers", (("count", f"sequences_{split}"), len(records)))


def _fault(row: Mapping[str, Any], data: DataConfig, known: Set[str], timed: bool) -> tuple[str, str]:
    """Reason and detail of what is wrong with an event; empty where nothing is."""
    if row["item_id"] not in known:
        return "unknown_item", "item_id: not in the catalogue"
    if row["event"] not in data.event_rules:
        return "unknown_event", f"event: {row['event']!r} has no rule; known: {', '.join(sorted(data.event_rules))}"
    if "timestamp" not in row and (timed or data.split.kind in TIMED_KINDS):
        return (
            "missing_timestamp",
            f"timestamp: absent; split.kind {data.split.kind!r}, other events timed: {timed}",
        )
    if data.split.kind == "given" and row.get("split") not in GIVEN_SPLITS:
        return "bad_split", f"split: got {row.get('split')!r}, expected one of {', '.join(GIVEN_SPLITS)}"
    return "", ""


class WriteSequences(beam.PTransform):
    """Writes what `EventsToSequences` gives: Examples of each split, rejects, and a summary whose notes count the
    sequences."""

    def __init__(self, split_uris: Mapping[str, str], rejects_uri: str):
        super().__init__()
        self._split_uris, self._rejects_uri = split_uris, rejects_uri

    def expand(self, interactions: dict[str, beam.PCollection]) -> Any:
        tag = beam.MapTuple(beam.pvalue.TaggedOutput).with_outputs(*SPLITS)
        lists = interactions["sequences"] | "PartSplits" >> tag
        for name in SPLITS:
            _ = lists[name] | f"Write {name}" >> WriteRecordLists(self._split_uris[name])
        told = {name: interactions[name] for name in ("rejects", "numbers")}
        return told | "WriteRejects" >> WriteRejects(self._rejects_uri)
