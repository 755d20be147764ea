"""The neural peers trained until their own validation stops rising, however long that takes, beside ours as `quality`
has it.

Settings are those that validation chose under the budget of `quality`. A peer is looked at after each epoch, later
after each 4 % more of training, and stops after twelve looks without a better one; three seeds are then trained for the
epochs that were best, and the test is touched. A fit that has finished is kept: a run that was killed goes on with the
next. Cost on one core: hours a case, most of them MovieLens-1M's. The data: see `quality.loaders.WHAT_TO_GET`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.goals import check_cases, row_of
from benchmarks.quality import bench
from benchmarks.quality.neural import GENERAL, SEQUENTIAL, to_the_end
from benchmarks.quality.splits import Split
from benchmarks.quality.stored import rows_of_ours, settings_of_peers

METRIC = {"LFM": "R@20", "ML100K-R": "NDCG@10", "ML100K-S": "NDCG@10", "ML100K-T": "NDCG@10", "ML1M-U": "R@20"}
CASES = tuple(METRIC)
IN_ORDER = ("ML100K-T",)  # cases that tell the order of a history
PEERS = {
    case: [name for models in (SEQUENTIAL if case in IN_ORDER else GENERAL).values() for name in models]
    for case in CASES
}
GOALS: list[dict[str, Any]] = [
    {"case": case, "metric": METRIC[case], "at_least": 1.0, "of": peer} for case in CASES for peer in PEERS[case]
]
SECONDS = "cpu_seconds_to_the_end"


def run(data_dir: Path | None, cases: Sequence[str] = CASES) -> list[dict[str, Any]]:
    """Rows of ours, as `bench quality` stored them, and of each peer; the first of a peer has its curve.

    Raises as `quality.bench.run_cases`.
    """
    check_cases(cases, CASES)
    rows: list[dict[str, Any]] = []
    for case, (split,) in bench.splits_of(data_dir, cases):
        rows += [row for name, row in rows_of_ours(case).items() if name in split.metrics]
        for peer_rows in rows_of_peers(split):
            rows += peer_rows
    return rows


def rows_of_peers(split: Split) -> Iterator[list[dict[str, Any]]]:
    """The rows of each: qualities with intervals over users, what the last fits cost, and the way there."""
    for peer in to_the_end(split, settings_of_peers(split.case)):
        outcome = bench.run_contender([(split, peer)])
        rows = bench.outcome_rows(split.case, peer.name, outcome)
        (settings,), (trace,) = outcome.settings, outcome.traces
        told = {"epochs": float(settings["epochs"]), SECONDS: float(trace[-1, 0])}
        rows[0]["curve"] = trace.tolist()
        yield rows + [
            row_of(split.case, peer.name, name, value) | {"commit": outcome.commit} for name, value in told.items()
        ]


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Write an SVG of each peer's validation by processor seconds of training, a panel a case; a dot is its best."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    told = [row for row in rows if "curve" in row]
    cases = list(dict.fromkeys(row["case"] for row in told))
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "convergence", "font.size": 8}):
        figure = Figure(figsize=(6.0, 2.2 * len(cases)), layout="constrained")
        FigureCanvasSVG(figure)
        figure.patch.set_facecolor("white")
        axes = figure.subplots(len(cases), 1, squeeze=False)[:, 0]
        for axis, case in zip(axes, cases):
            for row in told:
                if row["case"] == case:
                    seconds, _, values = np.array(row["curve"]).T
                    (line,) = axis.semilogx(seconds, values, linewidth=1.2, label=row["contender"].partition(" ")[0])
                    axis.plot(seconds[values.argmax()], values.max(), "o", color=line.get_color(), markersize=4)
            axis.set_title(f"{case}: {METRIC[case]} on validation", loc="left", fontsize=8)
            axis.spines[["top", "right"]].set_visible(False)
            axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
        axes[-1].set_xlabel("processor seconds of training")
        figure.savefig(path, format="svg", metadata={"Date": None})
