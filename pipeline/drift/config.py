"""Limits beyond which the world is said to have moved since the model that is compared with, or since its training."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class DriftConfig:
    """How far the data and the lists of a run may be from those of the last blessed run, and requests from training;
    .inf switches a limit off."""

    max_category_change: float = 0.1  # of the share of a value of a column (L-infinity distance), as TFDV measures it
    max_number_divergence: float = 0.1  # of a column of numbers (Jensen-Shannon divergence, 0 to 1), likewise
    max_content_shift: float = 0.35  # of the catalog's mean sound and picture, in standard deviations of an item
    max_taste_shift: float = 0.35  # likewise, each item weighed by its interactions
    max_domain_change: float = 0.1  # of a domain's share of the interactions
    max_popularity_change: float = 0.1  # of the Gini coefficient of interactions over items
    max_cold_change: float = 0.15  # of the share of items without an interaction
    max_coverage_change: float = 0.15  # of the share of items that the lists of ten show, to about as many people
    max_category_skew: float = 0.15  # as max_category_change, between training and what is asked in serving
    max_number_skew: float = 0.15  # as max_number_divergence, likewise
    max_vector_difference: float = 1e-5  # of a person's vector by the trainer's towers and by the export
    max_model_age_days: float = 30.0  # from the push to the requests, the median
    min_people_asked: int = 200  # with fewer who were shown lists nothing is said of serving

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not value > 0:
                raise ValueError(f"{field.name}: got {value}, expected a number above 0 (.inf: no limit)")
