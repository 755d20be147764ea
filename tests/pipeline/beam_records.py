"""What the Beam nodes before training write, as records that can be compared over engines."""

from __future__ import annotations

from pathlib import Path

from pipeline import config as configuration
from pipeline.beam_engine import BeamConfig

OUTPUTS = (
    ("CatalogGen", "examples"),
    ("MediaFeatures", "examples"),
    ("Interactions", "sequences"),
    ("ItemTransform", "transformed_examples"),
)


def small_world(folder: Path) -> Path:
    """The folder, with 12 items and their media, and 300 events of 20 people."""
    from pipeline.sources.demo.dataset import DemoConfig, write_demo

    write_demo(folder, DemoConfig(seed=1, num_items=12, num_people=20, num_events=300))
    return folder


def before_training(world: Path, work_path: Path, beam: BeamConfig, up_to: str = "") -> dict[str, list]:
    """The records of tables, media features, sequences and transformed items, sorted; by node and split.

    up_to: the node to end with, and what must come before it; all of them where empty.
    """
    from components.config import DataConfig, TableConfig
    from pipeline import dags, workflows
    from pipeline.local_runner import run_locally
    from serving.config import EvaluationConfig

    data = DataConfig(
        TableConfig(str(world / "catalogue.csv")),
        TableConfig(str(world / "events.csv")),
        media_root=str(world),
        max_reject_share=0.5,
    )
    evaluation = EvaluationConfig(min_gain_over_popularity=0, max_loss_to_last=0)
    config = configuration.Config("tiny", data, evaluation, work_dir=str(work_path))
    nodes = dags.train(config, workflows._paths_of(config))
    last = [node.id for node in nodes].index(OUTPUTS[-1][0])
    stages = run_locally(
        nodes[: last + 1], "tiny", work_path, lambda *_: None, lambda _: None, up_to, beam_arguments=beam.arguments
    )
    return {
        f"{node} {split.name}": records(split)
        for node, output in OUTPUTS
        if node in stages
        for split in sorted(stages[node].uri(output).glob("Split-*"))
    }


def records(split: Path) -> list[bytes]:
    """The records of a split's files, sorted; the same Example gives the same bytes, in whatever order its features
    were added."""
    import tensorflow as tf

    found = tf.data.TFRecordDataset([str(path) for path in split.iterdir()], "GZIP").as_numpy_iterator()
    return sorted(tf.train.Example.FromString(record).SerializeToString(deterministic=True) for record in found)
