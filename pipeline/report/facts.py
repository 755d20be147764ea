"""Everything that a report says of one run, read from what the run left behind."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.config import Config
from pipeline.drift.check import Drift, drift_of
from pipeline.drift.measures import Measure
from pipeline.drift.record import read_skew
from pipeline.drift.skew import Skew, vector_measure
from pipeline.lineage import parts_of_version
from pipeline.report.curves import Curve, read_curves
from pipeline.report.health import Health, read_health
from pipeline.report.items import ItemMap, read_item_map
from pipeline.report.quality import PastRun, Quality, past_runs, read_quality
from pipeline.report.ranker import Ranker, read_ranker
from pipeline.report.sample_lists import SampleList, read_sample_lists
from pipeline.run_history import RunRecord

FOLDER = "report"  # in the work folder


@dataclass(frozen=True)
class Facts:
    """What is known of one run; a part that the run did not make, or that was purged since, is None or empty."""

    name: str  # of the pipeline
    run: RunRecord
    quality: Quality | None
    past: list[PastRun]
    curves: list[Curve]
    ranker: Ranker | None
    index: dict[str, Any] | None  # the report of ItemIndex (docs/artifacts.md)
    item_map: ItemMap | None
    lists: list[SampleList]
    health: Health
    drift: Drift | None  # since the last blessed run before it
    vectors: Measure | None  # of the newest run: how far the export's vectors of people are from the trained towers'
    skew: Skew | None  # of the newest run: between training and what was asked in serving, as it was measured last
    privacy: dict[str, Any] | None  # the retrieval model's guarantee (`trainer.privacy_report`)


def read_facts(config: Config, run: RunRecord, runs: Sequence[RunRecord]) -> Facts:
    """The facts of a run of a pipeline. runs: all of its work folder, for what came before."""
    quality = read_quality(run)
    is_newest = run is runs[-1]
    return Facts(
        name=config.name,
        run=run,
        quality=quality,
        past=past_runs(runs, run, quality) if quality else [],
        curves=read_curves(run),
        ranker=read_ranker(run),
        index=_index(run),
        item_map=read_item_map(run),
        lists=read_sample_lists(run),
        health=read_health(run),
        drift=drift_of(run, runs, config.drift),
        vectors=_vectors(config, run) if is_newest else None,
        skew=read_skew(config.work_path / FOLDER) if is_newest else None,
        privacy=_privacy(run),
    )


def numbers(facts: Facts) -> dict[str, float]:
    """The numbers of a run under names that stay: what is compared between runs and given to trackers."""
    found: dict[str, float] = {}
    if facts.quality:
        for part in facts.quality.slices:
            for metric, interval in part.methods.get("ours", {}).items():
                found[f"test/{part.name}/{metric}"] = interval.value
    for objective in facts.ranker.objectives if facts.ranker else ():
        found[f"ranker/{objective.name}/AUC"] = objective.auc
        found[f"ranker/{objective.name}/log loss"] = objective.log_loss
        found[f"ranker/{objective.name}/calibration"] = objective.calibration
    if facts.index:
        found["index/items"] = float(facts.index["num_items"])
        found |= {f"index/recall@{k}": recall for k, recall in facts.index["recall"].items()}
    for stage in facts.health.stages:
        found[f"data/{stage.name}/accepted"] = float(stage.accepted)
        found[f"data/{stage.name}/rejected"] = float(sum(stage.rejects.values()))
    for measure in facts.drift.measures if facts.drift else ():
        found[f"drift/{measure.name}"] = measure.value
    if facts.vectors:
        found[f"skew/{facts.vectors.name}"] = facts.vectors.value
    for measure in facts.skew.measures if facts.skew else ():
        found[f"skew/{measure.name}"] = measure.value
    for node in facts.run.nodes.values():
        found[f"seconds/{node.name}"] = node.seconds
    return found


def _index(run: RunRecord) -> dict[str, Any] | None:
    folder = run.output("ItemIndex", "index")
    return json.loads((folder / "report.json").read_text(encoding="utf-8")) if folder else None


def _vectors(config: Config, run: RunRecord) -> Measure | None:
    servable = run.output("Recommender", "exact")
    if servable is None or not run.version:
        return None
    from pipeline.drift.trained import TrainedVersion

    parts = parts_of_version(config.work_path, config.name, run.version)
    trained = TrainedVersion.of(servable / "Format-Serving", parts, config.data.history_length)
    return vector_measure(trained.vector_difference(), config.drift) if trained else None


def _privacy(run: RunRecord) -> dict[str, Any] | None:
    from trainer.privacy_report import read_report

    folder = run.output("RetrievalTrainer", "model")
    return read_report(str(folder / "Format-Serving")) if folder else None
