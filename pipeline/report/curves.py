"""The learning curves that the trainers recorded, from their TensorBoard logs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.run_history import RunRecord

TRAINERS = {  # node -> as a reader would say it, the output with its logs
    "Pretraining": ("Pretraining", "weights"),
    "RetrievalTrainer": ("Retrieval", "model_run"),
    "RankingTrainer": ("Ranker", "model_run"),
}
_EPOCH = "epoch_"  # what Keras writes before a metric's name


@dataclass(frozen=True)
class Curve:
    """One number by epoch."""

    trainer: str  # as a reader would say it
    name: str  # e.g. "loss", "validation NDCG@10"
    epochs: list[int]
    values: list[float]


def read_curves(run: RunRecord) -> list[Curve]:
    """Every curve that the trainers of a run recorded."""
    folders = {title: run.output(node, output) for node, (title, output) in TRAINERS.items()}
    return [curve for title, folder in folders.items() if folder for curve in _of_logs(title, folder)]


def _of_logs(trainer: str, folder: Path) -> list[Curve]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    curves = []
    for logs in sorted({path.parent for path in folder.rglob("events.out.tfevents.*")}):
        events = EventAccumulator(str(logs), size_guidance={"tensors": 0}).Reload()
        part = " ".join(logs.relative_to(folder).parts).replace("train", "").replace("logs", "").strip()
        for tag in events.Tags()["tensors"]:
            points = events.Tensors(tag)
            values = [float(make_ndarray(point.tensor_proto)) for point in points]
            name = f"{part} {tag.removeprefix(_EPOCH).replace('val_', 'validation ')}".strip()
            curves.append(Curve(trainer, name, [point.step + 1 for point in points], values))
    return curves
