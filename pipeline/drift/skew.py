"""Compares what a version was trained on with what it was asked in serving."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from statistics import median
from typing import Any

from components.settings import SettingsError
from pipeline.config import Config
from pipeline.drift.config import DriftConfig
from pipeline.drift.measures import Compared, Measure, tfdv_measures
from pipeline.drift.requests import Request, statistics_of
from pipeline.store_tables import shown
from serving.gateway.records import Exposure
from serving.gateway.stores.base import StoreUnavailable, open_store

DAY_S = 86_400


@dataclass(frozen=True)
class Skew(Compared):
    """How far the requests that a version answered are from what it was trained on."""

    version: str
    people: int  # who were shown its lists, sessions included
    measures: list[Measure]

    def lines(self) -> list[str]:
        """What is beyond its limit, a line each."""
        return [
            f"{measure.name}: {measure.value:.3g} between training and serving of version {self.version} "
            f"(limit {measure.limit:g})"
            for measure in self.exceeded
        ]


def skew_of(config: Config, url: str) -> Skew:
    """The skew of the newest version, by the requests in a store that it answered.

    With fewer people than `drift.min_people_asked` nothing but its vectors is measured.
    Raises SettingsError where nothing has been pushed, or the artifacts of the version are gone; RuntimeError where the
    store cannot be read.
    """
    from pipeline.drift.trained import TrainedVersion
    from pipeline.local_model import CurrentModel

    model = CurrentModel(config)
    trained = TrainedVersion.of(model.path, model.parts, config.data.history_length)
    if trained is None:
        raise SettingsError(f"what version {model.path.name} was made from is not in {config.work_path}")
    exposures, asked = _asked(config, url, int(model.path.name))
    vectors = vector_measure(trained.vector_difference(), config.drift)
    measures = [vectors] if vectors else []
    if len(exposures) >= config.drift.min_people_asked:
        items, length = trained.known_items(), config.data.history_length
        reference = statistics_of(trained.requests(), items, length)
        measures += skew_measures(reference, statistics_of(asked, items, length), config.drift)
        measures.append(age_measure(exposures, int(model.path.name), config.drift))
    return Skew(model.path.name, len(exposures), measures)


def skew_measures(trained: Mapping[str, Any], served: Mapping[str, Any], limits: DriftConfig) -> Iterator[Measure]:
    """Each column that both sides have, by TFDV's skew comparator. trained, served: statistics by table."""
    for table, statistics in served.items():
        if table in trained:
            yield from tfdv_measures(table, trained[table], statistics, "skew", limits.max_category_skew,
                                     limits.max_number_skew)  # fmt: skip


def vector_measure(difference: float, limits: DriftConfig) -> Measure | None:
    """Of `TrainedVersion.vector_difference`; None where that is NaN."""
    return None if isnan(difference) else Measure("people's vectors", difference, limits.max_vector_difference)


def age_measure(exposures: list[Exposure], version: int, limits: DriftConfig) -> Measure:
    """Days from the push to the requests, the median. version: a version is named by the second of its push."""
    days = median((exposure.time_s - version) / DAY_S for exposure in exposures)
    return Measure("days since the push", max(days, 0.0), limits.max_model_age_days)


def _asked(config: Config, url: str, version: int) -> tuple[list[Exposure], list[Request]]:
    from pipeline.drift.asked import asked_requests, exposures_of

    async def go() -> tuple[list[Exposure], list[Request]]:
        store = open_store(url)
        await store.open()
        try:
            exposures = await exposures_of(store, version)
            rules, most = config.data.event_rules, config.gateway.history_events
            return exposures, await asked_requests(store, exposures, rules, most)
        finally:
            await store.close()

    if "://" not in url and not Path(url).is_file():
        raise SettingsError(f"there is no store {shown(url)}: ./zhiyin up makes it")
    try:
        return asyncio.run(go())
    except StoreUnavailable as error:
        raise RuntimeError(f"{shown(url)}: {error}") from error
