"""The users table before the start of a run."""

import pytest

from components.settings import SettingsError
from pipeline import config as configuration
from pipeline import workflows


def test_a_users_table_that_is_read_must_be_there(settings, write, tmp_path, monkeypatch):
    """D13: checked before anything is computed."""
    monkeypatch.chdir(tmp_path)
    for name in ("items.csv", "events.csv"):
        (tmp_path / name).write_text("x")
    settings["data"]["users"] = {"path": "users.csv"}
    settings["retrieval"] = {"use_user_features": True}
    with pytest.raises(SettingsError, match="data.users.path: no file matches .*users.csv"):
        workflows.train(configuration.load(write(settings)))


def test_a_users_table_that_nobody_reads_is_told(settings, write, tmp_path, monkeypatch, capsys):
    """D13: whether it is there or not."""
    monkeypatch.chdir(tmp_path)
    for name in ("items.csv", "events.csv"):
        (tmp_path / name).write_text("x")
    settings["data"] |= {"users": {"path": "users.csv"}, "media_root": "missing"}
    with pytest.raises(SettingsError, match="data.media_root"):
        workflows.train(configuration.load(write(settings)))
    assert "data.users is not read" in capsys.readouterr().err
