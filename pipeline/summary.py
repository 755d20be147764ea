"""The end of a run in words: the table of metrics, and the last line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.config import Config
from pipeline.console import table
from pipeline.rejects_report import rejects_line

METRICS = ("NDCG@10", "R@20", "HR@10", "coverage@10")
SLICES = ("all", "warm items", "cold items", "cold items among cold", "new users")


def metrics(rows: Sequence[dict[str, Any]], refit: str = "") -> str:
    """A block a slice, a line a method, ours first; 95 % intervals beside the deciding metric.

    refit: what the served model was trained on, where that is another than the judged one; the last line.
    """
    blocks = []
    for part in SLICES:
        of_slice = [row for row in rows if row["slice"] == part]
        methods = dict.fromkeys(row["contender"] for row in of_slice)
        if not methods:
            continue
        values = {(row["contender"], row["metric"]): row for row in of_slice}
        users = max(row["users"] for row in of_slice)
        lines = [[name, *(_cell(values.get((name, metric))) for metric in METRICS)] for name in methods]
        blocks.append(table([f"{part} ({users} users)", *METRICS], lines))
    return "\n\n".join([*blocks, refit] if refit else blocks)


def last_line(
    config: Config, config_path: Path, evaluation: dict[str, Any], seconds: float, server_refusal: str = ""
) -> str:
    """Where the rejects are, if there are any, where the result is, the headline number, and what to do next.

    server_refusal: why the model was not pushed although it is good enough; empty where it was.
    """
    decision = evaluation["decision"]
    headline = (
        f"{decision['metric']} {decision['value']:.4f} (popularity {decision['popularity']:.4f}) in {seconds:.0f} s"
    )
    rejects = rejects_line(config.work_path)
    before = f"{rejects}\n" if rejects else ""
    if privacy := evaluation.get("privacy"):
        before += (
            f"the towers are ({privacy['epsilon']}, {privacy['delta']:g})-differentially private by person: noise "
            f"{privacy['noise_multiplier']:.2f} x clip {privacy['clip']:g}, {privacy['steps']} steps of a share of "
            f"{privacy['sampling_rate']:.3g}; docs/privacy.md says what that covers\n"
        )
    if refusal := server_refusal if decision["blessed"] else decision["reason"]:
        return f"{before}not pushed: {refusal}; {headline}"
    return f"{before}model in {config.serving_path}, serve it with: ./zhiyin serve --config {config_path}; {headline}"


def _cell(row: dict[str, Any] | None) -> str:
    if row is None:
        return "–"
    interval = f" ±{(row['high'] - row['low']) / 2:.3f}" if row.get("low") is not None else ""
    return f"{row['value']:.4f}{interval}"
