"""Writes the report of a run, or of two side by side, into the work folder."""

from __future__ import annotations

from pathlib import Path

from pipeline.config import Config
from pipeline.drift.record import write_drift
from pipeline.report.compare import Comparison
from pipeline.report.facts import FOLDER, Facts, read_facts
from pipeline.report.model_card import write_model_card
from pipeline.report.neighbours import write_neighbours
from pipeline.report.page import write_comparison, write_report
from pipeline.run_history import RunRecord, find_run, read_runs

PAGE, CARD = "index.html", "model_card.md"


def write_newest(config: Config) -> tuple[Facts, Path]:
    """The report of the newest run; returns its facts and the file.

    Its drift goes beside it, for programs. Raises SettingsError where nothing has run yet."""
    runs = read_runs(config.work_path)
    facts, path = _write_run(config, find_run(runs, ""), runs)
    write_drift(facts.drift, facts.run.run_id, path.parent)
    return facts, path


def write_run(config: Config, run_id: str = "") -> Path:
    """The report of a run: of the newest as report/index.html, of an older one in a folder of its own.

    Beside it, its model card where the run trained, and where there are media a page of neighbours to listen to.
    run_id: or its beginning; the newest where empty.
    Returns the file. Raises SettingsError where there is no such run.
    """
    runs = read_runs(config.work_path)
    return _write_run(config, find_run(runs, run_id), runs)[1]


def write_two(config: Config, first_id: str, second_id: str) -> Path:
    """Two runs side by side; arguments and errors as of `write_run`."""
    runs = read_runs(config.work_path)
    first, second = (read_facts(config, find_run(runs, run_id), runs) for run_id in (first_id, second_id))
    folder = config.work_path / FOLDER / f"{first.run.run_id}_{second.run.run_id}"
    return write_comparison(Comparison(first, second), folder / PAGE)


def _write_run(config: Config, run: RunRecord, runs: list[RunRecord]) -> tuple[Facts, Path]:
    folder = config.work_path / FOLDER if run is runs[-1] else config.work_path / FOLDER / run.run_id
    facts = read_facts(config, run, runs)
    if "RetrievalTrainer" in run.nodes:
        write_model_card(facts, folder / CARD)
    neighbours = write_neighbours(run, config.data, folder)
    return facts, write_report(facts, folder / PAGE, neighbours)
