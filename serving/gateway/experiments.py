"""Which variant of an experiment a person is in: a keyed hash, so that every gateway says the same without asking
anybody."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace

from serving.gateway.config import ExperimentConfig, VariantConfig
from serving.gateway.model_requests import RecommendRequest, option_of

_POINTS = 2**64


def share_point(salt: str, user_id: str) -> float:
    """A number in [0, 1) that is uniform over people and independent between salts."""
    digest = hashlib.blake2b(user_id.encode(), digest_size=8, key=hashlib.sha256(salt.encode()).digest()).digest()
    return int.from_bytes(digest, "big") / _POINTS


def variant_of(name: str, experiment: ExperimentConfig, user_id: str) -> str:
    """The variant's name."""
    point, edge = share_point(experiment.salt or name, user_id), 0.0
    for variant, config in experiment.variants.items():
        edge += config.share
        if point < edge:
            return variant
    return next(reversed([name for name, config in experiment.variants.items() if config.share > 0]))


def assignments(experiments: Mapping[str, ExperimentConfig], user_id: str) -> dict[str, str]:
    """Experiment -> variant; nobody in particular is in none."""
    if not user_id:
        return {}
    return {name: variant_of(name, experiment, user_id) for name, experiment in experiments.items()}


def applied(
    request: RecommendRequest, variant: VariantConfig, kinds: tuple[str, ...], stated: frozenset[str]
) -> RecommendRequest:
    """The request under a variant. stated: names of what the caller has said, which stays."""
    changes: dict = {}
    if variant.model:
        changes["model"] = variant.model
    if variant.version_label:
        changes["version_label"] = variant.version_label
    if variant.objective_weights and "objective_weights" not in stated:
        changes["objective_weights"] = tuple(variant.objective_weights.get(kind, 0.0) for kind in kinds)
    if variant.diversity is not None and "diversity" not in stated:
        changes["diversity"] = option_of(variant.diversity)
    if variant.exploration_rate is not None and "exploration_rate" not in stated:
        changes["exploration_rate"] = option_of(variant.exploration_rate)
    if variant.max_per_creator is not None and "max_per_creator" not in stated:
        changes["rules"] = replace(request.rules, max_per_creator=option_of(variant.max_per_creator))
    return replace(request, **changes)
