"""Runs every contender on every case: settings chosen on validation, the test touched once, finished parts kept.

V users that have something to find.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import resource
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.quality import BEST_PEER
from benchmarks.quality.contenders import SEEDS, Contender, Scored, Settings, peers_for
from benchmarks.quality.loaders import CASES, WHAT_TO_GET
from benchmarks.quality.splits import Split, Stage
from components.settings import SettingsError
from trainer import baselines, metrics

KEPT = Path(__file__).parents[2] / ".zhiyin" / "bench" / "quality"
OURS = "ours"
Row = dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """One contender on one case."""

    values: dict[str, np.ndarray]  # metric -> float [V of all splits], each user's mean over the runs
    spread: dict[str, float]  # metric -> standard deviation of the runs' means; of one run: 0
    settings: list[dict[str, Any]]  # chosen, a split each
    costs: dict[str, float]  # seconds, peak_mb, parameters of the last run
    runs: int


def run_cases(data_dir: Path | None, names: Sequence[str] = tuple(CASES)) -> list[Row]:
    """The rows of all named cases.

    Raises SettingsError if there is no data, SourceError if it lacks a file.
    """
    if data_dir is None or not data_dir.is_dir():
        raise SettingsError(f"--data-dir: got {data_dir}, expected {WHAT_TO_GET}")
    rows: list[Row] = []
    for name in names:
        splits = CASES[name](data_dir)
        outcomes = {contender.name: _kept_or_run(splits, place) for place, contender in enumerate(peers_for(splits[0]))}
        rows += case_rows(name, outcomes)
    return rows


def run_contender(per_split: Sequence[tuple[Split, Contender]]) -> Outcome:
    """Choose the settings and run the test, on each split of a case."""
    parts: list[list[dict[str, np.ndarray]]] = []  # [split][run]
    chosen: list[dict[str, Any]] = []
    costs: dict[str, float] = {}
    for split, contender in per_split:
        settings = choose(split, contender)
        chosen.append(settings)
        parts.append([])
        for seed in range(SEEDS if contender.by_chance else 1):
            scored, costs = _in_own_process(contender, split.test, settings, seed)
            parts[-1].append(per_user(split, split.test, scored.scores))
    names = list(parts[0][0])
    values = {name: np.concatenate([np.mean([run[name] for run in runs], axis=0) for runs in parts]) for name in names}
    run_means = {name: np.mean([[run[name].mean() for run in runs] for runs in parts], axis=0) for name in names}
    return Outcome(values, {name: float(np.std(means)) for name, means in run_means.items()}, chosen, costs, sum(map(len, parts)))


def choose(split: Split, contender: Contender) -> dict[str, Any]:
    """The settings with the best first metric on validation; the first of equals."""
    trials = contender.trials()
    if len(trials) == 1:
        return trials[0]
    qualities = []
    for settings in trials:
        scored = contender.score(split.validation, settings, 0)
        qualities.append(per_user(split, split.validation, scored.scores)[split.metrics[0]].mean())
    return trials[int(np.argmax(qualities))]


def per_user(split: Split, stage: Stage, scores: np.ndarray) -> dict[str, np.ndarray]:
    """The case's metrics, float [V] each.

    `accuracy@K` is the share of all pairs that are found, so a user weighs as much as they have pairs: the mean over users is that share.
    """
    result = metrics.evaluate(lambda rows: scores[rows], stage.truth, stage.hidden, (split.cutoff,), stage.candidates)
    values = dict(result.values)
    num_sought = stage.truth.getnnz(1)[result.rows]
    values[f"accuracy@{split.cutoff}"] = values[f"R@{split.cutoff}"] * num_sought / max(num_sought.mean(), 1e-12)
    return {name: values[name] for name in split.metrics}


def case_rows(case: str, outcomes: dict[str, Outcome]) -> list[Row]:
    """The rows of one case: every contender, the best peer, and where ours is among them its lead over that peer."""
    rows = [row for name, outcome in outcomes.items() for row in _outcome_rows(case, name, outcome)]
    first = next(iter(next(iter(outcomes.values())).values))
    peers = {name: outcome for name, outcome in outcomes.items() if name != OURS}
    best = max(peers, key=lambda name: peers[name].values[first].mean())
    rows += [row for row in _outcome_rows(case, f"{BEST_PEER} ({best})", peers[best]) if row["metric"] in peers[best].values]
    if OURS in outcomes:
        for metric, values in outcomes[OURS].values.items():
            lead = metrics.paired_bootstrap(values, peers[best].values[metric])
            rows.append(_row(case, OURS, f"{metric} above {BEST_PEER}", lead.value, outcomes[OURS].runs, lead.low, lead.high))
    return rows


def _outcome_rows(case: str, contender: str, outcome: Outcome) -> list[Row]:
    rows = []
    for metric, values in outcome.values.items():
        interval = metrics.bootstrap(values)
        rows.append(_row(case, contender, metric, interval.value, outcome.runs, interval.low, interval.high))
        rows[-1]["settings"] = outcome.settings
        if outcome.spread[metric]:
            rows.append(_row(case, contender, f"{metric} spread of runs", outcome.spread[metric], outcome.runs))
    rows += [_row(case, contender, cost, value, 1) for cost, value in outcome.costs.items()]
    return rows


def _row(case: str, contender: str, metric: str, value: float, runs: int, low: float | None = None, high: float | None = None) -> Row:
    return {"case": case, "contender": contender, "metric": metric, "value": value, "low": low, "high": high, "runs": runs}


def _in_own_process(contender: Contender, stage: Stage, settings: Settings, seed: int) -> tuple[Scored, dict[str, float]]:
    """A run whose peak memory is its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        scored, seconds = pool.submit(_timed, contender, stage, settings, seed).result()
    return scored, {"seconds": seconds, "peak_mb": float(scored.peak_mb or 0.0), "parameters": float(scored.parameters)}


def _timed(contender: Contender, stage: Stage, settings: Settings, seed: int) -> tuple[Scored, float]:
    start = time.monotonic()
    scored = contender.score(stage, settings, seed)
    seconds = time.monotonic() - start
    own_peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return (scored if scored.peak_mb is not None else replace(scored, peak_mb=own_peak_mb)), seconds


def _kept_or_run(splits: Sequence[Split], place: int) -> Outcome:
    per_split = [(split, peers_for(split)[place]) for split in splits]
    case, contender = splits[0].case, per_split[0][1]
    key = _key(splits, contender)
    path = KEPT / case / f"{contender.name.replace(' ', '_')}.npz"
    outcome = _read(path, key)
    if outcome is None:
        print(f"{case}: {contender.name}, {len(contender.trials())} settings", flush=True)
        outcome = run_contender(per_split)
        _write(path, key, outcome)
    first, values = next(iter(outcome.values.items()))
    print(f"{case}: {contender.name}: {first} {values.mean():.4f}, {outcome.costs['seconds']:.1f} s, {outcome.settings}", flush=True)
    return outcome


def _key(splits: Sequence[Split], contender: Contender) -> str:
    """Changes with the code, the data and the contender's knobs: what was kept under another key is not used."""
    digest = hashlib.blake2b(digest_size=16)
    code = [*sorted(Path(__file__).parent.rglob("*.py")), *sorted(Path(__file__).parent.rglob("*.txt"))]
    for path in (*code, Path(metrics.__file__), Path(baselines.__file__)):
        digest.update(path.read_bytes())
    digest.update(json.dumps([contender.name, dict(contender.grid), contender.by_chance]).encode())
    for split in splits:
        for stage in (split.validation, split.test):
            for pairs in (stage.train, stage.history, stage.hidden, stage.truth):
                digest.update(pairs.indptr.tobytes() + pairs.indices.tobytes())
        for name, vectors in split.content.items():
            digest.update(name.encode() + vectors.tobytes())
    return digest.hexdigest()


def _write(path: Path, key: str, outcome: Outcome) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    about = {"key": key, "spread": outcome.spread, "settings": outcome.settings, "costs": outcome.costs, "runs": outcome.runs}
    partial = path.with_suffix(".partial.npz")
    np.savez(partial, about=np.array(json.dumps(about)), **outcome.values)
    partial.rename(path)


def _read(path: Path, key: str) -> Outcome | None:
    if not path.is_file():
        return None
    with np.load(path) as kept:
        about = json.loads(str(kept["about"]))
        if about.pop("key") != key:
            return None
        return Outcome(values={name: kept[name] for name in kept.files if name != "about"}, **about)
