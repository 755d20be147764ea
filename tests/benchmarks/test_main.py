"""The command line of the benchmarks."""

import importlib
import inspect
import json
import types

import pytest

from benchmarks import __main__ as command
from benchmarks.__main__ import main, names, parser
from benchmarks.goals import row_of


def test_an_unknown_benchmark_is_one_line_and_exit_code_2(capsys):
    assert main(["nope"]) == 2
    error = capsys.readouterr().err
    assert "benchmark: got 'nope', expected one of" in error and error.count("\n") == 1


def test_the_help_names_every_benchmark_and_its_example_parses():
    text = parser().format_help()
    assert all(name in text for name in names())
    example = text.split("Example: ./zhiyin bench ")[1].split()
    assert parser().parse_args(example).name in names()


@pytest.mark.parametrize("name", names())
def test_a_benchmark_takes_cases_by_that_name_or_says_that_it_has_none(name, capsys):
    taken = [*inspect.signature(importlib.import_module(f"benchmarks.{name}").run).parameters]
    if "cases" in taken:
        assert taken[1] == "cases"
        assert main([name, "--case", "no such case"]) == 2
        error = capsys.readouterr().err
        assert error.startswith(("zhiyin: --case: got", "zhiyin: --data-dir:")) and error.count("\n") == 1
        return
    assert not {*taken} - {"data_dir", *command.WANTED}
    assert main([name, "--case", "one"]) == 2
    error = capsys.readouterr().err
    assert f"--case: {name} has no cases that can be run alone" in error and error.count("\n") == 1


def test_a_result_has_the_commit_at_which_it_was_begun(tmp_path, monkeypatch):
    """While it runs somebody commits."""
    head = ["aaaaaaa"]

    def run(data_dir):
        head[0] = "bbbbbbb"
        return [row_of("one", "ours", "seconds", 1.0)]

    monkeypatch.setattr(command, "commit", lambda: head[0])
    monkeypatch.setattr(command, "names", lambda: ["made"])
    monkeypatch.setattr(command, "ROOT", tmp_path)
    monkeypatch.setattr(command, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(importlib, "import_module", lambda name: types.SimpleNamespace(run=run, GOALS=[]))
    assert main(["made"]) == 0
    assert json.loads((tmp_path / "results" / "made.json").read_text())["commit"] == "aaaaaaa"
