"""Every command that the documentation shows is one that the command line takes."""

import re
import shlex
from pathlib import Path

import pytest

from benchmarks.__main__ import names as benchmark_names
from benchmarks.__main__ import parser as benchmark_parser
from pipeline import cli

ROOT = Path(__file__).parents[2]
PAGES = [
    *ROOT.glob("*.md"),
    *ROOT.glob("docs/**/*.md"),
    *ROOT.glob("configs/*.yaml"),
    *ROOT.glob("benchmarks/*.md"),
]
IN_BACKTICKS = re.compile(r"`\./zhiyin ([^`]+)`")
ON_A_LINE = re.compile(r"^\s{4,}\./zhiyin (.+?)(?:\s+#.*)?$", re.MULTILINE)
FREE_ARGUMENTS = ("serve", "test")  # hand what they do not know to the model server and to pytest


def documented() -> list[tuple[str, str]]:
    """(page, what follows ./zhiyin) of each command, continuation lines joined."""
    found = set()
    for page in PAGES:
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        for pattern in (IN_BACKTICKS, ON_A_LINE):
            found |= {(page.relative_to(ROOT).as_posix(), words.strip()) for words in pattern.findall(text)}
    return sorted(found)


@pytest.mark.parametrize(("page", "words"), documented())
def test_a_documented_command_is_parsed(page: str, words: str, capsys) -> None:
    arguments = shlex.split(words)
    if arguments[0].isupper():
        return  # stands for any command
    try:
        if arguments[0] == "bench":
            parsed = benchmark_parser().parse_args(arguments[1:])
            assert parsed.table or parsed.name in (*benchmark_names(), "NAME"), f"{page}: no such benchmark"
        else:
            parsed, rest = cli.parser().parse_known_args(arguments)
            assert not rest or parsed.command in FREE_ARGUMENTS, f"{page}: {rest} is not taken"
    except SystemExit as stopped:
        error = capsys.readouterr().err
        needs_more = "the following arguments are required" in error or "is required" in error
        assert stopped.code == 0 or (needs_more and len(arguments) == 1), f"{page}: ./zhiyin {words}\n{error}"


@pytest.mark.parametrize(("page", "words"), [(page, words) for page, words in documented() if "configs/" in words])
def test_a_documented_configuration_is_there(page: str, words: str) -> None:
    for path in re.findall(r"configs/[\w.]+\.yaml", words):
        assert (ROOT / path).is_file(), f"{page} names {path}"


def test_the_readme_shows_every_command() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8") + (ROOT / "docs" / "commands.md").read_text(
        encoding="utf-8"
    )
    shown = set(re.findall(r"\./zhiyin (\w+)", text))
    (commands,) = [action.choices for action in cli.parser()._actions if action.dest == "command"]
    assert set(commands) | {"bench"} <= shown, sorted(set(commands) - shown)


def test_the_links_of_the_documentation_lead_somewhere() -> None:
    broken = []
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/**/*.md")]:
        text = page.read_text(encoding="utf-8")
        links = re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", text)
        broken += [(page.name, link) for link in links if not (page.parent / link).exists()]
    assert not broken


def test_the_files_that_the_documentation_names_are_there() -> None:
    """A path in backticks that begins with a room is a file, a folder or a module's member."""
    missing = []
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]:
        if page.name == "CHANGELOG.md":
            continue
        for name in re.findall(
            r"`((?:components|trainer|serving|pipeline|tests|docs|configs|benchmarks)/[\w./-]*)`",
            page.read_text(encoding="utf-8"),
        ):
            if not (ROOT / name).exists():
                missing.append((page.name, name))
    assert not missing
