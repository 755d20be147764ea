"""The command line as a newcomer meets it: help, and one clear line for every fault."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import cli
from pipeline.commands.arguments import with_marked_ids

ROOT = Path(__file__).parents[2]
COMMANDS = [command.__name__.rpartition(".")[2] for command in cli.COMMANDS]


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help_with_a_real_example(command: str, capsys) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main([command, "--help"])
    text = capsys.readouterr().out
    assert stopped.value.code == 0
    (example,) = (line for line in " ".join(text.split()).split("Example: ")[1:])
    assert example.startswith(f"./zhiyin {command}")


@pytest.mark.parametrize("command", COMMANDS)
def test_the_example_parses(command: str, capsys) -> None:
    with pytest.raises(SystemExit):
        cli.main([command, "--help"])
    words = " ".join(capsys.readouterr().out.split()).split("Example: ./zhiyin ")[1].replace("'", "").split()
    arguments, _ = cli.parser().parse_known_args(words)
    assert arguments.command == command


def test_help_imports_no_heavy_library() -> None:
    heavy = "{'tensorflow', 'tfx', 'apache_beam', 'numpy', 'pandas', 'grpc'}"
    code = (
        f"import sys; from pipeline import cli; cli.parser().format_help(); print(sorted({heavy} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
        check=True,
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "--config", "nope.yaml"], "cannot read the configuration nope.yaml"),
        (["recommend", "--user", "u", "--k", "0"], "--k: got 0, expected 1 to 10,000"),
        (["similar", "--item", "i", "--k", "20000"], "--k: got 20000, expected 1 to 10,000"),
        (["tags", "--item", "i", "--k", "99999999999"], "--k: got 99999999999, expected 1 to 10,000"),
        (["recommend", "--user", "u", "--at", "99999999999999999999"], "expected a time from 1970 to 9999"),
        (["recommend", "--all-users"], "--all-users needs --output FILE"),
        (["recommend", "--all-users", "--output", "list.xlsx"], "one of the endings .csv, .parquet"),
        (["data", "movielens-100k"], "--source"),
    ],
)
def test_a_fault_in_usage_is_one_line_and_exit_code_2(
    words: list[str], message: str, capsys, monkeypatch, tmp_path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(words) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


@pytest.mark.parametrize(
    "words", [["run"], ["fly"], ["similar", "--itme", "x"], ["data", "moonlens"], ["demo", "--sed", "3"]]
)
def test_argparse_faults_exit_with_2(words: list[str], capsys) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(words)
    assert stopped.value.code == 2
    assert "error:" in capsys.readouterr().err


IDS = ["-1", "-x", "--help", "--", "--k", "@x", "a=b", "=", "", "id:7", "日本", " padded "]


@pytest.mark.parametrize("item_id", IDS)
def test_an_id_is_taken_as_it_was_written(item_id: str) -> None:
    """Whatever argparse would make of it, with a blank or with = after the flag."""
    for words in (["similar", "--item", item_id, "--k", "3"], ["similar", "--k", "3", f"--item={item_id}"]):
        arguments, rest = cli.parser().parse_known_args(with_marked_ids(words))
        assert (arguments.items, arguments.k, rest) == ([item_id], 3, [])


def test_several_ids_follow_one_flag_or_several() -> None:
    words = ["explain", "--user", "u1", "-2", "--item", "i1", "--item", "--i2", "i3", "--top", "4"]
    arguments, rest = cli.parser().parse_known_args(with_marked_ids(words))
    assert (arguments.users, arguments.items, arguments.top, rest) == (["u1", "-2"], ["i1", "--i2", "i3"], 4, [])


def test_a_flag_without_an_id_is_refused(capsys) -> None:
    with pytest.raises(SystemExit):
        cli.main(["similar", "--item"])
    assert "--item: expected one argument" in capsys.readouterr().err


def test_a_reader_that_has_seen_enough_ends_the_command_without_a_word() -> None:
    """`./zhiyin ... | head -0`."""
    code = "import sys; from pipeline import cli; sys.exit(cli.exit_code_of(lambda: print('x' * 100_000) or 0))"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT, text=True
    ) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 128 + signal.SIGPIPE


def test_a_terminal_that_lacks_a_character_gets_an_escape() -> None:
    code = "from pipeline import cli; cli.print_any_character(); print('caf\u00e9 \u65e5')"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, cwd=ROOT, env={"PYTHONIOENCODING": "latin-1"}, check=True
    )
    assert done.stdout == b"caf\xe9 \\u65e5\n"


def test_missing_tables_are_named_before_anything_runs(settings, write, capsys, monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["run", "--config", str(write(settings))]) == 2
    assert "data.catalogue.path: no file matches" in capsys.readouterr().err


def test_nothing_to_serve_and_nothing_to_ask_are_said(settings, write, capsys, monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    config = str(write(settings))
    for words in (
        ["serve", "--config", config],
        ["recommend", "--user", "u", "--config", config],
        ["similar", "--item", "i", "--config", config],
    ):
        assert cli.main(words) == 2
        assert "run" in capsys.readouterr().err
