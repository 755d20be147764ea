"""Two references for the demo world, from its hidden truth: the oracle, and what perfect understanding of the content
would give.

Dimensions: U people, N items, T traits, n interactions. Both return scores [U, N], to be ranked by the metric code
that ranks ours.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

RIDGES = (0.3, 1.0, 3.0, 10.0)
UNSEEN_WEIGHTS = (0.01, 0.03, 0.1)


@dataclass(frozen=True)
class Truth:
    """What the demo world hides."""

    item_ids: list[str]
    traits: np.ndarray  # float64 [N, T]
    pull: np.ndarray  # float64 [N], popularity in units of the choice
    cold: np.ndarray  # bool [N], appears only in the last days
    user_ids: list[str]
    taste_start: np.ndarray  # float64 [U, T]
    taste_end: np.ndarray  # float64 [U, T]
    start_s: float  # seconds since 1970 at which the tastes are taste_start
    end_s: float
    sharpness: float  # weight of the affinity in a choice

    def item_rows(self, item_ids: Sequence[str]) -> np.ndarray:
        """Row numbers of the items. Raises KeyError with the id that this world does not have."""
        row_of = {item_id: row for row, item_id in enumerate(self.item_ids)}
        return np.array([row_of[item_id] for item_id in item_ids], int)


@dataclass(frozen=True)
class Feedback:
    """Interactions as three columns of one length; an interaction that is not positive is a dislike."""

    user_ids: Sequence[str]
    item_ids: Sequence[str]
    positives: Sequence[bool]


@dataclass(frozen=True)
class LinearSettings:
    """The two knobs of the linear user model."""

    ridge: float = 1.0
    unseen_weight: float = 0.03  # of an item without feedback, which counts as a weak no


def load_truth(path: Path) -> Truth:
    """Read the `truth.npz` of a demo world."""
    with np.load(path) as arrays:
        return Truth(
            item_ids=[str(item_id) for item_id in arrays["item_ids"]],
            traits=arrays["traits"],
            pull=arrays["pull"],
            cold=arrays["cold"],
            user_ids=[str(user_id) for user_id in arrays["user_ids"]],
            taste_start=arrays["taste_start"],
            taste_end=arrays["taste_end"],
            start_s=float(arrays["start_s"]),
            end_s=float(arrays["end_s"]),
            sharpness=float(arrays["sharpness"]),
        )


def oracle_scores(
    truth: Truth, user_ids: Sequence[str], item_ids: Sequence[str], at_time: float | Sequence[float]
) -> np.ndarray:
    """True affinity at that time plus popularity, which the choices are drawn from.

    No strict bound: choices are also drawn to what is new, and only those that pleased are to be found.
    at_time: seconds since 1970, one for all or one a user.
    Returns float64 [len(user_ids), len(item_ids)].
    """
    row_of = {user_id: row for row, user_id in enumerate(truth.user_ids)}
    users = np.array([row_of[user_id] for user_id in user_ids], int)
    progress = np.broadcast_to(
        (np.asarray(at_time, float) - truth.start_s) / (truth.end_s - truth.start_s), users.shape
    )[:, None]
    taste = (1 - progress) * truth.taste_start[users] + progress * truth.taste_end[users]  # [U, T]
    items = truth.item_rows(item_ids)
    return truth.sharpness * taste @ truth.traits[items].T + truth.pull[items]


def linear_scores(
    truth: Truth,
    history: Feedback,
    user_ids: Sequence[str],
    item_ids: Sequence[str],
    settings: LinearSettings | None = None,
) -> np.ndarray:
    """A linear user model on the true traits: what perfect understanding of the content would give.

    For each person a ridge regression of the feedback on the traits: 1 for a positive, 0 for a dislike, and a weak 0
    for what the person has not met; only items that somebody has met take part. It is drawn towards the regression of
    all people together, which is also the answer for people without history.
    Returns float64 [len(user_ids), len(item_ids)].
    """
    settings = settings or LinearSettings()
    met = sorted(set(history.item_ids))
    column_of = {item_id: column for column, item_id in enumerate(met)}
    design = _with_intercept(truth.traits[truth.item_rows(met)])  # [M, T + 1]
    candidates = _with_intercept(truth.traits[truth.item_rows(item_ids)])  # [N, T + 1]

    by_user: dict[str, dict[int, bool]] = {}
    for user_id, item_id, positive in zip(history.user_ids, history.item_ids, history.positives):
        liked = by_user.setdefault(user_id, {})
        column = column_of[item_id]
        liked[column] = liked.get(column, False) or bool(positive)

    unseen = settings.unseen_weight * design.T @ design  # [T + 1, T + 1]
    total_gram, total_target = settings.ridge * np.eye(design.shape[1]), np.zeros(design.shape[1])
    for liked in by_user.values():
        gram, target = _normal_equations(design, unseen, liked, settings.unseen_weight)
        total_gram, total_target = total_gram + gram, total_target + target
    of_all = np.linalg.solve(total_gram, total_target)

    scores = np.empty((len(user_ids), len(item_ids)))
    for row, user_id in enumerate(user_ids):
        weights = of_all
        if user_id in by_user:
            gram, target = _normal_equations(design, unseen, by_user[user_id], settings.unseen_weight)
            ridge = settings.ridge * np.eye(len(gram))
            weights = np.linalg.solve(gram + ridge, target + ridge @ of_all)
        scores[row] = candidates @ weights
    return scores


def tune_linear(truth: Truth, train: Feedback, validation: Feedback) -> LinearSettings:
    """The settings under which a person's positives of the validation period rank highest among what they had not met
    in train.

    The measure is the mean of 1 / log2(1 + rank), which is NDCG without a cut-off when one item is sought at a time.
    """
    users = sorted({user for user, positive in zip(validation.user_ids, validation.positives) if positive})
    row_of_user = {user_id: row for row, user_id in enumerate(users)}
    items = sorted(set(train.item_ids) | set(validation.item_ids))
    column_of = {item_id: column for column, item_id in enumerate(items)}
    hidden = np.zeros((len(users), len(items)), bool)
    for user_id, item_id in zip(train.user_ids, train.item_ids):
        if user_id in row_of_user:
            hidden[row_of_user[user_id], column_of[item_id]] = True
    sought = [
        (row_of_user[user_id], column_of[item_id])
        for user_id, item_id, positive in zip(validation.user_ids, validation.item_ids, validation.positives)
        if positive and not hidden[row_of_user[user_id], column_of[item_id]]
    ]
    if not sought:
        return LinearSettings()
    rows, columns = np.array(sought).T

    def quality(settings: LinearSettings) -> float:
        scores = np.where(hidden, -np.inf, linear_scores(truth, train, users, items, settings))
        ranks = 1 + (scores[rows] > scores[rows, columns][:, None]).sum(axis=1)
        return float(np.mean(1 / np.log2(1 + ranks)))

    return max(
        (LinearSettings(ridge, weight) for ridge, weight in itertools.product(RIDGES, UNSEEN_WEIGHTS)), key=quality
    )


def _normal_equations(
    design: np.ndarray, unseen: np.ndarray, liked: dict[int, bool], unseen_weight: float
) -> tuple[np.ndarray, np.ndarray]:
    met = design[list(liked)]  # [n, T + 1]
    gram = unseen + (1 - unseen_weight) * met.T @ met
    return gram, met.T @ np.array(list(liked.values()), float)


def _with_intercept(traits: np.ndarray) -> np.ndarray:
    return np.hstack([np.ones((len(traits), 1)), traits])
