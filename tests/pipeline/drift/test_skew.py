"""Skew between what a version was trained on and what it was asked, on a small servable and in a real store."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from components.config import DataConfig, EventRule, TableConfig
from pipeline import cli
from pipeline import config as configuration
from pipeline.commands.loop import is_skewed
from pipeline.drift.asked import asked_requests, exposures_of
from pipeline.drift.config import DriftConfig
from pipeline.drift.requests import TAKEN, UNKNOWN, UNTAKEN, KnownItems, Request, statistics_of
from pipeline.drift.skew import age_measure, skew_measures
from pipeline.drift.trained import PARTS, TrainedVersion
from pipeline.lineage import Part
from serving.config import IndexConfig, ServingConfig
from serving.export.build_servable import ServableParts, build_servables
from serving.gateway.records import Event, Exposure
from serving.gateway.stores.base import Store, open_store
from serving.offline.build_index import build_item_index
from tests.pipeline.runs import Runs
from tests.serving import world
from trainer.config.ranking import RankingConfig

LENGTH = 5
DATA = DataConfig(TableConfig(""), TableConfig(""), history_length=LENGTH)
ITEMS = KnownItems({"a": "music", "b": "film", "c": "film"}, {"a": 3, "b": 1, "c": 0})
RULES = {"play": EventRule(), "like": EventRule()}


@pytest.fixture(scope="module")
def parts(tmp_path_factory) -> dict[str, Part]:
    """The artifacts of a small world: two groups of items, people who take one group only."""
    folder = tmp_path_factory.mktemp("parts")
    world.items(folder / "items")
    world.sequences(folder / "sequences")
    world.save_model(world.GoodModel(), folder / "model")
    vectors = world.content() / np.linalg.norm(world.content(), axis=1, keepdims=True)
    (folder / "index").mkdir()
    train = str(folder / "sequences" / "Split-train")
    serving = ServingConfig(IndexConfig(kind="exact", candidates=10))
    model = str(folder / "model" / "Format-Serving")
    build_item_index(model, world.ITEM_IDS, vectors, train, str(folder / "index"), serving, LENGTH)
    return {name: Part(folder / name) for name in PARTS}


@pytest.fixture(scope="module")
def servable(parts, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("servable")
    splits = {split: str(parts["sequences"].path / f"Split-{split}") for split in ("train", "eval", "test")}
    retrieval = str(parts["model"].path / "Format-Serving")
    items = str(parts["items"].path / "Split-train")
    made = ServableParts(retrieval, str(parts["index"].path), splits, items, ranker=None)
    serving = ServingConfig(IndexConfig(kind="exact", candidates=10))
    build_servables(made, str(folder / "exact"), str(folder / "scann"), serving, DATA, RankingConfig())
    return folder / "exact"


@pytest.fixture(scope="module")
def trained(servable: Path, parts) -> TrainedVersion:
    found = TrainedVersion.of(servable, parts, LENGTH)
    assert found is not None
    return found


def on_store(path: Path, work):
    async def go():
        store = open_store(str(path))
        await store.open()
        try:
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(go())


def test_the_export_makes_the_vectors_of_the_trained_towers(trained: TrainedVersion) -> None:
    assert trained.vector_difference() <= 1e-6


def test_an_export_that_sees_less_of_a_history_than_training_is_found(servable: Path, parts) -> None:
    longer = TrainedVersion.of(servable, parts, LENGTH + 3)
    assert longer is not None and longer.vector_difference() > DriftConfig().max_vector_difference


def test_a_version_whose_artifacts_are_gone_is_not_compared(servable: Path, parts) -> None:
    gone = {**parts, "index": Part(parts["index"].path / "gone")}
    assert TrainedVersion.of(servable, gone, LENGTH) is None
    assert TrainedVersion.of(servable, {}, LENGTH) is None


def test_people_of_the_training_data_ask_just_before_their_last_interaction(trained: TrainedVersion) -> None:
    """Ten seconds lie between two interactions; the last one of most people is the eleventh, with a cold item."""
    requests = trained.requests()
    assert len(requests) == world.NUM_USERS
    assert {len(one.history or ()) for one in requests} == {2, LENGTH}  # the two new people of the test split have 3
    first = requests[0]
    assert first.ages_s == (50.0, 40.0, 30.0, 20.0, 10.0) and set(first.events) == {"play"}
    groups = [world.group_of(world.ITEM_IDS.index(item)) for item in first.shown]
    assert groups == [0] * 9 + [1]  # all that the own group of twenty has left
    assert not set(first.shown) & set(first.history or ())
    items = trained.known_items()
    assert {items.known_as(item) for one in requests for item in one.history or ()} == {TAKEN}
    assert items.known_as("elsewhere") == UNKNOWN and items.domains[world.ITEM_IDS[1]] == "film"


def test_what_was_asked_is_the_last_list_of_each_person_with_what_was_known_then(tmp_path: Path) -> None:
    """Of another version nothing counts; of a session the history is not kept; what follows from the list came later,
    and so did what has a later time. Consecutive events on an item are one interaction."""
    shown = [
        Exposure("r1", "ada", 100, ("a",), (1.0,), model_version=7),
        Exposure("r2", "ada", 200, ("b", "a"), (1.0, 0.5), model_version=7),
        Exposure("r3", "", 150, ("c",), (1.0,), model_version=7),
        Exposure("r4", "", 160, ("a",), (1.0,), model_version=7),
        Exposure("r5", "bob", 150, ("c",), (1.0,), model_version=6),
    ]
    events = [
        Event("e2", "ada", "b", "like", 120),
        Event("e0", "ada", "x", "play"),
        Event("e1", "ada", "a", "play", 110),
        Event("e3", "ada", "b", "like", 125),
        Event("e4", "ada", "c", "share", 130),  # a kind without a rule
        Event("e5", "ada", "a", "play", 200, None, "r2"),
        Event("e6", "ada", "c", "play", 201),
    ]

    async def go(store: Store) -> tuple[list[Exposure], list[Request], list[Request]]:
        await store.add_exposures(shown)
        await store.add_events(events)
        found = sorted(await exposures_of(store, 7), key=lambda one: one.request_id)
        return found, await asked_requests(store, found, RULES, 500), await asked_requests(store, found[:1], RULES, 3)

    found, asked, few = on_store(tmp_path / "store.sqlite", go)
    assert [one.request_id for one in found] == ["r2", "r3", "r4"]
    assert asked[0] == Request(("x", "a", "b"), ("play", "play", "like"), (0.0, 90.0, 75.0), ("b", "a"))
    assert asked[1] == Request(None, (), (), ("c",))
    assert few[0].history == ("b",)  # of the last three events one has no rule, and two are one interaction


def test_each_feature_that_both_sides_have_is_compared() -> None:
    """Serving sees shorter histories of the other domain with an item that the model does not know, and lists of what
    nobody took."""
    trained = [Request(("a", "a", "b"), ("play", "play", "like"), (9e5, 2e5, 1e5), ("a", "b"))] * 30
    served = [Request(("z", "b"), ("play", "like"), (60.0, 60.0), ("c", "c"))] * 30
    sides = [statistics_of(side, ITEMS, LENGTH) for side in (trained, served)]
    found = {measure.name: measure for measure in skew_measures(*sides, DriftConfig())}
    assert found["histories: domain"].value == pytest.approx(2 / 3)  # of music: two in three, then none
    assert found["histories: event"].value == pytest.approx(2 / 3 - 1 / 2)
    assert found["histories: known_as"].value == pytest.approx(1 / 2)
    assert found["lists: domain"].value == pytest.approx(1 / 2)
    assert found["lists: known_as"].value == pytest.approx(1.0)
    numbers = ("requests: history_length", "requests: log10_newest_age_s", "lists: log2_times_taken")
    assert all(found[name].value > 0.9 for name in numbers) and len(found) == 8
    assert not [one for one in skew_measures(sides[0], sides[0], DriftConfig()) if one.value > 1e-9]


def test_a_session_is_compared_by_its_list_alone() -> None:
    found = statistics_of([Request(None, (), (), ("a",))], ITEMS, LENGTH)
    assert set(found) == {"lists"} and ITEMS.known_as("c") == UNTAKEN


def test_the_age_of_a_version_is_counted_from_its_push() -> None:
    asked = [Exposure(str(day), "", 1_000_000 + 86_400 * day, (), ()) for day in (1, 40, 41)]
    measure = age_measure(asked, 1_000_000, DriftConfig())
    assert measure.value == 40 and measure.is_exceeded
    assert age_measure(asked[:1], 1_000_000, replace(DriftConfig(), max_model_age_days=1.5)).is_exceeded is False


def test_the_command_tells_a_public_that_is_not_that_of_training(
    tmp_path: Path, servable: Path, parts, trained: TrainedVersion, settings, write, capsys
) -> None:
    """Exit codes, record, metrics and page: nothing was asked, then as in training, then by people with one play."""
    version = push(tmp_path / "work", servable, parts)
    settings["data"]["history_length"] = LENGTH
    path = write({**settings, "work_dir": str(tmp_path / "work"), "drift": {"min_people_asked": 60}})
    people = [trained.requests()[row] for row in np.random.default_rng(0).integers(world.NUM_USERS, size=100)]
    short = [Request(one.history[-1:], one.events[-1:], one.ages_s[-1:], one.shown) for one in people if one.history]
    codes = {}
    for name, public in (("nobody", []), ("same", people), ("short", short)):
        store = tmp_path / f"{name}.sqlite"
        ask(store, public, version)
        codes[name] = cli.main(["skew", "--config", str(path), "--store", str(store)])
        if name == "nobody":
            assert "nothing is said of serving" in capsys.readouterr().out
    assert codes == {"nobody": 0, "same": 0, "short": 3}
    report, config = tmp_path / "work" / "report", configuration.load(path)
    assert is_skewed(config, str(tmp_path / "short.sqlite"), report)  # what the loop asks before a run
    assert not is_skewed(replace(config, name="unpushed"), str(tmp_path / "short.sqlite"), report)
    record = json.loads((report / "skew.json").read_text())
    assert record["exceeded"] == ["requests: history_length"]
    assert (record["version"], record["people"]) == (str(version), len(short))
    assert record["measures"]["people's vectors"]["value"] <= 1e-6
    assert 'zhiyin_skew{measure="requests: history_length"}' in (report / "skew.prom").read_text()
    page = (report / "index.html").read_text()
    assert f"between training and serving of version {version}" in page and "by the trained towers and by" in page


def push(work_path: Path, servable: Path, parts: dict[str, Part]) -> int:
    """A run in whose record the servable is a version that was pushed now."""
    version, runs = int(time.time()), Runs(work_path)
    runs.begin("2026-03-01T10:00:00.000001")
    made = {name: runs.execute(name, {}, {"out": {"uri": str(part.path)}})["out"] for name, part in parts.items()}
    exact = runs.execute("Recommender", made, {"exact": {}})["exact"]
    shutil.copytree(servable, runs.path(exact) / "Format-Serving")
    runs.execute("ExactPusher", {"model": exact}, {"pushed_model": {"pushed": 1, "pushed_version": str(version)}})
    shutil.copytree(servable, work_path / "serving" / runs.name / str(version))
    return version


def ask(path: Path, people: Sequence[Request], version: int) -> None:
    """Write what a gateway would: each person's events, and the list that the version gave."""
    now_s = int(time.time())
    events = [
        Event(f"{who}-{place}", f"p{who}", item, event, now_s - int(age_s))
        for who, one in enumerate(people)
        for place, (item, event, age_s) in enumerate(zip(one.history or (), one.events, one.ages_s))
    ]
    shown = [
        Exposure(f"r{who}", f"p{who}", now_s, one.shown, (0.0,) * len(one.shown), version)
        for who, one in enumerate(people)
    ]

    async def go(store: Store) -> None:
        await store.add_events(events)
        await store.add_exposures(shown)

    on_store(path, go)
