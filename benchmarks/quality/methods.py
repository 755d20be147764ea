"""The peers: how each is fitted and scored, and the settings among which validation chooses.

U users, N items, F factors.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.quality import environments
from benchmarks.quality.splits import Split, Stage
from trainer.evaluation.baselines import ItemKnn, Popularity, Random, tf_idf

Settings = Mapping[str, Any]
TRIALS = 24  # settings tried on validation, for every contender alike; all of them where its grid is smaller
BUDGET_S = {
    "ML1M-U": 480.0,
    "ML100K-T": 240.0,
}  # processor seconds of all of a contender's fits on validation in a split, ours included
BUDGET_ELSEWHERE_S = 120.0
SEEDS = 3  # runs of a contender that depends on chance


@dataclass(frozen=True)
class Scored:
    """The scores of one run and what they cost."""

    scores: np.ndarray  # float32 [U, N]
    parameters: int = 0  # numbers that were learned
    peak_mb: float | None = None  # of the process, where it was one of its own
    found: Mapping[str, Any] = field(
        default_factory=dict
    )  # settings that the run found, like the epoch at which it stopped
    trace: Sequence[
        Sequence[float]
    ] = ()  # processor seconds of training, epoch, first metric on `watch`; where the run looked at it


@dataclass(frozen=True)
class Contender:
    """One recommender with its knobs."""

    name: str  # with the library's version, where it comes from one
    score: Callable[[Stage, Settings, int], Scored]  # stage, settings, seed; picklable
    grid: Mapping[str, Sequence[Any]] = field(default_factory=dict)  # knob -> values
    runs: int = 1  # with seeds of their own, where chance has a part
    modules: tuple[str, ...] = (__name__,)  # whose code the scores come from; kept results of other code are not used
    environment: str = ""  # of its own, that it runs in: its requirements and worker count as code, too
    stops_early: bool = (
        False  # finds its number of epochs on validation, so that always comes first; takes `budget_s` as a setting
    )
    to_the_end: bool = False  # stops where validation says alone: no budget

    def prepare(self) -> None:
        """Makes its environment, where it has one and it is not there: nobody's costs."""
        if self.environment:
            environments.ensure(self.environment)

    def edges(self, settings: Settings) -> list[str]:
        """The knobs whose value is the first or the last of several numbers, so that a better one may lie beyond."""
        ends = {
            knob: (values[0], values[-1])
            for knob, values in self.grid.items()
            if len(values) > 1 and not isinstance(values[0], (bool, str))
        }
        return [knob for knob, values in ends.items() if settings[knob] in values]

    def trials(self) -> list[dict[str, Any]]:
        """The settings to try: the whole grid, or as many of it as everybody may try, drawn without repetition."""
        everything = [dict(zip(self.grid, values)) for values in itertools.product(*self.grid.values())]
        drawn = np.random.default_rng(0).permutation(len(everything))[:TRIALS]
        return [everything[index] for index in sorted(drawn)]


def budget_s(case: str) -> float:
    """Processor seconds that a contender may spend on validation: no setting is started after them, and `stops_early`
    ends there."""
    return BUDGET_S.get(case, BUDGET_ELSEWHERE_S)


def peers_for(split: Split) -> list[Contender]:
    """The peers that can say something about the case: cold items are beyond those that know ids alone."""
    by_content = [
        Contender(f"{name} KNN", functools.partial(score_content_knn, vectors), CONTENT_GRID)
        for name, vectors in split.content.items()
    ]
    if split.content:
        joint = np.hstack([_unit(vectors) for vectors in split.content.values()])
        by_content.append(Contender("all content KNN", functools.partial(score_content_knn, joint), CONTENT_GRID))
    if split.tags:
        words = tf_idf(split.tags).toarray()
        by_content.append(Contender("tag TF-IDF KNN", functools.partial(score_content_knn, words), CONTENT_GRID))
    is_cold = not split.test.train[:, split.test.candidates].nnz
    by_ids = [
        Contender("popularity", score_popularity),
        Contender(
            "ItemKNN", score_item_knn, {"neighbours": (20, 50, 100, 200, 400, 800), "shrinkage": (0.0, 10.0, 50.0)}
        ),
        Contender(
            "EASE",
            score_ease,
            {"ridge": (10, 25, 50, 75, 100, 150, 200, 250, 300, 400, 500, 650, 800, 1000, 1500, 2000, 3000, 5000)},
        ),
        Contender(
            f"iALS (implicit {environments.version('ials', 'implicit')})",
            score_ials,
            {"factors": (64, 128, 256), "regularization_and_alpha": IALS_PAIRS},
            runs=SEEDS,
            environment="ials",
        ),
    ]
    return [Contender("random", score_random, runs=SEEDS), *([] if is_cold else by_ids), *by_content]


def score_random(stage: Stage, settings: Settings, seed: int) -> Scored:
    """A uniform order for each user."""
    return Scored(Random(seed).fit(stage.train).scores(stage.history))


def score_popularity(stage: Stage, settings: Settings, seed: int) -> Scored:
    """How many people took the item."""
    return Scored(Popularity().fit(stage.train).scores(stage.history), stage.train.shape[1])


def score_item_knn(stage: Stage, settings: Settings, seed: int) -> Scored:
    """Items taken by the people who took those of the history."""
    return Scored(
        ItemKnn(**settings).fit(stage.train).scores(stage.history), stage.train.shape[1] * settings["neighbours"]
    )


def score_ease(stage: Stage, settings: Settings, seed: int) -> Scored:
    """EASE (Steck, 2019): the best linear map from a history to itself with a zero diagonal, in closed form."""
    gram = (stage.train.T @ stage.train).toarray()  # [N, N]
    gram[np.diag_indices_from(gram)] += settings["ridge"]
    precision = np.linalg.inv(gram)
    weights = precision / -np.diag(precision)
    np.fill_diagonal(weights, 0.0)
    return Scored(np.asarray(stage.history @ weights, np.float32), weights.size)


# The regularization that fits grows with the confidence alpha of what was taken, so the two are tried together.
IALS_PAIRS = (
    (5.0, 0.5),
    (10.0, 1.0),
    (20.0, 2.0),
    (30.0, 3.0),
    (50.0, 6.0),
    (80.0, 15.0),
    (60.0, 20.0),
    (100.0, 40.0),
)


def score_ials(stage: Stage, settings: Settings, seed: int) -> Scored:
    """Weighted matrix factorisation by alternating least squares (Hu, Koren and Volinsky, 2008)."""
    regularization, alpha = settings["regularization_and_alpha"]
    own = {"factors": settings["factors"], "regularization": regularization, "alpha": alpha, "iterations": 15}
    return environments.score_in("ials", stage, own, seed)


CONTENT_GRID = {"centred": (False, True), "neighbours": (20, 50, 100, 200, 0)}


def score_content_knn(content: np.ndarray, stage: Stage, settings: Settings, seed: int) -> Scored:
    """Items whose content is like that of the history: the sum of the cosines.

    content: float [N, D]. centred: the mean content is taken away first. neighbours: of each ranked item, only so many
    of its most similar train items count, 0 = all of them.
    """
    vectors = _unit(content - content.mean(0) if settings["centred"] else content)
    similarity = vectors @ vectors.T  # [history item, ranked item]
    np.fill_diagonal(similarity, 0.0)
    if settings["neighbours"]:
        similarity[stage.train.getnnz(0) == 0] = -np.inf
        keep = min(settings["neighbours"], len(similarity))
        bound = -np.partition(-similarity, keep - 1, axis=0)[keep - 1]
        similarity = np.where(similarity >= bound, np.maximum(similarity, 0.0), 0.0)
    return Scored(np.asarray(stage.history @ similarity, np.float32))


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
