"""Questions to the current model: several ids at once, JSON, everybody, short lists, a folder to read only."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml

from pipeline import cli, local_model, ranked_lists
from pipeline import config as configuration
from pipeline.lineage import Part
from pipeline.local_model import CurrentModel, RankedList
from serving.config import ListDefaults, ServingConfig
from serving.export import saved_model
from tests.serving import tiny

NUM_ITEMS = 12


@pytest.fixture(scope="module", autouse=True)
def _load_once() -> Iterator[None]:
    """A version that does not change is loaded once for all tests here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(saved_model, "load", cache(saved_model.load))
        yield


@pytest.fixture(scope="module")
def config_path(pushed_version: Path, tmp_path_factory) -> Path:
    """A configuration of a version that no test changes."""
    return configured(pushed_version, tmp_path_factory.mktemp("work"))


@pytest.fixture
def own_config_path(pushed_version: Path, tmp_path: Path) -> Path:
    """A configuration of a version of the test's own."""
    return configured(pushed_version, tmp_path)


def configured(version: Path, tmp_path: Path) -> Path:
    """A work folder with a users table: `known`, and `silent`, who has no events."""
    for name in ("tiny", "tiny-scann"):
        shutil.copytree(version, tmp_path / "serving" / name / "1")
    (tmp_path / "users.csv").write_text("user_id\nknown\nsilent\n\n")
    table = {"path": str(tmp_path / "none.csv")}
    settings = {
        "name": "tiny",
        "work_dir": str(tmp_path),
        "data": {"catalogue": table, "events": table, "users": {"path": str(tmp_path / "users.csv")}},
        "evaluation": {"min_gain_over_popularity": 0.0, "max_loss_to_last": 0.0},
    }
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def ask(config_path: Path, capsys, *words: str) -> list[str]:
    assert cli.main([words[0], "--config", str(config_path), *words[1:]]) == 0
    return capsys.readouterr().out.splitlines()


def refuse(config_path: Path, capsys, *words: str) -> str:
    assert cli.main([words[0], "--config", str(config_path), *words[1:]]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_several_people_get_a_list_each(config_path: Path, capsys) -> None:
    lines = ask(config_path, capsys, "recommend", "--user", "known", "--user", "--help", "--k", "2")
    assert [line for line in lines if not line.startswith("  ")] == [
        "for known:",
        "for --help:",
        "nothing is known of '--help': this is what new people get",
    ]
    assert len(lines) == 3 + 2 * 2


def test_json_is_an_object_a_line_and_says_why_a_list_is_short(config_path: Path, capsys) -> None:
    """12 items, of which `known` has had two and somebody new none."""
    known, new = map(json.loads, ask(config_path, capsys, "recommend", "--user", "known", "new", "--k", "11", "--json"))
    assert (known["user_id"], known["fallback"], len(known["items"])) == ("known", False, 10)
    assert known["note"].startswith(
        "10 of 11 asked for: 12 items can be shown, and 2 of those are in the person's history"
    )
    assert (new["user_id"], new["fallback"], len(new["items"]), "note" in new) == ("new", True, 11, False)
    assert set(new["items"][0]) == {"rank", "item_id", "score", "title"}


def test_the_list_of_a_time_is_that_of_its_own_signature(config_path: Path, capsys) -> None:
    """The made model has no dates, so that any time gives the list of the last event."""
    plain = ask(config_path, capsys, "recommend", "--user", "known", "--k", "5")
    for text in ("2024-05-31", "2024-05-31T18:00:00Z", "2024-05-31 18:00+02:00", "1717178400"):
        assert ask(config_path, capsys, "recommend", "--user", "known", "--k", "5", "--at", text) == plain
    assert "--at: got '253402300800'" in refuse(
        config_path, capsys, "recommend", "--user", "known", "--at", "253402300800"
    )
    assert "--at: got 'soon'" in refuse(config_path, capsys, "recommend", "--user", "known", "--at", "soon")


def test_moments_are_seconds_since_1970() -> None:
    day = 24 * 3600
    for text, seconds in (
        ("1970-01-02", day),
        ("1970-01-02T01:00:00Z", day + 3600),
        ("1970-01-02T00:00+01:00", day - 3600),
    ):
        assert ranked_lists.moment(text) == seconds


def test_everybody_includes_people_without_events(config_path: Path, capsys, tmp_path: Path) -> None:
    lines = ask(config_path, capsys, "recommend", "--all-users", "--k", "3", "--json")
    assert [json.loads(line)["user_id"] for line in lines] == ["known", "other", "silent"]
    (last,) = ask(config_path, capsys, "recommend", "--all-users", "--k", "11", "--output", str(tmp_path / "lists.csv"))
    assert last.startswith("32 rows for 3 people") and last.endswith("the shortest list has 10 of 11 items")
    table = pd.read_csv(tmp_path / "lists.csv")
    assert table.groupby("user_id").size().to_dict() == {"known": 10, "other": 11, "silent": 11}


def test_similar_items_of_several(config_path: Path, capsys) -> None:
    found = [
        json.loads(line) for line in ask(config_path, capsys, "similar", "--item", "i3", "i5", "--k", "4", "--json")
    ]
    assert [answer["item_id"] for answer in found] == ["i3", "i5"]
    assert all(answer["item_id"] not in {item["item_id"] for item in answer["items"]} for answer in found)
    assert "no item '-1', 'nope'" in refuse(config_path, capsys, "similar", "--item", "i3", "-1", "nope")


def test_the_catalogue_is_read_once_for_the_titles_of_all(config_path: Path, monkeypatch) -> None:
    reads = []
    monkeypatch.setattr(local_model, "_titles", lambda folder: reads.append(folder) or {"i1": "music: One"})
    model = CurrentModel(configuration.load(config_path))
    model.parts = {"catalogue": Part(Path("catalogue"))}
    found = [model.titles(set(ranked.item_ids)) for ranked in model.recommend(["known", "other", "new"], 12)]
    assert reads == [Path("catalogue", "Split-train")]
    assert (found[0]["i1"], found[2]["i2"]) == ("music: One", "i2")


def test_long_lists_are_asked_for_by_fewer_people_at_once() -> None:
    """So many as places and candidates fit into memory; one at least."""
    assert [local_model.keys_at_once(k) for k in (1, 200, 400, 10_000, 100_000)] == [256, 256, 128, 5, 1]


def test_a_short_list_names_what_the_operator_and_the_question_leave_out() -> None:
    capped = SimpleNamespace(serving=ServingConfig(defaults=ListDefaults(max_per_creator=2)))
    free = SimpleNamespace(serving=ServingConfig())
    short = RankedList("u", ["i1"], [0.5])
    said = [ranked_lists.why_short(short, 3, 9, ("seen", "not out yet"), config) for config in (free, capped)]
    assert said[0].endswith("and 8 of those are seen, or not out yet")
    assert said[1].endswith("seen, not out yet, or more than 2 of a creator (serving.defaults.max_per_creator)")
    assert not ranked_lists.why_short(short, 1, 9, ("seen", "not out yet"), capped)


def test_items_without_content_are_missed_by_content(config_path: Path, capsys, monkeypatch) -> None:
    alike = RankedList("i3", ["i1"], [0.5], by="content")
    monkeypatch.setattr(CurrentModel, "similar", lambda *asked: iter([alike]))
    (found,) = map(json.loads, ask(config_path, capsys, "similar", "--item", "i3", "--by", "content", "--json"))
    assert found["note"].endswith("11 of those are the item itself, not out yet, or without content")


def test_similar_items_by_what_is_asked_for(config_path: Path, capsys) -> None:
    """i11 has been taken by nobody: its list is by both, and it is in no list by behaviour."""
    vectors = {"content": tiny.from_mean(tiny.vectors_of(NUM_ITEMS, seed=8)), "both": tiny.vectors_of(NUM_ITEMS)}
    for by, told_by in (("content", "content"), ("both", "both"), ("behaviour", "both")):
        (found,) = map(
            json.loads, ask(config_path, capsys, "similar", "--item", "i11", "--by", by, "--k", "11", "--json")
        )
        order = np.argsort(-(vectors[told_by] @ vectors[told_by][11]))
        assert [item["item_id"] for item in found["items"]] == [f"i{row}" for row in order if row != 11]
        assert found["by"] == told_by
        assert found.get("note", "") == ("nothing is known of it by behaviour alone: by both" if by != told_by else "")
    lines = ask(config_path, capsys, "similar", "--item", "i3", "--by", "behaviour", "--k", "11")
    assert len(lines) == 1 + 10 + 1 and not any("i11" in line for line in lines)
    assert lines[-1].startswith("10 of 11 asked for: 12 items can be shown, and 2 of those are the item itself")


def test_explanations_of_several_pairs_add_up(config_path: Path, capsys) -> None:
    lines = ask(config_path, capsys, "explain", "--user", "known", "other", "--item", "i4", "i5", "--json")
    found = [json.loads(line) for line in lines]
    assert [(one["user_id"], one["item_id"]) for one in found] == [
        ("known", "i4"), ("known", "i5"), ("other", "i4"), ("other", "i5"),
    ]  # fmt: skip
    for one in found:
        (score,) = one["scores"]
        assert sum(part["value"] for part in score["parts"]) + score["rest"] == pytest.approx(score["total"], abs=1e-5)
        assert "not told by what is known of the item: the run that version 1 came from" in one["notes"][0]


def test_an_added_item_is_known_to_every_question(own_config_path: Path, capsys) -> None:
    from pipeline import catalog_updates
    from serving.export.catalog_updates import AddedItem

    config = configuration.load(own_config_path)
    catalog_updates.add(config, {"new": AddedItem(tiny.vectors_of(1, seed=3)[0])}, catalog_updates.newest(config), ())
    assert CurrentModel(config).num_shown == NUM_ITEMS + 1
    (answer,) = map(json.loads, ask(own_config_path, capsys, "recommend", "--user", "known", "--k", "20", "--json"))
    assert "new" in {item["item_id"] for item in answer["items"]}
    (answer,) = map(json.loads, ask(own_config_path, capsys, "similar", "--item", "new", "--k", "3", "--json"))
    assert len(answer["items"]) == 3
    (answer,) = map(json.loads, ask(own_config_path, capsys, "explain", "--user", "known", "--item", "new", "--json"))
    assert answer["scores"][0]["total"] != 0


def test_withdrawing_what_nothing_knows_is_refused(own_config_path: Path, capsys) -> None:
    assert "no item 'nope'" in refuse(own_config_path, capsys, "withdraw", "--item", "i1", "nope")
    assert CurrentModel(configuration.load(own_config_path)).num_shown == NUM_ITEMS
    ask(own_config_path, capsys, "withdraw", "--item", "i1")
    assert CurrentModel(configuration.load(own_config_path)).num_shown == NUM_ITEMS - 1


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.csv", ""),
        ("headerless.csv", "x1,A title,music\nx2,Another,film\n"),
        ("semicolons.csv", "item_id;title\nx1;A title\n"),
        ("book.xlsx", "PK\x03\x04"),
        ("only_header.csv", "item_id,title\n"),
    ],
)
def test_adding_a_table_that_is_none_is_one_line(
    config_path: Path, capsys, tmp_path: Path, name: str, content: str
) -> None:
    table = tmp_path / name
    table.write_text(content)
    line = refuse(config_path, capsys, "add", "--catalogue", str(table))
    assert name in line and line.startswith("zhiyin: ")


def test_a_folder_to_read_only_is_enough_to_ask(config_path: Path, capsys) -> None:
    def state() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in sorted((config_path.parent / "serving").rglob("*"))}

    before = state()
    for path in before:
        path.chmod(0o500 if path.is_dir() else 0o400)
    try:
        assert len(ask(config_path, capsys, "recommend", "--user", "known", "--k", "5")) == 5
        assert state() == before
    finally:
        for path in before:
            path.chmod(0o700)


def test_a_title_cannot_command_the_terminal() -> None:
    ranked = RankedList("u", ["i\n1"], [0.5])
    (line,) = ranked_lists.text_lines(ranked, {"i\n1": "music: \x1b[2J日本"})
    assert line.split()[2:] == ["i\\n1", "music:", "\\x1b[2J日本"]
