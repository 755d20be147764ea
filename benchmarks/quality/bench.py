"""Runs every contender on every case: settings chosen on validation, the test touched once, finished parts kept.

The budget is equal: every contender, ours included, tries at most `TRIALS` settings and spends at most `budget_s`
processor seconds on them; a setting is not started once they are spent. A neural peer's fit stops there too.

V users that have something to find.
"""

from __future__ import annotations

import json
import multiprocessing
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.goals import check_cases
from benchmarks.peak import peak_mb
from benchmarks.quality import BEST_PEER, TIMED, environments, time_to_quality
from benchmarks.quality.intervals import over_users
from benchmarks.quality.loaders import CASES, WHAT_TO_GET
from benchmarks.quality.methods import Contender, Scored, Settings, budget_s, peers_for
from benchmarks.quality.neural import neural_peers
from benchmarks.quality.ours import ours
from benchmarks.quality.splits import Split, Stage
from benchmarks.quality.tutorial import tutorial_peers
from benchmarks.stored import joined, keep, key_of
from components.settings import SettingsError
from pipeline.fingerprint import code_fingerprint
from trainer.evaluation import metrics

ROOT = Path(__file__).parents[2]
KEPT = ROOT / ".zhiyin" / "bench" / "quality"
KEPT_AS = 3  # what is kept of a part; a number of its own for each shape of it
OURS = "ours"
Row = dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """One contender on one case."""

    values: dict[str, np.ndarray]  # metric -> float [V of all splits], each user's mean over the runs
    users: np.ndarray  # int [V of all splits], who each is; the splits of a case have the same users
    sought: np.ndarray  # float [V of all splits], the pairs to be found, as a multiple of the split's mean
    spread: dict[str, float]  # metric -> standard deviation of the runs' means; of one run: 0
    settings: Sequence[Settings]  # chosen, a split each
    costs: dict[str, float]  # seconds, cpu_seconds, peak_mb, parameters: mean over the runs
    runs: int
    traces: Sequence[
        np.ndarray
    ]  # a split each, float [L, 3]: the way to the chosen settings' quality on validation, as Scored has it
    commit: str  # that it was measured at, or several


def run_cases(data_dir: Path | None, names: Sequence[str] = ()) -> list[Row]:
    """The rows of the named cases, or of all.

    Raises SettingsError if there is no data or no such case, SourceError if a file is missing.
    """
    rows: list[Row] = []
    for name, splits in splits_of(data_dir, names or tuple(CASES)):
        contenders = [all_for(split) for split in splits]
        outcomes = {per_split[0].name: run_contender(list(zip(splits, per_split))) for per_split in zip(*contenders)}
        rows += case_rows(name, outcomes)
        if name in TIMED:
            rows += time_to_quality.rows(name, outcomes)
    return rows


def splits_of(data_dir: Path | None, names: Sequence[str]) -> Iterator[tuple[str, list[Split]]]:
    """Each named case with its splits. Raises as `run_cases`."""
    if data_dir is None or not data_dir.is_dir():
        raise SettingsError(f"--data-dir: got {data_dir}, expected {WHAT_TO_GET}")
    check_cases(names, CASES)
    for name in names:
        yield name, CASES[name](data_dir)


def all_for(split: Split) -> list[Contender]:
    """Ours first, then its peers; ids alone place no cold item, so the neural ones stay out of cold cases."""
    is_cold = not split.test.train[:, split.test.candidates].nnz
    return [ours(split), *peers_for(split), *tutorial_peers(split), *([] if is_cold else neural_peers(split))]


def run_contender(per_split: Sequence[tuple[Split, Contender]]) -> Outcome:
    """Choose the settings and run the test, on each split of a case. What was finished before is read, not run."""
    parts: list[list[dict[str, np.ndarray]]] = []  # [split][run]
    chosen: list[Settings] = []
    costs: list[dict[str, float]] = []
    traces: list[np.ndarray] = []
    commits: list[str] = []
    for number, (split, contender) in enumerate(per_split):
        folder = KEPT / split.case / contender.name.replace(" ", "_")
        key = _key(split, contender)
        settings, found, commit = keep(folder / f"settings-{number}", key, lambda: choose(split, contender))  # noqa: B023  (called at once)
        chosen.append(settings)
        traces.append(found["trace"])
        commits.append(commit)
        parts.append([])
        for seed in range(contender.runs):
            spent, values, commit = keep(
                folder / f"run-{number}-{seed}",
                f"{key}{json.dumps(settings, sort_keys=True)}",
                lambda: _test(split, contender, settings, seed),  # noqa: B023
            )
            parts[-1].append(values)
            costs.append(spent)
            commits.append(commit)
    names = list(parts[0][0])
    values = {name: np.concatenate([np.mean([run[name] for run in runs], axis=0) for runs in parts]) for name in names}
    run_means = {name: np.mean([[run[name].mean() for run in runs] for runs in parts], axis=0) for name in names}
    spread = {name: float(np.std(means)) for name, means in run_means.items()}
    sought = [split.test.truth.getnnz(1) for split, _ in per_split]
    first, name = next(iter(values)), per_split[0][1].name
    print(
        f"{per_split[0][0].case}: {name}: {first} {values[first].mean():.4f}, "
        f"{costs[-1]['cpu_seconds']:.1f} s, {chosen}",
        flush=True,
    )
    return Outcome(
        values,
        np.concatenate([np.flatnonzero(counts) for counts in sought]),
        np.concatenate([counts[counts > 0] / counts[counts > 0].mean() for counts in sought]),
        spread,
        chosen,
        {name: float(np.mean([cost[name] for cost in costs])) for name in costs[0]},
        len(costs),
        traces,
        joined(commits),
    )


def choose(split: Split, contender: Contender) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The settings with the best first metric on validation, the first of equals, with what that run found; and its
    `trace` [L, 3].

    Where there is nothing to choose nothing is tried, and the trace is empty, but in the timed cases.
    """
    trials = contender.trials()
    needs_epochs = contender.stops_early and (split.test.watch is None or contender.to_the_end)
    if len(trials) == 1 and not needs_epochs and split.case not in TIMED:
        return trials[0], {"trace": np.zeros((0, 3))}
    print(f"{split.case}: {contender.name}: {len(trials)} settings", flush=True)
    outcomes = in_own_process(_tried, split, contender)
    best = int(np.argmax([quality for quality, _, _ in outcomes]))
    _, found, trace = outcomes[best]
    for knob in contender.edges(trials[best]):
        print(f"{split.case}: {contender.name}: {knob} {trials[best][knob]} lies on the edge of its grid", flush=True)
    return {**trials[best], **found}, {"trace": trace}


def _tried(split: Split, contender: Contender) -> list[tuple[float, Settings, np.ndarray]]:
    """Of each setting until the budget is spent: the quality, what the run found, and its trace, one point at the end
    where it has none."""
    outcomes: list[tuple[float, Settings, np.ndarray]] = []
    contender.prepare()
    started, budget = _cpu_s(), budget_s(split.case)
    for settings in contender.trials():
        left = budget - (_cpu_s() - started)
        if outcomes and left <= 0:
            break
        own = {**settings, "budget_s": None if contender.to_the_end else left} if contender.stops_early else settings
        begun = _cpu_s()
        scored = contender.score(split.validation, own, 0)
        spent = _cpu_s() - begun
        quality = float(per_user(split, split.validation, scored.scores)[split.metrics[0]].mean())
        outcomes.append((quality, scored.found, np.array(scored.trace or [(spent, 0.0, quality)], float)))
    return outcomes


def _test(
    split: Split, contender: Contender, settings: Settings, seed: int
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    scored, costs = in_own_process(timed, contender, split.test, settings, seed)
    return costs, per_user(split, split.test, scored.scores)


def per_user(split: Split, stage: Stage, scores: np.ndarray) -> dict[str, np.ndarray]:
    """The case's metrics, float [V] each.

    `accuracy@K` is the share of all pairs that are found, so a user weighs as much as they have pairs: the mean over
    users is that share.
    """
    result = metrics.evaluate(lambda rows: scores[rows], stage.truth, stage.hidden, (split.cutoff,), stage.candidates)
    values = dict(result.values)
    num_sought = stage.truth.getnnz(1)[result.rows]
    values[f"accuracy@{split.cutoff}"] = values[f"R@{split.cutoff}"] * num_sought / max(num_sought.mean(), 1e-12)
    return {name: values[name] for name in split.metrics}


def case_rows(case: str, outcomes: dict[str, Outcome]) -> list[Row]:
    """The rows of one case: every contender, the best peer, and where ours is among them its lead over that peer."""
    rows = [row for name, outcome in outcomes.items() for row in outcome_rows(case, name, outcome)]
    first = next(iter(next(iter(outcomes.values())).values))
    peers = {name: outcome for name, outcome in outcomes.items() if name != OURS}
    best = max(peers, key=lambda name: peers[name].values[first].mean())
    rows += [
        row for row in outcome_rows(case, f"{BEST_PEER} ({best})", peers[best]) if row["metric"] in peers[best].values
    ]
    if OURS in outcomes:
        rows += lead_rows(case, OURS, outcomes[OURS], peers[best], f"above {BEST_PEER}")
    return rows


def lead_rows(case: str, contender: str, outcome: Outcome, other: Outcome, what: str) -> list[Row]:
    """How far each metric is above another contender's, over the same users."""
    leads = {
        metric: _interval(outcome, metric, values - other.values[metric]) for metric, values in outcome.values.items()
    }
    commit = joined([outcome.commit, other.commit])
    return [
        row_of(case, contender, f"{metric} {what}", lead.value, outcome.runs, lead.low, lead.high) | {"commit": commit}
        for metric, lead in leads.items()
    ]


def _interval(outcome: Outcome, metric: str, values: np.ndarray) -> metrics.Interval:
    """The mean of values of an outcome's users, float [V]; of an accuracy, the pairs are drawn with their users."""
    weights = outcome.sought if metric.startswith("accuracy@") else np.ones(len(values))
    return over_users(values, outcome.users, weights)


def outcome_rows(case: str, contender: str, outcome: Outcome) -> list[Row]:
    """The rows of one contender: metrics with intervals, their spread over runs, and the costs."""
    rows = []
    for metric, values in outcome.values.items():
        interval = _interval(outcome, metric, values)
        rows.append(row_of(case, contender, metric, interval.value, outcome.runs, interval.low, interval.high))
        rows[-1]["settings"] = [dict(settings) for settings in outcome.settings]
        if outcome.spread[metric]:
            rows.append(row_of(case, contender, f"{metric} spread of runs", outcome.spread[metric], outcome.runs))
    rows += [row_of(case, contender, cost, value, 1) for cost, value in outcome.costs.items()]
    return [row | {"commit": outcome.commit} for row in rows]


def row_of(
    case: str, contender: str, metric: str, value: float, runs: int, low: float | None = None, high: float | None = None
) -> Row:
    return {
        "case": case,
        "contender": contender,
        "metric": metric,
        "value": value,
        "low": low,
        "high": high,
        "runs": runs,
    }


def in_own_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Calls it where peak memory and processor time are its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def timed(contender: Contender, stage: Stage, settings: Settings, seed: int) -> tuple[Scored, dict[str, float]]:
    """One fit and its costs, from when all is installed that it runs in."""
    contender.prepare()
    start, cpu_start = time.monotonic(), _cpu_s()
    scored = contender.score(stage, settings, seed)
    return scored, {
        "seconds": time.monotonic() - start,
        "cpu_seconds": _cpu_s() - cpu_start,
        "peak_mb": float(peak_mb() if scored.peak_mb is None else scored.peak_mb),
        "parameters": float(scored.parameters),
    }


def _cpu_s() -> float:
    """Processor seconds of this process and of those it has waited for."""
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in spent)


def _key(split: Split, contender: Contender) -> str:
    """Changes with the code, the data and the contender's knobs: what was kept under another key is not used."""
    return key_of(
        code_fingerprint(*contender.modules, "benchmarks.quality.splits", "trainer.evaluation.metrics"),
        *(ROOT / path for path in environments.code(contender.environment)),
        json.dumps([KEPT_AS, contender.name, dict(contender.grid), budget_s(split.case), split.metrics, split.tags]),
        *(*split.validation.parts(), *split.test.parts()),
        *(part for name, vectors in split.content.items() for part in (name, vectors.tobytes())),
    )
