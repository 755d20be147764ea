"""`serve` starts the model server on what has been pushed, and writes nothing."""

from __future__ import annotations

import argparse

import pytest

from components.settings import SettingsError
from pipeline.commands import serve
from serving.model_server import server
from serving.model_server.flags import parse_flags


@pytest.fixture
def started(monkeypatch):
    """The flags with which the server was started."""
    flags: list[list[str]] = []
    monkeypatch.setattr(server, "main", lambda argv: flags.append(argv) or 0)
    return flags


@pytest.fixture
def config(tmp_path, settings, write):
    """A configuration whose models are pushed below `serving`."""
    return write({**settings, "work_dir": str(tmp_path)})


def run(config, *flags: str) -> int:
    return serve.run(argparse.Namespace(rest=list(flags), config=config, backend="python"))


def test_all_pushed_models_are_served_from_a_folder_that_nothing_is_written_to(tmp_path, config, started):
    serving = tmp_path / "serving"
    for name in ("music", "music-scann", 'odd "name"'):
        (serving / name / "1").mkdir(parents=True)
    before = sorted(serving.rglob("*"))
    assert run(config, "--drain_seconds=3") == 0
    assert sorted(serving.rglob("*")) == before
    parsed = parse_flags(started[0])
    assert [(model.name, model.base_path) for model in parsed.models] == [
        (name, str(serving / name)) for name in ("music", "music-scann", 'odd "name"')
    ]
    assert (parsed.grpc_port, parsed.rest_port, parsed.drain_s) == (8500, 8501, 3)


def test_flags_that_name_models_stand_alone(tmp_path, config, started):
    run(config, f"--model_base_path={tmp_path}", "--port=0")
    assert started == [[f"--model_base_path={tmp_path}", "--port=0", "--rest_api_port=8501"]]


def test_nothing_pushed_yet_says_what_to_do(config):
    with pytest.raises(SettingsError, match=r"zhiyin run --config"):
        run(config)
