"""Settings of the ranker: its examples, its model, its gate. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from components.config import EventRule


@dataclass(frozen=True)
class RankingConfig:
    """DeepFM over the candidates of retrieval, and what it must reach to be used."""

    targets_per_user: int = 8  # most recent train interactions of a person that become queries
    negatives_from_list: int = 10  # other items of a query, drawn evenly from retrieval's list at that time
    negatives_from_catalogue: int = 1  # and from all items
    held_out_share: float = (
        0.25  # of the people of the eval split: training stops and probabilities are calibrated by them
    )
    max_train_examples: int = (
        40_000  # what goes beyond is thinned out by query; at most half is what retrieval was not fitted on
    )
    max_eval_examples: int = 12_000
    max_test_examples: int = 4_000  # TFMA takes seconds a thousand

    embedding_dim: int = 4  # of a field's vector, shared by the factorisation machine and the deep part
    hidden: tuple[int, ...] = (32,)  # units of the deep part
    dropout: float = 0.5
    position_dropout: float = (
        0.3  # share of training rows whose place in retrieval's list is hidden, as it is when serving
    )
    min_count: int = 5  # a name of a category needs so many training rows for a vector of its own
    learning_rate: float = 1e-3
    weight_decay: float = 1e-3
    epochs: int = 20  # at most
    patience: int = 3  # epochs without a better validation loss before training stops
    batch_size: int = 512  # rows a step
    seed: int = 7

    weights: dict[str, float] = field(
        default_factory=dict
    )  # of the objectives in the utility; the event rules' own where not named
    min_auc: float = 0.55  # of the broadest success, on the test split: below it the ranker is not used
    max_auc_loss_to_last: float = 0.005  # how much lower than the last blessed ranker's it may be on the same examples

    def __post_init__(self) -> None:
        for name in ("dropout", "position_dropout", "held_out_share"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}: got {getattr(self, name)}, expected a share from 0 to below 1")
        if not 0.5 <= self.min_auc < 1:
            raise ValueError(f"min_auc: got {self.min_auc}, expected at least 0.5, which is chance, and below 1")
        if self.negatives_from_list + self.negatives_from_catalogue < 1:
            raise ValueError(
                "negatives_from_list and negatives_from_catalogue: a query needs at least one item beside its target"
            )


def utility_weights(rules: Mapping[str, EventRule], config: RankingConfig) -> dict[str, float]:
    """The weight of each objective in the utility: as configured, else the rule's, negative where the event is no success.

    Raises ValueError for a weight of an event that has no rule.
    """
    unknown = set(config.weights) - set(rules)
    if unknown:
        raise ValueError(f"ranking.weights: no event rule for {', '.join(sorted(unknown))}; known: {', '.join(rules)}")
    return {
        name: config.weights.get(name, rule.weight if rule.positive else -rule.weight) for name, rule in rules.items()
    }


def labels_of(event: str, is_positive: bool, rules: Mapping[str, EventRule]) -> list[int]:
    """What an interaction says for each objective, in the order of the rules: 0 or 1.

    A visit is named by its strongest event, so a stronger success counts for the weaker kinds too. A kind that carries a value
    (`positive_from`) and a kind that is no success are told by their own events alone.
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
    """The objective that most successes count for: the weakest positive kind that carries no value, if there is one."""
    positive = {name: rule for name, rule in rules.items() if rule.positive}
    return min(positive, key=lambda name: (positive[name].positive_from is not None, positive[name].weight))
