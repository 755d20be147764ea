"""The node that makes sequences, on events and catalogues in memory and on disk."""

from dataclasses import replace

import apache_beam as beam
import pytest
from tfx.types.standard_artifacts import Examples

from components.artifacts import prepare_examples
from components.config import DataConfig, SplitConfig, TableConfig
from components.contract import CATALOGUE, EVENTS
from components.data_gate import DataGateError
from components.examples import row_example
from components.rejects import read_summary
from components.settings import to_json
from pipeline.nodes.interactions import Interactions
from tests.components.nodes import artifact, read_rejects, read_split, write_rejects, write_split
from zhiyin_artifacts import Rejects

DATA = DataConfig(catalogue=TableConfig("c"), events=TableConfig("e"), max_reject_share=0.5)


def run_interactions(folder, events, items, data=DATA, catalogue_rejects=(), event_rejects=()):
    """(sequences, rejects) for events and items given as dicts, after tables with rejects of these reasons."""
    inputs = []
    for name, rows, columns in (
        ("in_events", events, EVENTS),
        ("in_items", [{"item_id": item} for item in items], CATALOGUE),
    ):
        examples = artifact(Examples, folder / name)
        prepare_examples(examples, ["train"])
        write_split(examples, "train", [row_example(row, columns) for row in rows])
        inputs.append(examples)
    sequences, rejects = artifact(Examples, folder / "seq"), artifact(Rejects, folder / "rej")
    Interactions.test_call(
        events=inputs[0],
        catalogue=inputs[1],
        event_rejects=write_rejects(folder / "event_rejects", event_rejects),
        catalogue_rejects=write_rejects(folder / "catalogue_rejects", catalogue_rejects),
        sequences=sequences,
        rejects=rejects,
        data=to_json(data),
        code="",
        beam_pipeline=beam.Pipeline(),
    )
    return sequences, rejects


def play(user, item, time_s=None, **more):
    row = {"user_id": user, "item_id": item, "event": "play", **more}
    return row if time_s is None else {**row, "timestamp": time_s}


def own_times(sequences, split):
    """{user: (times of history, times of own)} of a split."""
    result = {}
    for example in read_split(sequences, split):
        features = example.features.feature
        (num_history,) = features["num_history"].int64_list.value
        times = list(features["timestamps_s"].int64_list.value)
        result[features["user_id"].bytes_list.value[0].decode()] = (times[:num_history], times[num_history:])
    return result


def positive_items(sequences, split):
    """The items of a split's positive interactions, sorted."""
    found = []
    for example in read_split(sequences, split):
        features = example.features.feature
        (num_history,) = features["num_history"].int64_list.value
        item_ids = [item_id.decode() for item_id in features["item_ids"].bytes_list.value][num_history:]
        positives = features["positives"].int64_list.value[num_history:]
        found += [item_id for item_id, positive in zip(item_ids, positives) if positive]
    return sorted(found)


FIFTY = [play(f"u{user}", f"i{(user * 7 + step) % 11}", 1000 * step + user) for user in range(50) for step in range(10)]
ELEVEN = [f"i{item}" for item in range(11)]


def test_fifty_users_by_time(tmp_path):
    """C29: for all users together, every train time is before every eval time, and that before every test time; the
    shares come out."""
    sequences, rejects = run_interactions(tmp_path, FIFTY, ELEVEN)
    train, evaluated, test = (own_times(sequences, split) for split in ("train", "eval", "test"))
    ends = [[time for _, own in part.values() for time in own] for part in (train, evaluated, test)]
    assert max(ends[0]) < min(ends[1]) and max(ends[1]) < min(ends[2])
    assert [len(part) for part in ends] == [400, 50, 50]
    assert all(not history for history, _ in train.values())
    assert all(len(history) == 8 for history, _ in evaluated.values()) and all(
        len(history) == 9 for history, _ in test.values()
    )
    assert read_summary(rejects.uri)["notes"] == {
        "sequences_train": 50,
        "sequences_eval": 50,
        "sequences_test": 50,
    }


def test_fifty_users_by_user(tmp_path):
    """C29: the sets of users are disjoint; a second run gives the same split."""
    data = DataConfig(catalogue=DATA.catalogue, events=DATA.events, split=SplitConfig("user", 0.2, 0.2))
    first, _ = run_interactions(tmp_path / "1", FIFTY, ELEVEN, data)
    second, _ = run_interactions(tmp_path / "2", list(reversed(FIFTY)), ELEVEN, data)
    parts = [own_times(first, split) for split in ("train", "eval", "test")]
    assert parts == [own_times(second, split) for split in ("train", "eval", "test")]
    users = [user for part in parts for user in part]
    assert len(users) == len(set(users)) == 50 and all(parts)
    assert all(max(history) < min(own) for history, own in [*parts[1].values(), *parts[2].values()])


def test_unknown_items_are_rejects(tmp_path):
    """C10. Kinds of events without a rule are rejects too; a skip is no positive."""
    events = [play("u", "a", step) for step in range(20)] + [play("u", f"gone{n}", 5) for n in range(5)]
    events += [{**play("u", "b", 3), "event": "skip"}, {**play("u", "b", 4), "event": "teleport"}]
    sequences, rejects = run_interactions(tmp_path, events, ["a", "b", "cold1", "cold2", "cold3"])
    assert positive_items(sequences, "train") == ["a", "a"]
    summary = read_summary(rejects.uri)
    assert summary["rejects"] == {"unknown_item": 5, "unknown_event": 1} and summary["accepted"] == 21
    assert [reject["item_id"] for reject in read_rejects(rejects) if reject["reason"] == "unknown_item"] == [
        f"gone{n}" for n in range(5)
    ]


def test_too_many_unknown_items_stop_the_run(tmp_path):
    """C47: 40 % unknown: the feature, the rule, the share and record ids are named."""
    events = [play("u", "a", step) for step in range(6)] + [play("v", f"gone{n}", n) for n in range(4)]
    data = DataConfig(catalogue=DATA.catalogue, events=DATA.events, max_reject_share=0.05)
    with pytest.raises(
        DataGateError, match=r"40.0% .* max_reject_share is 5.0%: unknown_item 4 of 10 rows.*item 'gone0'.*item_id"
    ):
        run_interactions(tmp_path, events, ["a"], data)


def test_too_many_rejects_of_a_table_are_told_before_the_items_that_are_unknown_for_want_of_them(tmp_path):
    """Statistics, for which DataGate waits, run beside; both tables are named, and nothing is written."""
    events = [play("u", "gone", step) for step in range(6)]
    data = replace(DATA, max_reject_share=0.05)
    with pytest.raises(DataGateError) as told:
        run_interactions(tmp_path, events, ["a"], data, ["bad_id"], ["bad_time", "bad_time"])
    lines = str(told.value).splitlines()
    assert [line[:30] for line in lines] == ["catalogue: 20.0% of the rows a", "events: 33.3% of the rows are "]
    assert "bad_time 2 of 6 rows; first: t.csv:1" in lines[1] and not (tmp_path / "rej").exists()


def test_a_missing_time_is_a_reject_where_others_have_one(tmp_path):
    """C28."""
    events = [play("u", "ab"[step % 2], step) for step in range(10)] + [play("u", "a")]
    _, rejects = run_interactions(tmp_path, events, ["a", "b"])
    assert read_summary(rejects.uri)["rejects"] == {"missing_timestamp": 1}


def test_events_without_any_time_are_sets_and_cannot_be_split_by_time(tmp_path):
    """C28: with a given split they are sets; a split by time says what it lacks."""
    events = [
        play("u", "a", split="train"),
        play("u", "b", split="test"),
        play("v", "a", split="train"),
        play("v", "b", split="dev"),
    ]
    data = DataConfig(catalogue=DATA.catalogue, events=DATA.events, split=SplitConfig("given"), max_reject_share=0.5)
    sequences, rejects = run_interactions(tmp_path / "given", events, ["a", "b"], data)
    assert positive_items(sequences, "train") == ["a", "a"] and read_summary(rejects.uri)["rejects"] == {"bad_split": 1}
    (test,) = read_split(sequences, "test")
    assert test.features.feature["item_ids"].bytes_list.value == [b"a", b"b"] and test.features.feature[
        "ordered"
    ].int64_list.value == [0]
    assert read_split(sequences, "eval") == []
    with pytest.raises(DataGateError, match="missing_timestamp 2 of 2 rows.*split.kind 'time'"):
        run_interactions(tmp_path / "time", [play("u", "a"), play("u", "b")], ["a", "b"])


def test_a_given_split_is_not_overruled_in_silence(tmp_path):
    with pytest.raises(ValueError, match="set it to 'given'"):
        run_interactions(tmp_path, [play("u", "a", 1, split="train")], ["a"])


def test_nothing_to_test_on_stops_the_run(tmp_path):
    with pytest.raises(DataGateError, match="split.kind 'time' leaves test empty"):
        run_interactions(tmp_path, [play("u", "a", 1), play("v", "a", 1)], ["a"])
