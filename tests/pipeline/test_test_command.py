"""`test` runs all tests or says what it leaves out."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import cli
from pipeline.commands import test as command
from tests import processor_seconds
from tests.processor_seconds import Taken, beyond, place


@pytest.fixture
def started(monkeypatch):
    """The command lines and environments that were run."""
    runs = []

    def run(command, **options):
        runs.append((command, options["env"]))
        return subprocess.CompletedProcess(command, 5)

    monkeypatch.setattr(subprocess, "run", run)
    return runs


def test_all_tests_run_unless_the_quick_ones_are_asked_for(started, capsys):
    assert cli.main(["test", "tests/serving", "-k", "rounding"]) == 5
    ((words, _),) = started
    assert not {"-m", "--record-processor-seconds"} & set(words[3:]) and words[-3:] == [
        "tests/serving",
        "-k",
        "rounding",
    ]
    assert "left out" not in capsys.readouterr().out


def test_the_quick_run_says_what_it_leaves_out(started, capsys):
    cli.main(["test", "--quick"])
    ((words, _),) = started
    assert words[words.index("-m", 3) + 1] == "not slow and not e2e and not browser and not gpu"
    told = capsys.readouterr().out
    assert all(marker in told for marker in ("slow", "e2e", "browser", "gpu"))


def test_what_files_take_is_written_down_where_that_is_asked_for(started):
    cli.main(["test", "--record"])
    ((words, _),) = started
    assert "--record-processor-seconds" in words and "-m" not in words[3:]


def test_the_cheapest_files_that_fit_a_budget_are_kept():
    quick = {"dear": 9.0, "cheap": 1.0, "middle": 3.0, "other": 3.0}
    record = {name: Taken(10.0, seconds) for name, seconds in quick.items()}
    assert beyond(record, 7.0) == {"dear"}
    assert beyond(record, 6.9) == {"dear", "other"}
    assert beyond(record, 0.5) == set(record)
    assert beyond({}, 0.0) == set()


def test_what_takes_longest_comes_first_and_before_it_what_was_never_measured():
    record = {"cheap": Taken(1.0, 1.0), "dear": Taken(9.0, 0.0)}
    files = ["cheap", "new", "dear", "new and slow"]
    order = sorted(files, key=lambda file: place(file, record, {"new and slow", "cheap"}))
    assert order == ["new and slow", "new", "dear", "cheap"]


def test_a_run_under_a_budget_leaves_files_out_and_says_which(tmp_path):
    """A suite of three files, measured and then run again with less than all of them need."""
    for name, seconds in (("cheap", 0), ("dear", 1), ("new", 0)):
        loop = f"end = time.process_time() + {seconds}\n    while time.process_time() < end:\n        pass"
        (tmp_path / f"test_{name}.py").write_text(f"import time\n\ndef test_{name}():\n    {loop}\n")
    (tmp_path / "processor_seconds.py").write_text(Path(processor_seconds.__file__).read_text())

    def pytest_says(*flags: str) -> str:
        command = [sys.executable, "-m", "pytest", "-p", "processor_seconds", "-p", "no:cacheprovider", *flags]
        environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    pytest_says("--record-processor-seconds", "test_cheap.py", "test_dear.py")
    told = pytest_says("--processor-budget=0.9", "--processor-seconds=5")
    assert "2 passed, 1 deselected" in told and "1 files do not fit 1 processor seconds: test_dear.py" in told
    assert "test_new.py::test_new" in told and told.index("test_new.py") < told.index("test_cheap.py")


def test_coverage_is_measured_where_it_is_asked_for(started):
    cli.main(["test"])
    cli.main(["test", "--coverage"])
    without, measured = ([word for word in words if word.startswith("--cov=")] for words, _ in started)
    assert without == [] and measured == ["--cov=components", "--cov=trainer", "--cov=serving", "--cov=pipeline"]


def test_a_number_of_threads_that_is_given_stays():
    assert command.environment({"OMP_NUM_THREADS": "4"}) == {"OMP_NUM_THREADS": "4", "TF_NUM_INTRAOP_THREADS": "1"}
