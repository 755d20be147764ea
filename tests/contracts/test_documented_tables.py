"""The tables of the documentation say what the code has: nodes, flags, metrics, reasons of rejects."""

import re
from dataclasses import MISSING, fields

import pytest
from prometheus_client import generate_latest

from components.config import DataConfig
from pipeline import cli, dags
from pipeline import config as configuration
from serving.gateway.metrics import Metrics
from tests.documented import ROOT, names, table

SOURCES = [path for room in ("components", "pipeline") for path in (ROOT / room).rglob("*.py")]


def test_the_documented_nodes_are_those_of_a_run() -> None:
    documented = {name for cells in table("architecture.md", "node") for name in re.findall(r"\b[A-Z]\w+", cells[0])}
    paths = dags.RunPaths(**{field.name: "x" for field in fields(dags.RunPaths) if field.default is MISSING})
    built = {
        node.id
        for path in (ROOT / "configs").glob("*.yaml")
        for node in dags.train(configuration.load(path), paths)
        if not node.id.startswith("Last")  # they look up what an earlier run made
    }
    assert built <= documented, "nodes that docs/architecture.md does not name"
    optional = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "pipeline" / "nodes").glob("*.py"))
    unknown = [name for name in documented - built if name not in optional and name != "UserGen"]
    assert not unknown, "nodes that only docs/architecture.md has"


def test_the_flags_of_up_are_flags(capsys) -> None:
    with pytest.raises(SystemExit):
        cli.parser().parse_args(["up", "--help"])
    offered = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    documented = {flag for cells in table("service.md", "flag of `up`") for flag in re.findall(r"--[a-z-]+", cells[0])}
    assert documented <= offered


def test_the_metrics_of_the_gateway_are_those_of_the_table() -> None:
    exported = set(re.findall(r"^# HELP (\w+)", generate_latest(Metrics().registry).decode(), re.MULTILINE))
    documented = {name for cells in table("service.md", "metric") for name in re.findall(r"zhiyin_\w+", cells[0])}
    assert documented == {name for name in exported if not name.endswith("_created")}


@pytest.mark.parametrize("page", ["tables.md", "media.md"])
def test_a_documented_reason_of_a_reject_is_in_the_code(page: str) -> None:
    code = "\n".join(path.read_text(encoding="utf-8") for path in SOURCES)
    reasons = {name for cells in table(page, "reason") for name in names(cells[0])}
    assert reasons and not [reason for reason in reasons if f'"{reason}"' not in code]


def test_every_setting_of_the_data_that_the_pages_name_exists() -> None:
    known = {field.name for field in fields(DataConfig)}
    pages = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.md"))
    assert set(re.findall(r"`data\.([a-z_]+)`", pages)) <= known
