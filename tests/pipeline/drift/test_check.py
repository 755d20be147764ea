"""The drift of recorded runs: against which run, from which files, and what is left for programs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.drift.check import Drift, drift_of
from pipeline.drift.config import DriftConfig
from pipeline.drift.measures import Measure
from pipeline.drift.record import has_exceeded, write_drift
from pipeline.drift.snapshot import AUDIO_MELS, read_snapshot
from pipeline.run_history import read_runs
from tests.pipeline.report import recorded


@pytest.fixture(scope="module")
def runs(tmp_path_factory, pushed_version: Path):
    folder = tmp_path_factory.mktemp("drift") / "work"
    recorded.two_runs(folder, pushed_version)
    return read_runs(folder)


def test_the_first_run_has_nothing_to_be_compared_with(runs) -> None:
    assert drift_of(runs[0], runs, DriftConfig()) is None


def test_a_run_is_compared_with_the_last_blessed_one_before_it(runs) -> None:
    """Both runs have the same tables and items: nothing has moved."""
    drift = drift_of(runs[1], runs, DriftConfig())
    assert drift is not None and drift.reference == recorded.FIRST_ID
    assert not drift.exceeded and {measure.value for measure in drift.measures} == {0.0}


def test_the_content_is_summarised_by_bands_and_colours(runs) -> None:
    """i0 is a red picture without sound; the others are sounds that fade, without a picture."""
    found = read_snapshot(runs[0]).contents
    red, sound = found.values[0], found.values[1]
    assert red[AUDIO_MELS:].tolist() == [255, 0, 0] and np.isnan(red[:AUDIO_MELS]).all()
    assert np.isnan(sound[AUDIO_MELS:]).all() and sound[:AUDIO_MELS] == pytest.approx(127.5, abs=1)


def test_programs_read_what_moved(tmp_path: Path) -> None:
    write_drift(None, "r1", tmp_path)
    assert not has_exceeded("drift", tmp_path)
    write_drift(Drift("r1", [Measure("taste", 0.5, 0.2), Measure("sound", 0.1, 0.2)]), "r2", tmp_path)
    assert has_exceeded("drift", tmp_path)
    record = json.loads((tmp_path / "drift.json").read_text())
    assert (record["run"], record["reference"], record["exceeded"]) == ("r2", "r1", ["taste"])
    assert 'zhiyin_drift{measure="taste"} 0.5' in (tmp_path / "drift.prom").read_text()
