"""The report of a recorded run: what it says, that it needs nothing else, and that no text of the data is markup."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from components.settings import SettingsError
from pipeline.config import Config
from pipeline.report import svg, write
from pipeline.report.facts import Facts, numbers
from pipeline.report.items import BARS, principal_components
from pipeline.report.quality import Interval
from pipeline.report.ranker import _reliability
from pipeline.run_history import read_runs
from tests.pipeline.report.recorded import FIRST_ID, HOSTILE, SECOND_ID


@pytest.fixture(scope="module")
def page(config: Config) -> str:
    return write.write_run(config).read_text(encoding="utf-8")


def test_the_report_needs_no_other_file_and_no_network(page: str) -> None:
    """The only addresses in it lead into the page itself, or are pictures within it."""
    addresses = re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?([^"')\s>]+)""", page)
    assert addresses and all(address.startswith(("#", "data:image/jpeg;base64,")) for address in addresses)
    assert "http:" not in page and "https:" not in page and "<script" not in page


def test_text_of_the_data_is_never_markup(page: str) -> None:
    """A title on the map and in a list, and the detail of a reject, hold a script."""
    assert HOSTILE not in page
    assert page.count("&lt;script&gt;alert(&#39;a title&#39;)") >= 2


def test_the_report_names_nobody(page: str, facts: Facts) -> None:
    """Nor does the reject of an interaction, whose detail says whose it was."""
    shown = re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    assert "known" not in shown.replace("unknown_item", "")
    rejected = facts.health.rejects[-1]
    assert (rejected["item_id"], rejected["reason"], rejected["detail"]) == ("i98", "unknown_item", "")
    assert [one.item.item_id for one in facts.lists[0].history] == ["i3", "i0"]
    assert facts.lists[-1].history == [] and facts.lists[-1].entries


def test_the_last_runs_stand_beside_this_one(facts: Facts, page: str) -> None:
    assert [(run.run_id, run.interval.value, run.has_same_data) for run in facts.past] == [
        (FIRST_ID, 0.2, True),
        (SECOND_ID, 0.25, True),
    ]
    assert FIRST_ID in page


def test_a_run_of_an_earlier_release_has_its_page_and_stands_beside_others(config, work_path, tmp_path) -> None:
    """It did not count the interactions that came after a question."""
    older = tmp_path / "work"
    shutil.copytree(work_path, older)
    config = dataclasses.replace(config, work_dir=str(older))
    first, _ = read_runs(older)
    report = first.output("RetrievalEvaluator", "evaluation") / "metrics.json"
    counted = json.loads(report.read_text())
    del counted["targets_after_question"]
    report.write_text(json.dumps(counted))
    assert FIRST_ID in write.write_run(config).read_text(encoding="utf-8")
    page = write.write_run(config, FIRST_ID).read_text(encoding="utf-8")
    assert "are left out" in page and "after the question" not in page
    card = (older / "report" / FIRST_ID / "model_card.md").read_text(encoding="utf-8")
    assert "what was there then." in card


def test_what_the_run_recorded_is_read(facts: Facts) -> None:
    """The held-out error of the content by epoch, absent titles, a reject with its place, the node's account."""
    (curve,) = facts.curves
    assert (curve.trainer, curve.name, curve.epochs) == ("Retrieval", "content validation error", [1, 2, 3])
    assert curve.values == pytest.approx([0.9, 0.5, 0.6])
    assert {column.name: column.missing for column in facts.health.columns} == {"item_id": 0, "title": 3}
    reject = facts.health.rejects[0]
    assert (reject["source"], reject["line"], reject["reason"], reject["detail"]) == ("items.csv", 7, "no_id", HOSTILE)
    node = facts.run.nodes["CatalogGen"]
    assert (node.state, node.processor_seconds, node.peak_memory_bytes) == ("done", 12.5, 3 * 1024**2)
    assert numbers(facts)["test/all/NDCG@10"] == 0.25 and numbers(facts)["index/recall@10"] == 0.97


def test_an_item_is_shown_by_its_picture_or_its_sound(facts: Facts) -> None:
    i3, i0 = facts.lists[0].history
    assert i0.look.picture.startswith("data:image/jpeg;base64,") and not i0.look.loudness
    assert not i3.look.picture and len(i3.look.loudness) == BARS
    assert list(i3.look.loudness) == sorted(i3.look.loudness, reverse=True) and i3.look.loudness[0] == 1


def test_two_runs_side_by_side_show_signed_differences(config: Config) -> None:
    text = write.write_two(config, FIRST_ID, SECOND_ID).read_text(encoding="utf-8")
    assert "+0.0500" in text and "not judged by the same people" not in text
    assert "-0.0500" in write.write_two(config, SECOND_ID, FIRST_ID).read_text(encoding="utf-8")


def test_an_older_run_has_a_file_of_its_own(config: Config, work_path: Path) -> None:
    assert write.write_run(config, "20260301") == work_path / "report" / FIRST_ID / "index.html"


def test_a_run_of_which_little_is_left_has_a_report(config: Config, work_path: Path, tmp_path: Path) -> None:
    """Artifacts may have been removed since: what is left is told."""
    moved = tmp_path / "moved"
    moved.mkdir()
    shutil.copy(work_path / "metadata.sqlite", moved)
    shutil.move(work_path / "artifacts", tmp_path / "aside")
    try:
        text = write.write_run(dataclasses.replace(config, work_dir=str(moved))).read_text(encoding="utf-8")
    finally:
        shutil.move(tmp_path / "aside", work_path / "artifacts")
    assert "RetrievalTrainer" in text and "How good the lists are" not in text


@pytest.mark.parametrize(("run_id", "said"), [("2026", "2 runs have such an id"), ("1999", "0 runs")])
def test_a_run_must_be_named_clearly(config: Config, run_id: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        write.write_run(config, run_id)


def test_nothing_has_run_yet(config: Config, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="nothing has run yet"):
        write.write_run(dataclasses.replace(config, work_dir=str(tmp_path)))


def test_principal_components_find_the_axis_along_which_points_lie() -> None:
    along = np.array([[0, 0, 0], [1, 2, 2], [2, 4, 4], [4, 8, 8]], np.float32)
    points, shares = principal_components(along)
    assert shares[0] == pytest.approx(1) and shares[1] == pytest.approx(0, abs=1e-9)
    ends = points[:, 0] if points[0, 0] < points[-1, 0] else 1 - points[:, 0]
    assert ends == pytest.approx([0, 0.25, 0.5, 1])


def test_a_single_item_is_a_point() -> None:
    points, shares = principal_components(np.ones((1, 3), np.float32))
    assert points.tolist() == [[0, 0]] and shares == (0, 0)


def test_reliability_keeps_every_row_and_the_sums() -> None:
    buckets = [
        {"numWeightedExamples": 10.0, "totalWeightedRefinedPrediction": 0.1 * row, "totalWeightedLabel": float(row % 3)}
        for row in range(50)
    ]
    points = _reliability({"": {"calibrationHistogramBuckets": {"buckets": [*buckets, {"numWeightedExamples": 0.0}]}}})
    assert len(points) == 10 and sum(point.rows for point in points) == 500
    assert sum(point.rows * point.observed for point in points) == pytest.approx(sum(row % 3 for row in range(50)))
    assert sum(point.rows * point.predicted for point in points) == pytest.approx(0.1 * sum(range(50)))


def test_a_dot_lies_within_its_interval_and_within_the_picture() -> None:
    drawn = str(svg.interval_dot(Interval(0.5, 0.4, 0.6), 0.6, is_ours=True))
    left, right, dot = (float(re.search(rf'{name}="([\d.]+)%"', drawn)[1]) for name in ("x1", "x2", "cx"))
    assert 0 < left < dot < right <= 100
