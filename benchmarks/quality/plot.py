"""The results as one picture: a panel for each case, a line for each contender, our goal as a dashed line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

OURS_COLOUR, PEER_COLOUR, GOAL_COLOUR = "#c0392b", "#4a5a6a", "#c0392b"
PANEL_INCHES, LINE_INCHES = 4.2, 0.22


def draw(rows: Sequence[dict[str, Any]], goals: Sequence[dict[str, Any]], path: Path) -> None:
    """Write an SVG of each case's first metric, with 95 % intervals."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    cases = list(dict.fromkeys(row["case"] for row in rows))
    panels = [_lines(case, rows) for case in cases]
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "quality", "font.size": 8}):
        heights = [LINE_INCHES * len(lines) + 0.7 for _, lines in panels]
        figure = Figure(figsize=(PANEL_INCHES + 1.8, sum(heights)), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.subplots(len(cases), 1, squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
        for axis, case, (metric, lines) in zip(axes, cases, panels):
            for place, row in enumerate(lines):
                colour = OURS_COLOUR if row["contender"] == "ours" else PEER_COLOUR
                axis.plot([row["low"], row["high"]], [place, place], color=colour, linewidth=1.2)
                axis.plot(row["value"], place, "o", color=colour, markersize=4)
            axis.set_yticks(range(len(lines)), [row["contender"] for row in lines])
            axis.set_ylim(-0.6, len(lines) - 0.4)
            axis.set_title(f"{case}: {metric}", loc="left", fontsize=8)
            axis.spines[["top", "right"]].set_visible(False)
            for goal in goals:
                if (goal["case"], goal["metric"]) == (case, metric) and "of" not in goal:
                    axis.axvline(goal["at_least"], color=GOAL_COLOUR, linestyle="--", linewidth=0.8)
        figure.savefig(path, format="svg", metadata={"Date": None})


def _lines(case: str, rows: Sequence[dict[str, Any]]) -> tuple[str, list[dict[str, Any]]]:
    """The first metric of a case, and its row of each contender, the best last."""
    own = [
        row
        for row in rows
        if row["case"] == case and not row["contender"].startswith("best peer") and row["low"] is not None
    ]
    metric = own[0]["metric"]
    return metric, sorted((row for row in own if row["metric"] == metric), key=lambda row: row["value"])
