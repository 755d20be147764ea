"""Writes the report of a run as one HTML file that needs nothing else."""

from __future__ import annotations

import math
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2

from pipeline.report import svg
from pipeline.report.compare import Comparison, interval_rows
from pipeline.report.facts import Facts
from pipeline.report.quality import Slice

SHOWN_METRICS = ("NDCG@10", "R@20", "HR@10", "coverage@10", "gini@10")
COLOURS = 8  # of domains; further ones share the last

_templates = jinja2.Environment(
    loader=jinja2.PackageLoader("pipeline.report"),
    autoescape=jinja2.select_autoescape(["html"]),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def write_report(facts: Facts, path: Path, neighbours: Path | None = None) -> Path:
    """Write the report of a run to a file, whole or not at all; returns the file.

    neighbours: the page beside it (`pipeline.report.neighbours`), if any.
    """
    return write_template("report.html", path, facts=facts, neighbours=neighbours, **_views(facts))


def write_comparison(comparison: Comparison, path: Path) -> Path:
    """Write two runs side by side to a file, whole or not at all; returns the file."""
    rows = interval_rows(comparison)
    top = max((each.highest for each in rows), default=1.0)
    return write_template("comparison.html", path, comparison=comparison, rows=rows, top=top)


def number(value: float | None) -> str:
    """Four significant digits, whole from ten thousand on; a dash for what there is not."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:,.0f}" if abs(value) >= 10_000 or value == int(value) else f"{value:.4g}"


def _views(facts: Facts) -> dict[str, Any]:
    """What the template shows and a fact does not say as it is."""
    nodes = list(facts.run.nodes.values())
    start = min((node.started_s for node in nodes), default=0.0)
    domains = sorted({item.domain for item in facts.item_map.items}) if facts.item_map else []
    return {
        "metrics": SHOWN_METRICS,
        "colour_of": {domain: f"d{min(place, COLOURS - 1)}" for place, domain in enumerate(domains)},
        "start_s": start,
        "whole_s": max(facts.run.seconds, 1e-3),
        "past_top": max((_highest(run.interval) for run in facts.past), default=1.0),
    }


def top_of(part: Slice, metric: str) -> float:
    """The right end of the scale on which a slice's methods are drawn."""
    found = [methods[metric] for methods in part.methods.values() if metric in methods]
    return max((_highest(interval) for interval in found), default=1.0)


def _highest(interval: Any) -> float:
    return interval.value if interval.high is None else interval.high


def write_template(template: str, path: Path, **values: Any) -> Path:
    """Write what a template says to a file, whole or not at all; returns the file."""
    text = _templates.get_template(template).render(svg=svg, **values)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
    return path


def _cell(text: str) -> str:
    """Text of the data within a line of Markdown, where it must neither end a cell nor be markup."""
    escaped = "".join(f"\\{c}" if c in "\\|`*[]<>" else c for c in str(text))
    return " ".join(escaped.split())


def _clock(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).strftime("%H:%M:%S")


_templates.filters |= {"num": number, "clock": _clock, "cell": _cell}
_templates.globals |= {"top_of": top_of}
