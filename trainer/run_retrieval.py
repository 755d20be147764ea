"""The entry point that the RetrievalTrainer node names: sequences and items in, the two towers as a SavedModel out."""

from __future__ import annotations

import logging
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from components import settings
from components.config import DataConfig
from components.contract import item_features
from trainer.config import RetrievalConfig
from trainer.data import ItemTable, Sequences
from trainer.export import export
from trainer.keras import tf
from trainer.retrieval import Retrieval, train
from trainer.spectral import positive_matrix, spectral_vectors
from trainer.towers import ItemTower, user_tower


def run_fn(fn_args: Any) -> None:
    """Train the retrieval model and write it to `fn_args.serving_model_dir`, its TensorBoard logs to `fn_args.model_run_dir`.

    fn_args: TFX's FnArgs; `train_files` and `eval_files` are sequence examples, `custom_config` holds `items` (pattern or folder of
    transformed item examples), `data` (DataConfig as JSON) and `retrieval` (RetrievalConfig as JSON).
    Raises ValueError where the train split has nothing to learn from.
    """
    data = settings.from_json(DataConfig, fn_args.custom_config["data"])
    config = settings.from_json(RetrievalConfig, fn_args.custom_config["retrieval"])
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        sizes = vocabulary_sizes(fn_args.transform_graph_path, data) if fn_args.transform_graph_path else {}
        table = ItemTable.build(fn_args.custom_config["items"], data, Path(folder), sizes)
        events = tuple(data.event_rules)
        train_split = Sequences.read(fn_args.train_files, table.index, events)
        eval_split = Sequences.read(fn_args.eval_files, table.index, events)
        model = build(table, train_split, data, config)
        history = train(model, train_split, eval_split, table, Path(fn_args.model_run_dir))
        export(model, table, events, data, fn_args.serving_model_dir, fn_args.transform_graph_path)
    logging.info(
        "retrieval: %d items, %d users, %d interactions, %d epochs, best %s %.4f, %.0f s",
        len(table), len(train_split), len(train_split.items), len(history.epoch), config.metric,
        max(history.history.get(f"val_{config.metric}", [float("nan")])), time.monotonic() - started,
    )  # fmt: skip


def build(table: ItemTable, train_split: Sequences, data: DataConfig, config: RetrievalConfig) -> Retrieval:
    """The untrained model for a catalogue; the same seed gives the same model. Makes the table ready for training.

    Raises ValueError where there is no positive interaction.
    """
    counts = train_split.counts(len(table))
    if not counts.any():
        raise ValueError("the train split has no positive interaction with an item of the catalogue; see event_rules and the rejects")
    tf.keras.utils.set_random_seed(config.seed)
    warm = np.flatnonzero(counts)
    item_tower = ItemTower(table, [table.item_ids[row] for row in warm], counts[warm].tolist(), config, name="item_tower")
    item_tower.prepare(table, fit_on=warm)
    if config.spectral_start:
        chosen = positive_matrix(train_split, len(table))[:, warm]
        item_tower.start_at(spectral_vectors(chosen, config.embedding_dim - config.item_gain, config.seed))
    return Retrieval(item_tower, user_tower(data.event_rules, config), counts / counts.sum(), config)


def vocabulary_sizes(transform_graph: str, data: DataConfig) -> dict[str, int]:
    """Ids of each vocabulary of a transform graph: 0 = absent, 1 = unknown, then its words."""
    import tensorflow_transform as tft  # noqa: PLC0415  (seconds to import, and needed with a transform graph only)

    output = tft.TFTransformOutput(transform_graph)
    names = {feature.vocabulary for feature in item_features(data) if feature.vocabulary}
    return {name: output.vocabulary_size_by_name(name) + 2 for name in names}
