"""The kinds of events, categories and numbers that a ranker reads by place, as it says beside its SavedModel."""

from __future__ import annotations

import json

from tensorflow.io import gfile

from components.config import DataConfig
from components.settings import SettingsError

FEATURES_FILE = "assets.extra/features.json"  # what a ranker reads, which tells whether two can be compared


def check_reads(ranker: str, data: DataConfig) -> None:
    """Check that a trained ranker can be fed from this data: its names, in its order.

    ranker: folder of its SavedModel. data: of which event_rules, in the order of their names, categorical and numeric
    are what it is fed with.
    Raises SettingsError naming the first setting that differs.
    """
    with gfile.GFile(f"{ranker}/{FEATURES_FILE}") as file:
        reads = json.loads(file.read())
    for name, setting, given in (
        ("events", "event_rules", sorted(data.event_rules)),
        ("categorical", "categorical", list(data.categorical)),
        ("numeric", "numeric", list(data.numeric)),
    ):
        if reads[name] != given:
            raise SettingsError(
                f"data.{setting}: the ranker reads {_listed(reads[name])} by their places, the configuration has "
                f"{_listed(given)}; train a ranker that reads those (zhiyin run; a refresh keeps the ranker), or put "
                "the setting back"
            )


def _listed(names: list[str]) -> str:
    return ", ".join(names) or "none"
