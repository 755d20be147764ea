"""`test` runs all tests or says what it leaves out."""

from __future__ import annotations

import subprocess

import pytest

from pipeline import cli
from pipeline.commands import test as command


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
    assert "-m" not in words[3:] and words[-3:] == ["tests/serving", "-k", "rounding"]
    assert "left out" not in capsys.readouterr().out


def test_the_quick_run_says_what_it_leaves_out(started, capsys):
    cli.main(["test", "--quick"])
    ((words, _),) = started
    assert words[words.index("-m", 3) + 1] == "not slow and not e2e and not browser and not gpu"
    told = capsys.readouterr().out
    assert all(marker in told for marker in ("slow", "e2e", "browser", "gpu"))


def test_coverage_is_measured_where_it_is_asked_for(started):
    cli.main(["test"])
    cli.main(["test", "--coverage"])
    without, measured = ([word for word in words if word.startswith("--cov=")] for words, _ in started)
    assert without == [] and measured == ["--cov=components", "--cov=trainer", "--cov=serving", "--cov=pipeline"]


def test_a_number_of_threads_that_is_given_stays():
    assert command.environment({"OMP_NUM_THREADS": "4"}) == {"OMP_NUM_THREADS": "4", "TF_NUM_INTRAOP_THREADS": "1"}
