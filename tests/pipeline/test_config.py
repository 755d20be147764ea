"""The configuration: every fault is one line that says what to mend."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from components.settings import SettingsError, from_json, to_json
from pipeline import config as configuration
from pipeline import workflows
from pipeline.config import Config

SHIPPED = sorted(path for path in (Path(__file__).parents[2] / "configs").glob("*.yaml"))


def spoil(settings: dict, path: str, value: object) -> dict:
    *folders, last = path.split(".")
    inner = settings
    for folder in folders:
        inner = inner.setdefault(folder, {})
    inner[last] = value
    return settings


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_a_shipped_configuration_loads(path: Path) -> None:
    assert configuration.load(path).data.catalogue.path


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("retreival", {}, "did you mean 'retrieval'"),
        ("data.max_reject_shares", 0.1, "data.max_reject_shares'; did you mean 'max_reject_share'"),
        ("data.catalogue.path", 7, "data.catalogue.path: got 7, expected str"),
        (
            "data.split",
            {"kind": "random"},
            "data.split.kind: got 'random', expected one of time, time_per_user, user, given",
        ),
        ("data.split", {"test_share": 1.5}, "data.split: shares must leave something to train on"),
        ("data.max_reject_share", 2.0, "max_reject_share: got 2.0"),
        ("retrieval", {"epochs": True}, "retrieval.epochs: got True, expected int"),
        ("retrieval", {"user_tower": "crystal"}, "retrieval.user_tower: got 'crystal'"),
        ("name", "Recsys_Demo", "'Recsys_Demo', expected [a-z0-9]"),
        ("name", "recsys demo", "'recsys demo', expected [a-z0-9]"),
        ("name", "a" * 129, "128 at most"),
        ("data.event_rules", {"skip": {"positive": False}}, "no kind of event is positive"),
        ("data.event_rules", {"play": {"weight": 1e25}}, "weight: got 1e+25, expected a strength from 0 to 1e6"),
        ("data.event_rules", {"play": {"weight": -1.0}}, "weight: got -1.0"),
        ("ranking", {"held_out_share": 0.0}, "held_out_share: got 0.0, expected a share above 0"),
        ("evaluation", {}, "no threshold is set"),  # C44: neither blessed nor refused
        ("evaluation", {"metric": "Recall@10"}, "expected R@k, NDCG@k, HR@k or MRR@k"),
        ("encoders", [{"name": "Mini LM", "kind": "text", "path": "m", "dim": 2}], "encoders[0]: name: got 'Mini LM'"),
        (
            "encoders",
            [{"name": "a", "kind": "audio_checkpoint", "path": "m", "dim": 2}],
            "needs the names of its tensors",
        ),
        (
            "encoders",
            [{"name": "a", "kind": "audio_savedmodel", "path": "m", "dim": 2, "tune": {}}],
            "only text encoders can be tuned",
        ),
        (
            "encoders",
            [{"name": "a", "kind": "text", "path": "m", "dim": 2, "tune": {"layer_decay": 2.0}}],
            "layer_decay: got 2.0",
        ),
        ("encoders", [{"name": "a", "kind": "text", "path": "m", "dim": 2}] * 2, "more than one is named a"),
        ("data.pieces", {"a": 4}, "data.pieces: not a setting of its own"),
    ],
)
def test_a_fault_is_named(settings, write, setting: str, value: object, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        configuration.load(write(spoil(settings, setting, value)))
    text = str(caught.value)
    assert message in text and "config.yaml" in text and "\n" not in text


def test_a_missing_setting_is_named(settings, write) -> None:
    del settings["data"]["events"]
    with pytest.raises(SettingsError, match="missing setting 'data.events'"):
        configuration.load(write(settings))


def test_no_file_and_no_yaml_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot read the configuration .*nope.yaml"):
        configuration.load(tmp_path / "nope.yaml")
    (tmp_path / "broken.yaml").write_text("name: [")
    with pytest.raises(SettingsError, match="broken.yaml is not YAML"):
        configuration.load(tmp_path / "broken.yaml")


def test_json_keeps_every_setting(settings, write) -> None:
    config = configuration.load(write(settings))
    assert from_json(Config, to_json(config)) == config


def test_a_cache_key_holds_only_what_the_node_depends_on(settings, write) -> None:
    data = configuration.load(write(settings)).data
    stricter = dataclasses.replace(data, split=dataclasses.replace(data.split, test_share=0.2))
    assert data.only("catalogue") == stricter.only("catalogue")
    assert data.only("split") != stricter.only("split")
    with pytest.raises(ValueError, match="no such setting: splits"):
        data.only("splits")


def test_local_paths_become_absolute_and_remote_ones_stay(settings, write) -> None:
    settings["data"]["media_root"] = "gs://bucket/media"
    localised = configuration.localised(configuration.load(write(settings)))
    assert Path(localised.data.catalogue.path).is_absolute()
    assert localised.data.media_root == "gs://bucket/media"


def test_a_store_is_no_path(settings, write) -> None:
    for table in ("catalogue", "events"):
        settings["data"][table] = {"path": "store:"}
    data = configuration.localised(configuration.load(write(settings))).data
    assert data.catalogue.path == data.events.path == "store:"


def test_what_encoders_add_are_columns_of_the_items(settings, write) -> None:
    encoder = {"name": "words", "kind": "text", "path": "m", "dim": 5}
    tuned = {**encoder, "name": "tuned", "dim": 6, "tune": {"tokens": 9}}
    settings["data"]["embeddings"] = {"given": 3}
    data = configuration.load(write({**settings, "encoders": [encoder, tuned]})).item_data
    assert data.embeddings == {"given": 3, "words": 5, "tuned": 6} and data.pieces == {"tuned": 9}
    with pytest.raises(SettingsError, match="an embedding named given already"):
        configuration.load(write({**settings, "encoders": [{**encoder, "name": "given"}]}))


def test_an_encoder_whose_folder_is_not_there_is_named(settings, write, tmp_path) -> None:
    for name in ("items", "events"):
        (tmp_path / f"{name}.csv").write_text("item_id\n")
    settings["data"] = {
        "catalogue": {"path": str(tmp_path / "items.csv")},
        "events": {"path": str(tmp_path / "events.csv")},
    }
    settings["encoders"] = [{"name": "words", "kind": "text", "path": str(tmp_path / "nowhere"), "dim": 5}]
    settings["work_dir"] = str(tmp_path / "work")
    with pytest.raises(SettingsError, match="encoders: words: there is no folder"):
        workflows.train(configuration.load(write(settings)))


def test_a_configuration_of_the_last_release_is_read_and_the_new_name_said(settings, write, capsys) -> None:
    config = configuration.load(write({**settings, "references": "world/truth.npz"}))
    assert config.ground_truth == "world/truth.npz"
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("zhiyin: ") and "the setting references is now called ground_truth" in line
