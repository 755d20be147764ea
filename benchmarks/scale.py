"""How the cost of the whole line grows with events and with items: each node of `zhiyin run` on made ratings in
MovieLens-20M's proportions.

A case is a number of events, "1M", over MovieLens' 26,744 items, or over others, "1M x 100k". A catalogue with titles,
creators and tags, no media; settings are the defaults, so the model is trained, judged, refitted, ranked, validated and
pushed as anybody's. Costs of nodes are those that the run records itself; the peak of all its processes is sampled
here, a shared page counted once. `--data-dir` is a folder to work in (.zhiyin/bench/scale by default): a run that was
killed goes on there, and a case that was measured at this commit is not run again unless `--case` names it. Cost on two
quiet cores: about 4 minutes for 100,000 events; docs/scale.md says what larger ones take.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.goals import row_of
from benchmarks.scale_memory import Watched, watched
from benchmarks.scale_tables import MOVIELENS_ITEMS, make
from benchmarks.stored import commit
from components.interpreter import ROOT, module_command, module_environment
from components.settings import SettingsError
from pipeline.run_history import NodeRecord, RunRecord, read_runs

WORK = ROOT / ".zhiyin" / "bench" / "scale"
WHOLE = "the run"  # all nodes together
EVENTS, ITEMS = ("100k", "1M", "10M", "20M"), ("1M x 10k", "1M", "1M x 100k", "1M x 1M")
CASES = tuple(dict.fromkeys((*EVENTS, *ITEMS)))
COSTS = ("seconds", "cpu_seconds", "peak_mb", "mb_written")
UNITS = {"": 1, "k": 1_000, "M": 1_000_000}
GOALS: list[dict[str, Any]] = [
    {"case": "20M", "metric": "seconds", "at_most": 1800},
    {"case": "20M", "metric": "peak_mb", "at_most": 8000},
]
SETTINGS = {
    "name": "scale",
    "data": {"event_rules": {"rating": {"weight": 2.0, "positive_from": 4.0}}},
    "evaluation": {"min_gain_over_popularity": 0.0, "max_loss_to_last": 1.0},
}
_ALONE_S = 5.0  # a watch that is silent for so long did not get to run, nor did the run
_LINES = 9  # of the picture
_NEAR = 20  # a case so many times smaller than another is not far below it


def run(data_dir: Path | None = None, cases: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Rows of each case, contender "ours" for the whole run, else a node's name; then of the exponents.

    Raises SettingsError for what is no case, RuntimeError where a run fails or pushes no model.
    """
    work = (data_dir or WORK).absolute()
    sizes = {case: sizes_of(case) for case in cases or CASES}
    measured = {case: _kept(work / f"{case.replace(' ', '')}.json", bool(cases), case) for case in sizes}
    rows = [row for found in measured.values() for row in found]
    return rows + [row for axis in (EVENTS, ITEMS) for row in exponents(axis, rows)]


def sizes_of(case: str) -> tuple[int, int]:
    """The numbers of events and of items. Raises SettingsError."""
    found = re.fullmatch(r"(\d+)([kM]?)(?: x (\d+)([kM]?))?", case)
    if not found:
        raise SettingsError(f"--case: got {case!r}, expected events, or events x items, as in {', '.join(CASES)}")
    events, unit, items, unit_of_items = found.groups(default="")
    return int(events) * UNITS[unit], int(items) * UNITS[unit_of_items] if items else MOVIELENS_ITEMS


def _kept(path: Path, anew: bool, case: str) -> list[dict[str, Any]]:
    """A case's rows, from the file where they were measured at this commit."""
    if path.is_file() and not anew:
        stored = json.loads(path.read_text("utf-8"))
        if stored["commit"] == commit():
            return stored["rows"]
    rows = measure(case, path.with_suffix(""))
    path.write_text(json.dumps({"commit": commit(), "rows": rows}), "utf-8")
    return rows


def measure(case: str, folder: Path) -> list[dict[str, Any]]:
    """Make the tables, run the line on them in a process of its own, and take its record; the folder is removed.

    Raises RuntimeError where the run fails or pushes no model.
    """
    config = write_config(folder, *sizes_of(case))
    command = module_command("pipeline.cli", "run", "--config", str(config))
    with (folder / "log").open("w", encoding="utf-8") as log:
        started = time.time()
        process = subprocess.Popen(command, env=module_environment(), stdout=log, stderr=log)
        seen = watched(process, _ALONE_S)
    runs = read_runs(folder / "run")
    if process.returncode or not runs or not runs[-1].version:
        raise RuntimeError(f"{case}: the run pushed no model: {(folder / 'log').read_text('utf-8')[-2000:]}")
    rows = [*rows_of(case, nodes_of(runs), seen, time.time() - started)]
    shutil.rmtree(folder)
    return rows


def write_config(folder: Path, num_events: int, num_items: int) -> Path:
    """The made tables and a configuration over them, left as they are where they stand already."""
    path = folder / "config.yaml"
    if not path.is_file():
        catalogue, events = make(folder, num_events, num_items)
        tables = {"catalogue": {"path": str(catalogue)}, "events": {"path": str(events)}}
        settings = {**SETTINGS, "work_dir": str(folder / "run"), "data": SETTINGS["data"] | tables}  # type: ignore[operator]
        path.write_text(yaml.safe_dump(settings), "utf-8")
    return path


def nodes_of(runs: Sequence[RunRecord]) -> Mapping[str, NodeRecord]:
    """Each node where it really ran, the last time: one that a killed run finished is cached in the next."""
    return {name: node for run in runs for name, node in run.nodes.items() if node.state == "done"}


def rows_of(case: str, nodes: Mapping[str, NodeRecord], seen: Watched, seconds: float) -> Iterator[dict[str, Any]]:
    """The costs of the whole run and of each node; those of a first attempt are in the sums of a resumed one."""
    costs = {name: _costs(node, seen) for name, node in nodes.items()}
    whole = {metric: sum(each[metric] for each in costs.values()) for metric in ("cpu_seconds", "mb_written")}
    whole |= {"seconds": seconds - seen.lost_s(), "peak_mb": seen.peak_mb}
    for name, values in {"ours": whole, **costs}.items():
        for metric in COSTS:
            yield row_of(case, name, metric, values[metric])


def _costs(node: NodeRecord, seen: Watched) -> dict[str, float]:
    written = sum(
        file.stat().st_size for folder in node.outputs.values() for file in folder.rglob("*") if file.is_file()
    )
    return {
        "seconds": node.seconds - seen.lost_s(node.started_s, node.started_s + node.seconds),
        "cpu_seconds": node.processor_seconds or 0.0,
        "peak_mb": (node.peak_memory_bytes or 0) / 1e6,
        "mb_written": written / 1e6,
    }


def exponents(axis: Sequence[str], rows: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Of each node's processor seconds and peak memory the exponent from the smallest case of an axis that is not far
    below the largest one up to that.

    Cost is a fixed part and one that grows; at the largest sizes the second one counts.
    """
    size = {case: sizes_of(case)[axis is ITEMS] for case in axis}
    by_node: dict[tuple[str, str], dict[int, float]] = {}
    for row in rows:
        if row["case"] in size and row["metric"] in ("cpu_seconds", "peak_mb"):
            by_node.setdefault((row["contender"], row["metric"]), {})[size[row["case"]]] = row["value"]
    name = "growth with items" if axis is ITEMS else "growth with events"
    for (contender, metric), values in by_node.items():
        large = max(values)
        small = min(each for each in values if each * _NEAR >= large)
        if small < large and min(values[small], values[large]) > 0:
            power = math.log(values[large] / values[small]) / math.log(large / small)
            yield row_of(name, contender, f"{metric}_exponent", power)


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Write an SVG of the costliest nodes' processor seconds by events, and of the whole run's."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    lines: dict[str, list[tuple[int, float]]] = {}
    for row in rows:
        if row["case"] in EVENTS and row["metric"] == "cpu_seconds":
            lines.setdefault(row["contender"], []).append((sizes_of(row["case"])[0], row["value"]))
    costliest = sorted(lines, key=lambda name: -max(lines[name])[1])[:_LINES]
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "scale", "font.size": 8}):
        figure = Figure(figsize=(7.0, 4.2), layout="constrained")
        FigureCanvasSVG(figure)
        figure.patch.set_facecolor("white")
        axis = figure.subplots()
        for number, name in enumerate(costliest):
            events, seconds = np.array(sorted(lines[name])).T
            colour, label = ("black", WHOLE) if name == "ours" else (mpl.colormaps["tab10"](number), name)
            axis.loglog(events, seconds, "o-", color=colour, label=label, markersize=4, linewidth=1.2)
        axis.set_xlabel("events")
        axis.set_ylabel("processor seconds")
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
        figure.savefig(path, format="svg", metadata={"Date": None})
