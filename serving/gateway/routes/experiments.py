"""Experiments: how each variant does."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Annotated

import numpy as np
from fastapi import APIRouter, Path
from pydantic import BaseModel, Field

from serving.gateway.problems import not_found, responses
from serving.gateway.readout import Difference, Readout, read_out
from serving.gateway.routes.dependencies import COMMON_ERRORS, ServiceOf, permitted
from serving.gateway.schemas import Word
from serving.gateway.service import Service

router = APIRouter(prefix="/v1", tags=["experiments"], responses=responses(*COMMON_ERRORS))


class DifferenceOut(BaseModel):
    """A variant's rate minus the first one's."""

    value: float
    low: float | None = Field(description="95 %, for one look at a time set before; null while nothing can be told")
    high: float | None
    always_low: float | None = Field(description="95 % over all looks together, however often one looks")
    always_high: float | None


class ArmOut(BaseModel):
    """One variant."""

    name: str
    people: int = Field(description="who were shown a list")
    lists: int
    successes: int = Field(description="positive events that name one of the lists")
    rate: float = Field(description="successes a list")
    low: float | None
    high: float | None
    difference: DifferenceOut | None = None


class ReadoutOut(BaseModel):
    """How an experiment stands."""

    name: str
    variants: list[ArmOut]
    split_p_value: float = Field(description="chi-squared test of the numbers of people against the shares")
    split_is_broken: bool = Field(description="the split is not the configured one: do not trust the rates")


@router.get("/experiments/{name}", dependencies=permitted("admin"), responses=responses(404), operation_id="experiment")
async def experiment(name: Annotated[Word, Path()], service: ServiceOf) -> ReadoutOut:
    """People, lists, rates and differences with intervals, of each variant."""
    if name not in service.settings.gateway.experiments:
        raise not_found("such experiment")
    return _out(await readout_of(service, name))


async def readout_of(service: Service, name: str) -> Readout:
    """The experiment from the lists that were shown and the events that name them."""
    await service.exposures.flush()
    rules, variants = service.settings.data.event_rules, service.settings.gateway.experiments[name].variants
    variant_of: dict[str, tuple[str, str]] = {}  # request id -> variant, person
    numbers: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0, 0.0])
    async for shown in service.store.exposures():
        variant = shown.variants.get(name)
        if variant in variants:
            variant_of[shown.request_id] = (variant, shown.user_id)
            numbers[variant, shown.user_id][1] += 1
    async for event in service.store.events():
        place = variant_of.get(event.request_id)
        rule = rules.get(event.event)  # none where the configuration has dropped the kind since
        if place and event.user_id == place[1] and rule is not None and rule.is_positive(event.value):
            numbers[place][0] += 1
    people = {
        variant: np.array([row for (of, _), row in numbers.items() if of == variant], float).reshape(-1, 2)
        for variant in variants
    }
    return read_out(name, {variant: config.share for variant, config in variants.items()}, people)


def _out(found: Readout) -> ReadoutOut:
    return ReadoutOut(
        name=found.name,
        split_p_value=found.split.p_value,
        split_is_broken=found.split.is_broken,
        variants=[
            ArmOut(
                name=arm.name, people=arm.people, lists=arm.lists, successes=arm.successes, rate=arm.rate,
                low=_finite(arm.low), high=_finite(arm.high), difference=_difference(arm.difference),
            )
            for arm in found.variants
        ],
    )  # fmt: skip


def _difference(found: Difference | None) -> DifferenceOut | None:
    if found is None:
        return None
    return DifferenceOut(
        value=found.value,
        low=_finite(found.low),
        high=_finite(found.high),
        always_low=_finite(found.always_low),
        always_high=_finite(found.always_high),
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
