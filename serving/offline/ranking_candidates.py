"""The items beside the target of a ranking query: what was shown and not taken, else a sample.

Q queries, O objectives, N items.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from components.datasets.exposures import ShownLists
from components.datasets.interactions import Interactions
from trainer.config.ranking import RankingConfig
from trainer.evaluation.highest import first_k


@dataclass(frozen=True)
class Queries:
    """Interactions to be ranked among others. people: a row for each query, cut before the target.

    targets, users: int [Q]. positives: bool [Q], whether the target was liked. stops: int [Q], how many interactions
    came before. later: what the person takes afterwards, which is no example of what they do not take.
    """

    people: Interactions
    targets: np.ndarray
    positives: np.ndarray
    labels: np.ndarray  # float32 [Q, O]
    times_s: np.ndarray  # float64 [Q], NaN without time
    stops: np.ndarray
    later: list[np.ndarray]
    ids: list[str]
    fitted: bool  # whether retrieval was fitted on the targets


class Sampling(NamedTuple):
    """How the items beside a target are found."""

    config: RankingConfig
    list_length: int  # of retrieval's list
    shown: ShownLists | None  # lists that people were shown; None where there are none


def candidates_of(
    queries: Queries, row: int, scores: np.ndarray, sampling: Sampling, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """The items of a query, the target first, and the positions by which training explains that they were taken.

    Where a list that held the target was shown, the others are what was shown in it and not taken, with the positions
    of that list (from 1 on). Else they are sampled, with their places in retrieval's list, which are unknown (0) as
    soon as there are lists that were shown: a position then means where people saw an item, and nothing else.
    scores: float [N], retrieval's, -inf for items that did not exist yet.
    """
    if sampling.shown is None:
        return _sampled(queries, row, scores, sampling, generator)
    user_id, time_s = queries.people.user_ids[row], float(queries.times_s[row])
    shown = sampling.shown.holding(user_id, int(queries.targets[row]), time_s, sampling.config.exposure_window_s)
    if shown is not None:
        items, positions = _shown(queries, row, *shown, sampling.config.negatives_from_list, generator)
        if len(items) > 1:
            return items, positions
    items, _ = _sampled(queries, row, scores, sampling, generator)
    return items, np.zeros(len(items), np.int64)


def _shown(
    queries: Queries, row: int, shown: np.ndarray, positions: np.ndarray, most: int, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """The target and what else a list showed and the person never took, at most so many, with their positions."""
    start, target = queries.people.splits[row], queries.targets[row]
    before = queries.people.items[start : start + queries.stops[row]]
    is_free = ~np.isin(shown, np.concatenate([before, queries.later[row], [target]]))
    free = np.flatnonzero(is_free)
    others = np.sort(generator.choice(free, min(most, len(free)), replace=False))
    places = np.concatenate([np.flatnonzero(shown == target), others])
    return shown[places], positions[places]


def _sampled(
    queries: Queries, row: int, scores: np.ndarray, sampling: Sampling, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """The target and others beside it, and their places in retrieval's list (0 = beyond it).

    A target of the list stands beside others of the list, one beyond it beside others beyond it, drawn evenly. Else
    the place alone would tell them apart: where people choose by chance, most targets lie beyond the list.
    """
    config, people, target = sampling.config, queries.people, queries.targets[row]
    start, end = people.splits[row], people.splits[row] + queries.stops[row]
    scores = scores.copy()
    scores[people.items[start:end]] = -np.inf  # an answer leaves out what the person has taken
    (order,) = first_k(scores[None], min(sampling.list_length, int(np.isfinite(scores).sum())))
    place = np.zeros(len(scores), np.int64)
    place[order] = np.arange(1, len(order) + 1)
    is_free = np.isfinite(scores)
    is_free[target] = False
    alike = np.flatnonzero(is_free & ((place > 0) == (place[target] > 0)))
    drawn = generator.choice(alike, min(config.negatives_from_list, len(alike)), replace=False)
    is_free[drawn] = False
    anywhere = np.flatnonzero(is_free)
    rest = generator.choice(anywhere, min(config.negatives_from_catalogue, len(anywhere)), replace=False)
    items = np.concatenate([[target], drawn, rest]).astype(np.int32)
    return items, place[items]
