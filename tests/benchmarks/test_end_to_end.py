"""The benchmark of the line writes the protocol's own split as tables that `zhiyin run` reads."""

import csv
import os
from pathlib import Path

import numpy as np
import pytest

from benchmarks import end_to_end
from benchmarks.quality import loaders, stored
from components.settings import SettingsError
from pipeline import config as configuration

RATINGS = [(1, 1, 10), (1, 2, 30), (1, 3, 20), (1, 4, 40), (2, 1, 5), (2, 3, 7), (2, 2, 6)]  # user, film, time


@pytest.fixture
def films(tmp_path, monkeypatch):
    monkeypatch.setattr(end_to_end, "WORK", tmp_path / "work")
    lines = [f"{user}\t{film}\t4\t{time_s}" for user, film, time_s in RATINGS]
    (tmp_path / "u.data").write_text("\n".join(lines), encoding="ascii")
    (tmp_path / "u.item").write_text("", encoding="ascii")
    (tmp_path / "u.user").write_text("", encoding="ascii")
    return tmp_path


def test_the_tables_are_split_as_the_protocol_splits(films):
    path = end_to_end.write_config(
        "ML100K-T", films, {"embedding_dim": 8, "user_tower": "both", "loss": "full_softmax"}
    )
    config = configuration.load(path)
    assert (config.data.split.kind, config.retrieval.embedding_dim, config.retrieval.metric) == ("given", 8, "NDCG@10")
    with Path(config.data.events.path).open(encoding="utf-8", newline="") as file:
        events = list(csv.DictReader(file))
    (split,) = loaders.ml100k_t(films)
    for part, pairs in (
        ("train", split.validation.train),
        ("valid", split.validation.truth),
        ("test", split.test.truth),
    ):
        own = {(int(event["user_id"]), int(event["item_id"])) for event in events if event["split"] == part}
        assert own == set(zip(*(axis.tolist() for axis in pairs.nonzero()))), part
    assert {event["event"] for event in events} == set(config.data.event_rules)
    with Path(config.data.catalogue.path).open(encoding="utf-8", newline="") as file:
        assert [int(row["item_id"]) for row in csv.DictReader(file)] == np.arange(4).tolist()


def test_tables_that_are_there_already_keep_their_time(films):
    settings = {"embedding_dim": 8}
    path = end_to_end.write_config("ML100K-T", films, settings).with_name("events.csv")
    os.utime(path, (1000, 1000))
    end_to_end.write_config("ML100K-T", films, settings)
    assert path.stat().st_mtime == 1000
    path.write_text("cut off")
    end_to_end.write_config("ML100K-T", films, settings)
    assert path.read_text().startswith("user_id,")


def test_without_a_stored_result_the_command_says_what_to_run(films, monkeypatch):
    monkeypatch.setattr(stored, "RESULT", stored.ROOT / "nowhere.json")
    with pytest.raises(SettingsError, match="first run ./zhiyin bench quality --case ML100K-T"):
        end_to_end.run(films, ("ML100K-T",))
    with pytest.raises(SettingsError, match="--case: got ML1M-U, expected some of LFM, ML100K-T"):
        end_to_end.run(films, ("ML1M-U",))
