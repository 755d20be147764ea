"""Measures tests in processor seconds, those of their child processes too, and picks the files that fit a budget of
them.

Wall time on a busy machine tells little. The record beside this file holds what each test file took when all tests were
last measured on a quiet one (`./zhiyin test --record`), without its tests that are marked slow, e2e, browser or gpu.
"""

from __future__ import annotations

import json
import resource
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

SHOW, WRITE, BUDGET = "--processor-seconds", "--record-processor-seconds", "--processor-budget"
RECORD = Path(__file__).with_suffix(".json")
MARKED = {"slow", "e2e", "browser", "gpu"}
_STARTED = pytest.StashKey[float]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """What to show, whether to write the record, and how much to run at most."""
    parser.addoption(SHOW, type=int, default=0, metavar="N", help="show the N slowest tests and what folders take")
    parser.addoption(WRITE, action="store_true", help="write what each file takes into the record")
    parser.addoption(BUDGET, type=float, metavar="S", help="run the cheapest files of the record that fit S seconds")


def spent() -> float:
    """Processor seconds of this process and of its children that have ended."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def beyond(record: Mapping[str, float], budget_s: float) -> set[str]:
    """The files of a record that do not fit a budget, the cheapest taken first."""
    left_s, kept = budget_s, set()
    for file, seconds in sorted(record.items(), key=lambda one: one[1]):
        left_s -= seconds
        if left_s >= 0:
            kept.add(file)
    return record.keys() - kept


def read_record() -> dict[str, float]:
    """File -> processor seconds; empty where nothing has been measured yet."""
    return json.loads(RECORD.read_text()) if RECORD.is_file() else {}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the files beyond the budget; a file that the record does not know is run."""
    if (budget_s := config.getoption(BUDGET)) is None:
        return
    out = beyond(read_record(), budget_s)
    config.hook.pytest_deselected(items=[item for item in items if _file(item.nodeid) in out])
    items[:] = [item for item in items if _file(item.nodeid) not in out]


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
        files = _sums((_file(name), seconds) for name, seconds, marked in measured if not marked)
        record = {**read_record(), **{name: round(seconds, 1) for name, seconds in files.items()}}
        present = {name: record[name] for name in sorted(record) if (config.rootpath / name).is_file()}
        RECORD.write_text(json.dumps(present, indent=0) + "\n")
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
