"""Measures each test in processor seconds, those of its child processes too: what wall time on a busy machine does not tell."""

from __future__ import annotations

import resource
from collections import defaultdict

import pytest

OPTION = "--processor-seconds"
_STARTED = pytest.StashKey[float]()


def spent() -> float:
    """Processor seconds of this process and of its children that have ended."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


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


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--processor-seconds=20` shows the twenty slowest tests."""
    parser.addoption(OPTION, type=int, default=0, metavar="N", help="show the N slowest tests and what folders take")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The slowest tests and what each folder takes; fixtures count for the test that is the first to need them."""
    shown = terminalreporter.config.getoption(OPTION)
    if not shown:
        return
    tests: dict[str, float] = defaultdict(float)
    folders: dict[str, float] = defaultdict(float)
    for reports in terminalreporter.stats.values():
        for report in reports:
            if seconds := getattr(report, "processor_s", 0.0):
                tests[report.nodeid] += seconds
                folders[report.nodeid.partition("::")[0].rpartition("/")[0]] += seconds
    terminalreporter.section(f"processor seconds: {sum(tests.values()):.0f}")
    for name, seconds in sorted(folders.items(), key=lambda one: -one[1]):
        terminalreporter.line(f"{seconds:8.1f}  {name}")
    terminalreporter.section(f"slowest {shown} in processor seconds")
    for name, seconds in sorted(tests.items(), key=lambda one: -one[1])[:shown]:
        terminalreporter.line(f"{seconds:8.1f}  {name}")
