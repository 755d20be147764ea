"""What a private run says of the split before it starts."""

import pytest

from components.settings import SettingsError
from pipeline import config as configuration
from pipeline import workflows


@pytest.mark.parametrize(
    ("kind", "privacy", "is_told"),
    [
        ("time", {"epsilon": 4.0, "delta": 1e-5}, True),
        ("time_per_user", {"epsilon": 4.0, "delta": 1e-5}, False),
        ("time", None, False),
    ],
)
def test_a_cut_that_everybody_moves_is_told(settings, write, tmp_path, monkeypatch, capsys, kind, privacy, is_told):
    monkeypatch.chdir(tmp_path)
    for name in ("items.csv", "events.csv"):
        (tmp_path / name).write_text("x")
    settings["data"] |= {"split": {"kind": kind}, "media_root": "missing"}
    settings["privacy"] = {"differential": privacy}
    with pytest.raises(SettingsError, match="data.media_root"):
        workflows.train(configuration.load(write(settings)))
    assert ("the cut between train and eval" in capsys.readouterr().err) == is_told
