"""Checks events against the catalogue, groups them by user and splits them into train, eval and test, on Beam."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set
from typing import Any

import apache_beam as beam
import tensorflow as tf

from components.artifacts import WriteRecords
from components.config import DataConfig
from components.contract import EVENTS
from components.events.interactions import Event
from components.events.sequences import UserSequence, sequence_example, user_sequences
from components.events.splits import GIVEN_SPLITS, SPLITS, Cuts, quantile_cuts
from components.events.time_histogram import TimeHistogram
from components.examples import place_of, row_values
from components.rejects import WriteRejects, reject

STAGE = "interactions"
TIMED_KINDS = ("time", "time_per_user")  # these split kinds cannot place an event without a time


class EventsToSequences(beam.PTransform):
    """Builds each user's sequence of interactions from {"events", "catalogue"} (tf.train.Examples).

    Gives `sequences` (UserSequences), `accepted` (the (user id, fields of an Event) that they were made of) and
    `rejects`: unknown_item, unknown_event (no rule), missing_timestamp (where other events have one, or the split
    needs one), bad_split (split.kind "given" without a known name).
    """

    def __init__(self, data: DataConfig):
        super().__init__()
        self._data = data

    def expand(self, examples: dict[str, beam.PCollection]) -> Any:
        data = self._data
        item_ids = examples["catalogue"] | "ReadItemIds" >> beam.Map(_item_id)
        rows = examples["events"] | "ReadEvents" >> beam.Map(lambda row: (row_values(row, EVENTS), place_of(row)))
        timed = (
            rows | "SeeTimes" >> beam.Map(lambda row: "timestamp" in row[0]) | "AnyTime" >> beam.CombineGlobally(any)
        )
        known = item_ids | "GatherItemIds" >> beam.combiners.ToSet()
        sides = [beam.pvalue.AsSingleton(known), beam.pvalue.AsSingleton(timed)]
        checked = rows | "CheckEvents" >> beam.FlatMap(_checked, data, *sides).with_outputs("rejects", main="events")
        sequences = checked.events | "BuildSequences" >> _BuildSequences(data)
        return {
            "sequences": sequences,
            "accepted": checked.events,
            "rejects": checked.rejects,
        }


class _BuildSequences(beam.PTransform):
    def __init__(self, data: DataConfig):
        super().__init__()
        self._data = data

    def expand(self, events: beam.PCollection) -> Any:
        data = self._data
        cuts = None
        if data.split.kind == "time":
            cuts = beam.pvalue.AsSingleton(
                events
                | "TakeTimes" >> beam.Map(lambda user_and_event: Event._make(user_and_event[1]).time_s)
                | "CountTimes" >> beam.CombineGlobally(TimeHistogram())
                | "FindCuts" >> beam.Map(quantile_cuts, data.split)
            )
        return events | "GroupByUser" >> beam.GroupByKey() | "SplitUsers" >> beam.FlatMap(_user_sequences, data, cuts)


def _user_sequences(
    user_and_events: tuple[str, Iterable[tuple]], data: DataConfig, cuts: Cuts | None
) -> Iterator[UserSequence]:
    user_id, events = user_and_events
    return user_sequences(user_id, map(Event._make, events), data.event_rules, data.split, cuts)


def _item_id(example: tf.train.Example) -> str:
    return example.features.feature["item_id"].bytes_list.value[0].decode()


def _checked(
    row_and_place: tuple[Mapping[str, Any], tuple[str, int | None]], data: DataConfig, known: Set[str], timed: bool
) -> Iterator[Any]:
    """(user id, fields of an Event), or a reject. Plain tuples: Beam would pickle others one by one."""
    row, place = row_and_place
    given = row.get("split")
    if given is not None and data.split.kind != "given":
        raise ValueError(
            f"the events carry a split ({given!r}), which is kept as given, but split.kind is {data.split.kind!r}: "
            "set it to 'given', or leave the column out"
        )
    reason, detail = _fault(row, data, known, timed)
    if reason:
        told = f"{detail} (user {row['user_id']!r})"
        yield beam.pvalue.TaggedOutput("rejects", reject(STAGE, *place, row["item_id"], reason, told))
    else:
        yield row["user_id"], tuple(Event(row["item_id"], row["event"], row.get("value"), row.get("timestamp"), given))


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
    """Writes what `Interactions` gives: Examples of each split, rejects, and a summary whose notes count the
    sequences."""

    def __init__(self, split_uris: Mapping[str, str], rejects_uri: str):
        super().__init__()
        self._split_uris, self._rejects_uri = split_uris, rejects_uri

    def expand(self, interactions: dict[str, beam.PCollection]) -> Any:
        records = interactions["sequences"] | "SerializeSequences" >> beam.Map(_record).with_outputs(*SPLITS)
        for name in SPLITS:
            _ = records[name] | f"Write {name}" >> WriteRecords(self._split_uris[name])
        summary = {
            "accepted": interactions["accepted"],
            "rejects": interactions["rejects"],
            **{f"sequences_{name}": records[name] for name in SPLITS},
        }
        return summary | "WriteRejects" >> WriteRejects(self._rejects_uri)


def _record(sequence: UserSequence) -> beam.pvalue.TaggedOutput:
    return beam.pvalue.TaggedOutput(sequence.split, sequence_example(sequence).SerializeToString(deterministic=True))
