"""The drift of recorded runs: against which run, from which files, and what is left for programs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from components.contract import FRAME_BYTES
from pipeline.drift import snapshot
from pipeline.drift.check import Drift, drift_of
from pipeline.drift.config import DriftConfig
from pipeline.drift.measures import Measure, compare
from pipeline.drift.record import has_exceeded, read_skew, write_drift, write_skew
from pipeline.drift.skew import Skew
from pipeline.drift.snapshot import AUDIO_MELS, read_snapshot
from pipeline.run_history import read_runs
from tests.pipeline.report import recorded
from tests.pipeline.runs import Runs


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
    red, sound = (found.values[found.item_ids.index(item_id)] for item_id in ("i0", "i1"))
    assert red[AUDIO_MELS:].tolist() == [255, 0, 0] and np.isnan(red[:AUDIO_MELS]).all()
    assert np.isnan(sound[AUDIO_MELS:]).all() and sound[:AUDIO_MELS] == pytest.approx(127.5, abs=1)


def run_of_pictures(runs: Runs, started_at: str, greys: dict[str, int]) -> None:
    """A run over single pictures of one grey each, in the order of the files; each is taken once."""
    runs.begin(started_at)
    catalog = runs.execute("CatalogGen", {}, {"examples": {}})["examples"]
    rows = [
        {"item_id": recorded._bytes(item), "domain": recorded._bytes("film" if grey < 128 else "music")}
        for item, grey in greys.items()
    ]
    recorded._write_examples(runs.path(catalog) / "Split-train", rows)
    media = runs.execute("MediaFeatures", {}, {"examples": {}})["examples"]
    rows = [
        {"item_id": recorded._bytes(item), "has_video": recorded._ints(1), "video_num_frames": recorded._ints(1),
         "video_frames": recorded._raw(np.full(FRAME_BYTES, grey, np.uint8))}
        for item, grey in greys.items()
    ]  # fmt: skip
    recorded._write_examples(runs.path(media) / "Split-train", rows)
    index = runs.path(runs.execute("ItemIndex", {}, {"index": {}})["index"])
    (index / "item_ids.json").write_text(json.dumps(sorted(greys)))
    sequences = runs.execute("Interactions", {}, {"sequences": {}})["sequences"]
    recorded._write_examples(runs.path(sequences) / "Split-test", [recorded._sequence("u", sorted(greys))])


def test_items_that_lie_in_the_files_in_another_order_have_not_moved(tmp_path: Path, monkeypatch) -> None:
    """More items than are summarised: those are the same ones in both runs, and domains are counted over all."""
    monkeypatch.setattr(snapshot, "MOST_ITEMS", 40)
    runs, greys = Runs(tmp_path / "work"), {f"i{row:02}": 4 * row for row in range(60)}
    run_of_pictures(runs, recorded.FIRST, greys)
    run_of_pictures(runs, recorded.SECOND, dict(reversed(greys.items())))
    before, after = map(read_snapshot, read_runs(tmp_path / "work"))
    assert len(before.contents.values) == 40 and np.isfinite(before.contents.values[:, AUDIO_MELS:]).all()
    assert {one.name: one.value for one in compare(before, after, DriftConfig())} == {
        "content of the catalog": 0,
        "content of what is taken": 0,
        "domains of what is taken": 0,
        "concentration of popularity": 0,
        "share of cold items": 0,
    }


def test_a_limit_that_is_switched_off_is_json(tmp_path: Path) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    measure = Measure("people's vectors", 0.5, float("inf"))
    write_drift(Drift("r1", [measure]), "r2", tmp_path)
    write_skew(Skew("7", 3, [measure]), tmp_path)
    for kind in ("drift", "skew"):
        record = json.loads((tmp_path / f"{kind}.json").read_text(), parse_constant=refuse)
        assert record["measures"] == {"people's vectors": {"value": 0.5, "limit": None}}
    assert read_skew(tmp_path) == Skew("7", 3, [measure])


def test_programs_read_what_moved(tmp_path: Path) -> None:
    write_drift(None, "r1", tmp_path)
    assert not has_exceeded("drift", tmp_path)
    write_drift(Drift("r1", [Measure("taste", 0.5, 0.2), Measure("sound", 0.1, 0.2)]), "r2", tmp_path)
    assert has_exceeded("drift", tmp_path)
    record = json.loads((tmp_path / "drift.json").read_text())
    assert (record["run"], record["reference"], record["exceeded"]) == ("r2", "r1", ["taste"])
    assert 'zhiyin_drift{measure="taste"} 0.5' in (tmp_path / "drift.prom").read_text()
