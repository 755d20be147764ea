"""The entry point of the retrieval trainer: sequences and items -> the two towers as a SavedModel.

By hand, on each of several machines with TF_CONFIG set (docs/training.md): python -m trainer.retrieval.run
ARGUMENTS.json
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
import time
import types
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from components.config import DataConfig
from components.datasets.interactions import Interactions, read_interactions
from components.pretrained_config import Encoders, PretrainedConfig
from components.settings import from_json
from trainer.checkpoints import Checkpoints, fingerprint
from trainer.config.engine import EngineConfig
from trainer.config.privacy import DifferentialConfig, check_private
from trainer.config.retrieval import RetrievalConfig
from trainer.config.tuning import with_settings
from trainer.content.fit import ContentReport
from trainer.data import ItemTable, vocabulary_sizes
from trainer.encoders.weights import read_weights
from trainer.keras import tf
from trainer.loop import EpochLog, ProgressBar
from trainer.privacy_report import write_report
from trainer.retrieval.content_init import content_directions
from trainer.retrieval.cross_attention import CrossAttention
from trainer.retrieval.export import export
from trainer.retrieval.fitted import Fitted, write_fitted, write_measured
from trainer.retrieval.model import OBJECTIVES, Retrieval
from trainer.retrieval.svd_init import positive_matrix, svd_vectors
from trainer.retrieval.train import train
from trainer.retrieval.train_cross_attention import fit_cross_attention
from trainer.strategy import among_workers, is_chief, strategy_for
from trainer.towers.item_tower import ItemTower
from trainer.towers.user_features import UserFeatures, read_user_features
from trainer.towers.user_tower import user_tower


@dataclass(frozen=True)
class Arguments:
    """What a training of the retrieval model takes: its inputs, its outputs and its settings."""

    train_files: list[str]  # sequence examples
    eval_files: list[str]
    items: str  # pattern or folder of transformed item examples
    item_examples: str | None  # likewise of those that are not transformed, which hold the dates; None = no dates
    users: str | None  # examples of the users table, where the user tower reads them
    transform_graph: str | None  # folder with the items' vocabularies
    encoder_weights: str  # folder of `trainer.content.run_pretraining`; "" where encoders are not pretrained
    model_dir: str  # where the SavedModel goes
    log_dir: str  # where TensorBoard's logs go
    data: DataConfig
    retrieval: RetrievalConfig
    engine: EngineConfig
    encoder_configs: tuple[PretrainedConfig, ...]  # of the pretrained encoders, frozen and tuned
    privacy: DifferentialConfig | None  # with it, training is differentially private

    @classmethod
    def of(cls, fn_args: Any) -> Arguments:
        """From TFX's FnArgs, as `run_fn` takes them."""
        custom = dict(fn_args.custom_config)
        return cls(
            train_files=list(fn_args.train_files),
            eval_files=list(fn_args.eval_files),
            items=custom["items"],
            item_examples=custom.get("item_examples"),
            users=custom.get("users"),
            transform_graph=fn_args.transform_graph_path or None,
            encoder_weights=custom.get("encoder_weights", ""),
            model_dir=fn_args.serving_model_dir,
            log_dir=fn_args.model_run_dir,
            data=from_json(DataConfig, custom["data"]),
            retrieval=with_settings(from_json(RetrievalConfig, custom["retrieval"]), fn_args.hyperparameters or {}),
            engine=from_json(EngineConfig, custom["engine"]),
            encoder_configs=tuple(from_json(Encoders, custom.get("encoders", "{}")).each),
            privacy=from_json(DifferentialConfig, custom["privacy"]) if "privacy" in custom else None,
        )


def run_fn(fn_args: Any) -> None:
    """Trains the retrieval model and writes it to `fn_args.serving_model_dir`, its TensorBoard logs to
    `fn_args.model_run_dir`.

    fn_args: TFX's FnArgs. `train_files` and `eval_files` are sequence examples; `hyperparameters` are settings that
    replace those of `retrieval`; `custom_config` holds `items`, `item_examples`, `users`, `encoder_weights` (paths as
    in `Arguments`), `checkpoints` (a folder that outlives a killed attempt), and `data`, `retrieval`, `engine`,
    `encoders`, `privacy` (DataConfig, RetrievalConfig, EngineConfig, Encoders as JSON, and DifferentialConfig where
    training is private: then nothing but the steps of `train_privately` sees a person, and a killed training starts
    anew).
    With TF_CONFIG, call it with the same arguments on every worker; the folder must be one that all of them share, and
    the chief writes the model.
    Raises ValueError where the train split has nothing to learn from or private training has more than one device,
    RuntimeError where another worker is lost.
    """
    args = Arguments.of(fn_args)
    strategy = strategy_for(args.engine)
    if args.privacy is not None:
        check_private(args.retrieval, args.engine, strategy.num_replicas_in_sync)
    checkpoints = checkpoints_of(fn_args, strategy.num_replicas_in_sync, args.engine)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        table, train_split, eval_split, users = _read(args, Path(folder))
        log_dir = args.log_dir if is_chief() else f"{folder}/run"
        callbacks = [tf.keras.callbacks.TensorBoard(log_dir, write_graph=False), ProgressBar("interactions")]
        if args.privacy is not None:
            _run_privately(args, args.privacy, strategy, table, train_split, callbacks)
            return
        with among_workers(), strategy.scope():
            encoders = (args.encoder_configs, args.encoder_weights)
            model = build(table, train_split, args.data, args.retrieval, users, *encoders)
            content = [EpochLog(f"{log_dir}/content")]
            history = train(model, train_split, eval_split, table, args.engine, checkpoints, callbacks, content)
            if model.item_tower.encoders:
                _write_report(history.content, log_dir)
        if not is_chief():
            return  # one writes the model, from weights that all have
        vectors = model.item_tower.encode(table)
        attention = fit_cross_attention(model, vectors, train_split, eval_split, table.available_from_s)
        export(model, attention, table, tuple(args.data.event_rules), args.data, args.model_dir, args.transform_graph)
        write_fitted(args.model_dir, Fitted.of(args.retrieval, history.history))
        write_measured(args.model_dir, {name: table.arrays[name] for name in model.item_tower.measured})
        checkpoints.remove()
    metric = args.retrieval.metric
    logging.info(
        "retrieval: %d items, %d users, %d interactions, %d epochs, best %s %.4f, %.0f s",
        len(table), len(train_split), len(train_split.items), len(history.epoch), metric,
        max(history.history.get(f"val_{metric}", [float("nan")])), time.monotonic() - started,
    )  # fmt: skip


def _run_privately(
    args: Arguments,
    privacy: DifferentialConfig,
    strategy: tf.distribute.Strategy,
    table: ItemTable,
    train_split: Interactions,
    callbacks: Sequence[tf.keras.callbacks.Callback],
) -> None:
    """As `run_fn` with DP-SGD; the learned similarity stays the dot product, since it would be fitted to people."""
    from trainer.retrieval.train_privately import train_privately  # noqa: PLC0415  (its accountant takes seconds)

    encoders = (args.encoder_configs, args.encoder_weights)
    with strategy.scope():
        model = build(table, train_split, args.data, args.retrieval, None, *encoders, private=True)
        report = train_privately(model, train_split, table, privacy, callbacks)
    as_dot_product = CrossAttention(args.retrieval.embedding_dim, name="cross_attention")
    events = tuple(args.data.event_rules)
    export(model, as_dot_product, table, events, args.data, args.model_dir, args.transform_graph)
    write_report(report, args.model_dir)


def _read(args: Arguments, folder: Path) -> tuple[ItemTable, Interactions, Interactions, UserFeatures | None]:
    """The inputs as arrays, those of items and interactions mapped from files in a folder."""
    sizes = vocabulary_sizes(args.transform_graph, args.data) if args.transform_graph else {}
    table = ItemTable.build(args.items, args.data, folder / "items", sizes)
    events = tuple(args.data.event_rules)
    train_split = read_interactions(args.train_files, table.item_ids, events, folder / "train")
    eval_split = read_interactions(args.eval_files, table.item_ids, events, folder / "eval")
    if args.item_examples:
        table.date(args.item_examples, args.data, (train_split, eval_split))
    users = read_user_features(args.users, args.data, train_split, args.retrieval)
    if users:
        train_split, eval_split = (
            replace(split, user_feature_rows=users.rows_of(split.user_ids)) for split in (train_split, eval_split)
        )
    return table, train_split, eval_split, users


def _write_report(report: ContentReport, folder: str) -> None:
    """Leaves beside the logs what was decided about the content encoders."""
    tf.io.gfile.makedirs(folder)
    with tf.io.gfile.GFile(f"{folder}/report.json", "w") as file:
        file.write(json.dumps(report.as_json()))


def checkpoints_of(fn_args: Any, replicas: int, engine: EngineConfig) -> Checkpoints:
    """The checkpoints of a training: equal inputs, settings, code and numbers of replicas find each other's."""
    config = dict(fn_args.custom_config)
    where = config.pop("checkpoints")
    optional = [config[name] for name in ("item_examples", "users") if config.get(name)]
    inputs = [*fn_args.train_files, *fn_args.eval_files, config["items"], *optional]
    name = fingerprint(inputs, config, fn_args.hyperparameters, replicas)
    return Checkpoints(where, name, engine.checkpoint_every_s, is_chief())


def build(
    table: ItemTable,
    train_split: Interactions,
    data: DataConfig,
    config: RetrievalConfig,
    users: UserFeatures | None = None,
    encoder_configs: Sequence[PretrainedConfig] = (),
    encoder_weights: str = "",
    private: bool = False,
    measured_on: np.ndarray | None = None,
) -> Retrieval:
    """Builds the untrained model for a catalogue and prepares the table for training; the same seed gives the same
    model.

    encoder_configs: of the pretrained encoders, as `content_modalities` takes them.
    encoder_weights: folder of `trainer.content.run_pretraining`, from which the encoders start; none where empty.
    private: nothing of the model may depend on who did what, for `trainer.retrieval.train_privately`: every item gets
    an id embedding, which starts from content alone, and counts as one interaction.
    measured_on: int [R], rows of the items that the content's scales and tags are taken from; those with positive
    interactions where None.
    Raises ValueError where there is no positive interaction, and for full_softmax over more items than a step has.
    """
    if config.loss == "full_softmax" and len(table) > config.items_per_step:
        raise ValueError(
            f"retrieval.loss: full_softmax is over all {len(table)} items, and a step has items_per_step "
            f"{config.items_per_step}; expected at least as many, or the loss softmax, which samples"
        )
    counts = train_split.counts(len(table))
    if not counts.any():
        raise ValueError(
            "the train split has no positive interaction with an item of the catalogue; see event_rules and the rejects"
        )
    counts = np.ones_like(counts) if private else counts
    tf.keras.utils.set_random_seed(config.seed)
    warm = np.flatnonzero(counts)
    weights = read_weights(encoder_weights) if encoder_weights else {}
    warm_ids = [table.item_ids[row] for row in warm]
    encoders = (encoder_configs, tuple(weights))
    item_tower = ItemTower(table, warm_ids, counts[warm].tolist(), config, *encoders, name="item_tower")
    item_tower.prepare(table, warm if measured_on is None else measured_on, weights)
    if config.svd_init:
        chosen = sp.csr_matrix((1, len(table))) if private else positive_matrix(train_split, len(table))
        item_tower.start_at(_svd_init(item_tower, table, chosen, warm, config))
    model = OBJECTIVES[config.loss](
        item_tower, user_tower(data, config, users), counts / counts.sum(), config, data.history_length
    )
    empty = {
        "items": np.zeros((1, 1), np.int32),
        "events": np.zeros((1, 1), np.int32),
        "age_s": np.zeros((1, 1), np.float32),
        "users": np.zeros(1, np.int32),
    }
    model.encode_users(tf.constant(item_tower.encode_ids(table)), **empty)  # builds every variable
    return model


def _svd_init(
    item_tower: ItemTower, table: ItemTable, chosen: sp.csr_matrix, warm: np.ndarray, config: RetrievalConfig
) -> np.ndarray:
    """Where the warm items' id embeddings start: float32 [warm items, dimensions of the id embedding].

    chosen: as `svd_vectors` takes it.
    """
    dim = config.embedding_dim // config.num_submodels - config.item_scale
    content = None
    if item_tower.encoders:
        known = content_directions(item_tower, table, warm, svd_vectors(chosen, dim, config.seed)[warm])
        content = np.zeros((len(table), known.shape[1]), np.float32)
        content[warm] = known
    return svd_vectors(chosen, dim, config.seed, content, config.num_submodels)[warm]


if __name__ == "__main__":
    run_fn(types.SimpleNamespace(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
