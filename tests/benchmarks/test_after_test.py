"""What is held out for the end is in nobody's hands before."""

import dataclasses
from pathlib import Path

import pytest

from benchmarks import after_test
from components.config import DataConfig, TableConfig
from components.settings import SettingsError
from pipeline import config as configuration


def test_the_last_tenth_is_in_no_split_but_its_own_and_all_before_is_its_history(tmp_path: Path) -> None:
    """Forty events of two people, one a second; the last four, from second 36 on, are held out."""
    (tmp_path / "items.csv").write_text("item_id\n" + "".join(f"i{number}\n" for number in range(40)))
    rows = [f"{'uv'[number % 2]},i{number},{1_600_000_000 + number}\n" for number in range(40)]
    (tmp_path / "events.csv").write_text("user_id,item_id,timestamp\n" + "".join(rows))
    data = DataConfig(TableConfig(str(tmp_path / "items.csv")), TableConfig(str(tmp_path / "events.csv")))
    config = dataclasses.replace(configuration.load(Path("configs/demo.yaml")), data=data)
    splits = after_test.HeldOut.of(config, tmp_path / "sequences").read([f"i{number}" for number in range(40)])
    later = splits.pop(after_test.LATER)
    own = later.items[~later.is_history]
    assert sorted(own.tolist()) == [36, 37, 38, 39]
    assert later.num_history.tolist() == [18, 18]
    assert max(split.items.max() for split in splits.values()) == 35
    assert all(len(split) for split in splits.values())


def test_an_unknown_case_is_named() -> None:
    with pytest.raises(SettingsError, match="got refits"):
        after_test.run(None, ["refits"])
