"""Writes the report of a run, or of two side by side, into the work folder."""

from __future__ import annotations

from pathlib import Path

from pipeline.report.compare import Comparison
from pipeline.report.facts import read_facts
from pipeline.report.page import write_comparison, write_report
from pipeline.run_history import find_run, read_runs

FOLDER = "report"  # in the work folder
PAGE = "index.html"


def write_run(name: str, work_path: Path, run_id: str = "") -> Path:
    """The report of a run: of the newest as report/index.html, of an older one in a folder of its own.

    name: of the pipeline. run_id: or its beginning; the newest run where empty.
    Returns the file. Raises SettingsError where there is no such run.
    """
    runs = read_runs(work_path)
    run = find_run(runs, run_id)
    folder = work_path / FOLDER if run is runs[-1] else work_path / FOLDER / run.run_id
    return write_report(read_facts(name, run, runs), folder / PAGE)


def write_two(name: str, work_path: Path, first_id: str, second_id: str) -> Path:
    """Two runs side by side; arguments and errors as of `write_run`."""
    runs = read_runs(work_path)
    first, second = find_run(runs, first_id), find_run(runs, second_id)
    comparison = Comparison(read_facts(name, first, runs), read_facts(name, second, runs))
    return write_comparison(comparison, work_path / FOLDER / f"{first.run_id}_{second.run_id}" / PAGE)
