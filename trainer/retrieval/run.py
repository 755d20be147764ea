"""The entry point that the RetrievalTrainer node names: sequences and items in, the two towers as a SavedModel out.

By hand, on each of several machines with TF_CONFIG set (docs/training.md): python -m trainer.retrieval.run ARGUMENTS.json
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
import time
import types
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from components import settings
from components.config import DataConfig
from components.contract import item_features
from components.datasets.interactions import Interactions, read_interactions
from components.pretrained_config import Encoders, PretrainedConfig
from trainer.checkpoints import Checkpoints, fingerprint
from trainer.config.engine import EngineConfig
from trainer.config.retrieval import RetrievalConfig
from trainer.config.tuning import with_settings
from trainer.content.pretraining import read_weights
from trainer.data import ItemTable
from trainer.keras import tf
from trainer.ranking.train_cross_attention import fit_cross_attention
from trainer.retrieval.content_init import content_directions
from trainer.retrieval.export import export
from trainer.retrieval.item_tower import ItemTower
from trainer.retrieval.model import Retrieval, train
from trainer.retrieval.svd_init import positive_matrix, spectral_vectors
from trainer.retrieval.user_features import KnownUsers, read_known_users
from trainer.retrieval.user_tower import user_tower
from trainer.strategy import is_chief, strategy_for


def run_fn(fn_args: Any) -> None:
    """Train the retrieval model and write it to `fn_args.serving_model_dir`, its TensorBoard logs to `fn_args.model_run_dir`.

    fn_args: TFX's FnArgs; `train_files` and `eval_files` are sequence examples, `custom_config` holds `items` (pattern or folder of
    transformed item examples), where the user tower is to know more than histories `users` (examples of the users table), `data`,
    `retrieval` and `engine` (DataConfig, RetrievalConfig, EngineConfig as JSON), `checkpoints`, a folder that outlives a killed attempt,
    where text encoders are tuned, `tuned` (Encoders as JSON), and where encoders are pretrained on the catalogue, `encoder_weights` (folder
    of `trainer.content.run_pretraining`). `hyperparameters` are settings that replace those of `retrieval`.
    With TF_CONFIG, call it with the same arguments on every worker; the folder must be one that all share.
    Raises ValueError where the train split has nothing to learn from.
    """
    engine = settings.from_json(EngineConfig, fn_args.custom_config["engine"])
    strategy = strategy_for(engine)
    data = settings.from_json(DataConfig, fn_args.custom_config["data"])
    config = with_settings(
        settings.from_json(RetrievalConfig, fn_args.custom_config["retrieval"]), fn_args.hyperparameters or {}
    )
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        sizes = vocabulary_sizes(fn_args.transform_graph_path, data) if fn_args.transform_graph_path else {}
        table = ItemTable.build(fn_args.custom_config["items"], data, Path(folder, "items"), sizes)
        events = tuple(data.event_rules)
        train_split = read_interactions(fn_args.train_files, table.item_ids, events, Path(folder, "train"))
        eval_split = read_interactions(fn_args.eval_files, table.item_ids, events, Path(folder, "eval"))
        tuned = settings.from_json(Encoders, fn_args.custom_config.get("tuned", "{}")).each
        users = read_known_users(fn_args.custom_config.get("users"), data, train_split, config)
        if users:
            train_split, eval_split = (
                replace(split, known_rows=users.rows_of(split.user_ids)) for split in (train_split, eval_split)
            )
        outputs = (
            (fn_args.serving_model_dir, fn_args.model_run_dir) if is_chief() else (f"{folder}/model", f"{folder}/run")
        )
        checkpoints = checkpoints_of(fn_args, strategy.num_replicas_in_sync, engine)
        with strategy.scope():
            model = build(
                table, train_split, data, config, users, tuned, fn_args.custom_config.get("encoder_weights", "")
            )
            history = train(model, train_split, eval_split, table, Path(outputs[1]), is_chief(), engine, checkpoints)
        attention = fit_cross_attention(model, model.item_tower.encode(table), train_split, eval_split)
        export(model, attention, table, events, data, outputs[0], fn_args.transform_graph_path)
        checkpoints.remove()
    logging.info(
        "retrieval: %d items, %d users, %d interactions, %d epochs, best %s %.4f, %.0f s",
        len(table), len(train_split), len(train_split.items), len(history.epoch), config.metric,
        max(history.history.get(f"val_{config.metric}", [float("nan")])), time.monotonic() - started,
    )  # fmt: skip


def checkpoints_of(fn_args: Any, replicas: int, engine: EngineConfig) -> Checkpoints:
    """The checkpoints of this training: equal inputs, settings, code and replicas find each other's."""
    config = dict(fn_args.custom_config)
    where = config.pop("checkpoints")
    inputs = [*fn_args.train_files, *fn_args.eval_files, config["items"], *filter(None, [config.get("users")])]
    name = fingerprint(inputs, config, fn_args.hyperparameters, replicas)
    return Checkpoints(where, name, engine.checkpoint_every_s, is_chief())


def build(
    table: ItemTable,
    train_split: Interactions,
    data: DataConfig,
    config: RetrievalConfig,
    users: KnownUsers | None = None,
    tuned: Sequence[PretrainedConfig] = (),
    encoder_weights: str = "",
) -> Retrieval:
    """The untrained model for a catalogue; the same seed gives the same model. Makes the table ready for training.

    tuned: the text encoders behind the modalities `pieces_<name>`. encoder_weights: folder of `trainer.content.run_pretraining`, from which the
    encoders start; none where empty.
    Raises ValueError where there is no positive interaction.
    """
    counts = train_split.counts(len(table))
    if not counts.any():
        raise ValueError(
            "the train split has no positive interaction with an item of the catalogue; see event_rules and the rejects"
        )
    tf.keras.utils.set_random_seed(config.seed)
    warm = np.flatnonzero(counts)
    weights = read_weights(encoder_weights) if encoder_weights else {}
    warm_ids = [table.item_ids[row] for row in warm]
    item_tower = ItemTower(table, warm_ids, counts[warm].tolist(), config, tuned, tuple(weights), name="item_tower")
    item_tower.prepare(table, warm, weights)
    if config.spectral_start:
        chosen = positive_matrix(train_split, len(table))
        dim = config.embedding_dim // config.side_by_side - config.item_gain
        content = None
        if item_tower.encoders:
            known = content_directions(item_tower, table, warm, spectral_vectors(chosen, dim, config.seed)[warm])
            content = np.zeros((len(table), known.shape[1]), np.float32)
            content[warm] = known
        starts = [
            spectral_vectors(chosen, dim, config.seed + part, content)[warm] for part in range(config.side_by_side)
        ]
        item_tower.start_at(np.concatenate(starts, 1))
    model = Retrieval(item_tower, user_tower(data, config, users), counts / counts.sum(), config, data.history_length)
    nobody = {
        "items": np.zeros((1, 1), np.int32),
        "events": np.zeros((1, 1), np.int32),
        "age_s": np.zeros((1, 1), np.float32),
    }
    nobody["users"] = np.zeros(1, np.int32)
    model.encode_users(
        tf.constant(item_tower.encode_own(table)), **nobody
    )  # builds every variable, before a checkpoint is read
    return model


def vocabulary_sizes(transform_graph: str, data: DataConfig) -> dict[str, int]:
    """Ids of each vocabulary of a transform graph: 0 = absent, 1 = unknown, then its words."""
    import tensorflow_transform as tft  # noqa: PLC0415  (seconds to import, and needed with a transform graph only)

    output = tft.TFTransformOutput(transform_graph)
    names = {feature.vocabulary for feature in item_features(data) if feature.vocabulary}
    return {name: output.vocabulary_size_by_name(name) + 2 for name in names}


if __name__ == "__main__":
    run_fn(types.SimpleNamespace(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
