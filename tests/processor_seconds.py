"""Measures tests in processor seconds, those of their child processes too, and picks the files that fit a budget of
them.

Wall time on a busy machine tells little. The record beside this file holds what each test file took when all tests were
last measured on a quiet one (`./zhiyin test --record`): with all of its tests, by which files are put in order, and
without those that are marked slow, e2e, browser or gpu, by which `--quick` chooses.
"""

from __future__ import annotations

import json
import math
import resource
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

SHOW, WRITE, BUDGET = "--processor-seconds", "--record-processor-seconds", "--processor-budget"
RECORD = Path(__file__).with_suffix(".json")
MARKED = {"slow", "e2e", "browser", "gpu"}
_STARTED = pytest.StashKey[float]()


class Taken(NamedTuple):
    """Processor seconds of a test file."""

    all: float
    quick: float  # of its tests without a mark of `MARKED`


def pytest_addoption(parser: pytest.Parser) -> None:
    """What to show, whether to write the record, and how much to run at most."""
    parser.addoption(SHOW, type=int, default=0, metavar="N", help="show the N slowest tests and what folders take")
    parser.addoption(WRITE, action="store_true", help="write what each file takes into the record")
    parser.addoption(BUDGET, type=float, metavar="S", help="run the cheapest files of the record that fit S seconds")


def spent() -> float:
    """Processor seconds of this process and of its children that have ended."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def beyond(record: Mapping[str, Taken], budget_s: float) -> set[str]:
    """The files of a record that do not fit a budget, the cheapest taken first."""
    left_s, kept = budget_s, set()
    for file, taken in sorted(record.items(), key=lambda one: one[1].quick):
        left_s -= taken.quick
        if left_s >= 0:
            kept.add(file)
    return record.keys() - kept


def read_record() -> dict[str, Taken]:
    """File -> what it takes; empty where nothing has been measured yet."""
    return {file: Taken(*taken) for file, taken in json.loads(RECORD.read_text()).items()} if RECORD.is_file() else {}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the files beyond the budget, and put those first that take longest: two workers then end at about the
    same time. A file that the record does not know is run, before all others."""
    record = read_record()
    if (budget_s := config.getoption(BUDGET)) is not None:
        out = beyond(record, budget_s)
        config.hook.pytest_deselected(items=[item for item in items if _file(item.nodeid) in out])
        items[:] = [item for item in items if _file(item.nodeid) not in out]
    marked = {_file(item.nodeid) for item in items if any(map(item.get_closest_marker, MARKED))}
    items.sort(key=lambda item: place(_file(item.nodeid), record, marked))


def place(file: str, record: Mapping[str, Taken], marked: Collection[str]) -> tuple[float, bool]:
    """By which files are put in order; marked: files with tests that are marked."""
    return (-record[file].all if file in record else -math.inf, file not in marked)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item):
    """A test's first phase starts here; each further one where the last has ended."""
    item.stash[_STARTED] = spent()
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item):
    """The phase's processor seconds travel with its report, from a worker to the terminal, too."""
    report = yield
    now = spent()
    report.processor_s = now - item.stash[_STARTED]
    item.stash[_STARTED] = now
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The slowest tests and what each folder takes; fixtures count for the test that is the first to need them."""
    config, measured = terminalreporter.config, list(_measured(terminalreporter))
    if config.getoption(WRITE):
        whole = _sums((_file(name), seconds) for name, seconds, _ in measured)
        quick = _sums((_file(name), seconds) for name, seconds, marked in measured if not marked)
        files = {name: Taken(round(seconds, 1), round(quick.get(name, 0.0), 1)) for name, seconds in whole.items()}
        record = {**read_record(), **files}
        lines = [
            f"{json.dumps(name)}: {json.dumps(record[name])}"
            for name in sorted(record)
            if (config.rootpath / name).is_file()
        ]
        RECORD.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    if shown := config.getoption(SHOW):
        folders = _sums((_file(name).rpartition("/")[0], seconds) for name, seconds, _ in measured)
        tests = _sums((name, seconds) for name, seconds, _ in measured)
        for title, sums in (("folders", folders), (f"the slowest {shown}", dict(list(tests.items())[:shown]))):
            terminalreporter.section(f"processor seconds: {title}")
            for name, seconds in sums.items():
                terminalreporter.line(f"{seconds:8.1f}  {name}")
    if (budget_s := config.getoption(BUDGET)) is not None and (out := beyond(read_record(), budget_s)):
        terminalreporter.line(f"{len(out)} files do not fit {budget_s:.0f} processor seconds: {', '.join(sorted(out))}")


def _measured(terminalreporter: pytest.TerminalReporter) -> Iterator[tuple[str, float, bool]]:
    """Test, processor seconds of one of its phases, and whether it is marked."""
    for reports in terminalreporter.stats.values():
        for report in reports:
            if hasattr(report, "processor_s"):
                yield report.nodeid, report.processor_s, bool(MARKED & report.keywords.keys())


def _sums(pairs: Iterator[tuple[str, float]]) -> dict[str, float]:
    """The seconds of each name together, the largest first."""
    sums: dict[str, float] = defaultdict(float)
    for name, seconds in pairs:
        sums[name] += seconds
    return dict(sorted(sums.items(), key=lambda one: -one[1]))


def _file(nodeid: str) -> str:
    return nodeid.partition("::")[0]
