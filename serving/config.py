"""Settings of serving: the index, the answer, and what a model must reach to be published. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from trainer.config.retrieval import cutoff_of

MAX_K = 10_000  # a longer list is a mistake in the request


@dataclass(frozen=True)
class IndexConfig:
    """How the catalogue is searched. Zeros mean: derived from the number of items, see `serving.index`."""

    kind: Literal["auto", "exact", "scann"] = "auto"  # auto: exact below `exact_below` items, else ScaNN
    exact_below: int = 2000  # items
    candidates: int = 200  # items that ScaNN hands on to the rules; recall is measured here too
    num_leaves: int = 0  # ScaNN partitions; 0 = the square root of the number of items
    leaves_to_search: int = 0  # 0 = the fewest that reach `min_recall` when measured
    reorder: int = 0  # approximate candidates that are scored exactly; 0 = the fewest that do
    min_recall: float = 0.95  # below this, at 10 or at `candidates`, an index is not published
    measured_queries: int = 500  # user vectors that recall is measured on
    insert_capacity: int = 1000  # items that can be added to the served catalogue between two builds
    rebuild_after_inserts: int = 500  # so many items added since the build: `zhiyin add` then runs the refresh

    def __post_init__(self) -> None:
        if not 0 <= self.min_recall <= 1:
            raise ValueError(f"min_recall: got {self.min_recall}, expected a share between 0 and 1")
        if self.candidates < 10:
            raise ValueError(f"candidates: got {self.candidates}, expected at least 10")
        if self.rebuild_after_inserts < 1:
            raise ValueError(f"rebuild_after_inserts: got {self.rebuild_after_inserts}, expected at least 1")
        if self.insert_capacity < 0:
            raise ValueError(f"insert_capacity: got {self.insert_capacity}, expected 0 or more")
        if self.num_leaves == 1:
            raise ValueError(
                "num_leaves: ScaNN with one leaf answers every query with item 0; leave it at 0 or take at least 2"
            )


@dataclass(frozen=True)
class EvaluationConfig:
    """What the evaluation reports, and what a model must reach to be blessed."""

    cutoffs: tuple[int, ...] = (10, 20, 50)  # lengths of the list
    metric: str = "NDCG@10"  # the number that decides
    min_gain_over_popularity: float | None = None  # the model's `metric` minus popularity's must be above this
    max_loss_to_last: float | None = None  # how much lower than the last blessed model's it may be
    active_from: int = 20  # a user with at least so many interactions before the split is active, with none new
    seed: int = 0  # of the bootstrap and of the random baseline

    def __post_init__(self) -> None:
        if not self.cutoffs or min(self.cutoffs) < 1:
            raise ValueError(f"cutoffs: got {self.cutoffs}, expected lengths of at least 1")
        if cutoff_of(self.metric) not in self.cutoffs:
            raise ValueError(f"metric: {self.metric!r} is not at one of the cutoffs {self.cutoffs}")
        missing = [name for name in ("min_gain_over_popularity", "max_loss_to_last") if getattr(self, name) is None]
        if missing:
            raise ValueError(
                f"no threshold is set for {' and '.join(missing)}: a model could then be neither blessed nor refused"
            )


@dataclass(frozen=True)
class ListDefaults:
    """What holds for a list where the request says nothing (0); a request overrides it by a value, or by -1 for
    none.
    """

    diversity: float = 0.0  # weight of novelty beside relevance, 0 to 1
    max_per_creator: int = 0  # at most so many items of a creator; 0 = any number
    explore_share: float = 0.0  # chance of each position to go to any candidate, 0 to 1

    def __post_init__(self) -> None:
        for name in ("diversity", "explore_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: got {getattr(self, name)}, expected a share between 0 and 1")
        if self.max_per_creator < 0:
            raise ValueError(f"max_per_creator: got {self.max_per_creator}, expected 0 or more")


@dataclass(frozen=True)
class ServingConfig:
    """The answer and its index."""

    index: IndexConfig = IndexConfig()
    # How near two vectors are in `similar` (trainer/retrieval/similarity.py). Vectors have unit norm: the first three
    # order alike.
    similar_by: Literal["dot", "cosine", "euclidean", "hamming"] = "dot"
    defaults: ListDefaults = ListDefaults()  # in every answer: command line, model server, gateway
    show_unreleased: bool = False  # whether items are shown before their `published_at`
