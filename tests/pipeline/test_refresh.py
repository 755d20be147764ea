"""`zhiyin refresh` before its first node: whether the ranker that it keeps reads what the configuration has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from components.config import DEFAULT_EVENTS
from pipeline import cli, workflows
from tests.pipeline.runs import Runs

KINDS = sorted(DEFAULT_EVENTS)
COLUMNS = {"categorical": ["mood"], "numeric": ["year", "length"]}


class Began(Exception):
    """The nodes would have run now."""


@pytest.fixture
def refresh(settings: dict[str, Any], write, tmp_path: Path, monkeypatch):
    """Refreshes a version whose ranker reads KINDS and COLUMNS, under changed settings of the data."""

    def began(*_: Any) -> None:
        raise Began

    monkeypatch.setattr(workflows, "_run", began)

    def command(is_blessed: bool = True, **changes: Any) -> int:
        runs = Runs(tmp_path / "work")
        ranker = runs.path(runs.train("1", ranks=is_blessed)["ranker"]) / "Format-Serving" / "assets.extra"
        ranker.mkdir(parents=True)
        (ranker / "features.json").write_text(json.dumps({"events": KINDS, **COLUMNS}))
        changed = {"work_dir": str(runs.work_path), "data": {**settings["data"], **COLUMNS, **changes}}
        return cli.main(["refresh", "--config", str(write({**settings, **changed}))])

    return command


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"event_rules": {"play": {}, "like": {}, "dislike": {"positive": False}}}, "has dislike, like, play;"),
        ({"categorical": ["genre"]}, "data.categorical: the ranker reads mood by their places, the"),
        ({"numeric": ["length", "year"]}, "data.numeric: the ranker reads year, length by"),
    ],
    ids=["kinds of events", "a category", "numbers in another order"],
)
def test_what_the_ranker_was_not_trained_with_is_refused_before_anything_runs(refresh, capsys, changes, said) -> None:
    assert refresh(**changes) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line and "zhiyin run" in line


@pytest.mark.parametrize("is_blessed", [True, False])
def test_it_begins_where_the_ranker_reads_the_same_or_is_not_used(refresh, is_blessed) -> None:
    changes = {} if is_blessed else {"categorical": ["genre"]}
    with pytest.raises(Began):
        refresh(is_blessed, event_rules={name: {} for name in reversed(KINDS)}, **changes)
