"""Settings of the ranker: its examples, its model, its gate. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from components.config import EventRule


@dataclass(frozen=True)
class RankingConfig:
    """DeepFM over the candidates of retrieval, and what it must reach to be used."""

    targets_per_user: int = 8  # most recent train interactions of a user that become queries
    negatives_from_list: int = 10  # other items of a query, evenly from its list, or beyond it as the target is
    negatives_from_catalogue: int = 1  # and from all items that an answer could hold then
    exposure_window_s: float = 3600.0  # an event answers a list that was shown at most so many seconds before it
    held_out_share: float = 0.25  # of the eval split's users, by whom training stops and probabilities are calibrated
    max_train_examples: int = 40_000  # sampled by query; at most half have a target that retrieval has not seen
    max_eval_examples: int = 12_000  # likewise, of the test split
    max_test_examples: int = 4_000  # TFMA takes seconds a thousand

    embedding_dim: int = 4  # of a field, shared by the factorisation machine and the deep part
    hidden: tuple[int, ...] = (32,)  # units of the deep part
    dropout: float = 0.5  # of the hidden layers
    position_dropout: float = 0.3  # share of training rows whose position in retrieval's list is hidden
    min_count: int = 5  # training rows that a category needs for an embedding
    learning_rate: float = 1e-3  # of AdamW
    weight_decay: float = 1e-3  # of AdamW
    epochs: int = 20  # at most
    patience: int = 3  # epochs without a better validation loss before training stops
    batch_size: int = 512  # rows a step
    seed: int = 7  # of the weights and the order of batches

    weights: dict[str, float] = field(default_factory=dict)  # of objectives in the utility; else the event rule's own
    min_auc: float = 0.55  # of the broadest success, on the test split: below it the ranker is not used
    # How much lower than the last blessed ranker's it may be on the same examples, made by this run's towers.
    max_auc_loss_to_last: float = 0.005

    def __post_init__(self) -> None:
        for name in ("dropout", "position_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}: got {getattr(self, name)}, expected a share from 0 to below 1")
        if not 0 < self.held_out_share < 1:
            raise ValueError(f"held_out_share: got {self.held_out_share}, expected a share above 0 and below 1")
        if self.exposure_window_s < 0:
            raise ValueError(f"exposure_window_s: got {self.exposure_window_s}, expected 0 seconds or more")
        if not 0.5 <= self.min_auc < 1:
            raise ValueError(f"min_auc: got {self.min_auc}, expected at least 0.5, which is chance, and below 1")
        if self.negatives_from_list + self.negatives_from_catalogue < 1:
            raise ValueError(
                "negatives_from_list and negatives_from_catalogue: a query needs at least one item beside its target"
            )


def utility_weights(rules: Mapping[str, EventRule], config: RankingConfig) -> dict[str, float]:
    """The weight of each objective in the utility: as configured, else the event rule's, negative for a failure.

    Raises ValueError for a weight of an event that has no rule.
    """
    unknown = set(config.weights) - set(rules)
    if unknown:
        raise ValueError(f"ranking.weights: no event rule for {', '.join(sorted(unknown))}; known: {', '.join(rules)}")
    return {
        name: config.weights.get(name, rule.weight if rule.positive else -rule.weight) for name, rule in rules.items()
    }


def labels_of(event: str, is_positive: bool, rules: Mapping[str, EventRule]) -> list[int]:
    """The labels of an interaction, 0 or 1 for each objective in the order of the rules.

    An interaction is named by its strongest event, so a stronger success counts for the weaker kinds too. A kind that
    carries a value (`positive_from`) and a kind that is no success have labels from their own events alone.
    """
    weight = rules[event].weight
    return [
        int(is_positive)
        if name == event and rule.positive
        else int(
            name == event or (is_positive and rule.positive and rule.positive_from is None and weight > rule.weight)
        )
        for name, rule in rules.items()
    ]


def broadest_success(rules: Mapping[str, EventRule]) -> str:
    """The objective with the most positive labels: the weakest positive kind that carries no value, if there is one."""
    positive = {name: rule for name, rule in rules.items() if rule.positive}
    return min(positive, key=lambda name: (positive[name].positive_from is not None, positive[name].weight))
