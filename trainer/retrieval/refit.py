"""Trains a judged model again on all interactions, with the settings and the number of epochs that were found.

Id embeddings and user tower start anew and learn from train, eval and test together. The content encoders, the
shrinkage and the learned similarity are kept: what places cold items was judged with them. Two trainings of one model
differ by a rotation that no score sees, but the kept parts and the ranker do: the new vectors are rotated onto the
judged ones (docs/decisions/0041-refit.md).
R items with an id embedding in both models, D dimensions of their vectors, P submodels.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import scipy.linalg

from components.datasets.interactions import Interactions, latest, read_interactions
from components.events.splits import SPLITS
from trainer.data import ItemTable, vocabulary_sizes
from trainer.keras import tf
from trainer.retrieval.cross_attention import CrossAttention
from trainer.retrieval.export import export
from trainer.retrieval.fitted import read_fitted, read_measured, write_fitted
from trainer.retrieval.model import Retrieval
from trainer.retrieval.run import Arguments, build
from trainer.retrieval.train import fit_interactions
from trainer.strategy import local_strategy
from trainer.towers.ensemble import unit_submodels
from trainer.towers.item_tower import ItemTower
from trainer.towers.user_features import read_user_features


def refit(args: Arguments, sequences: Mapping[str, str], judged: str) -> tuple[list[str], dict[str, np.ndarray]]:
    """Trains a model again on the interactions of all splits and writes it to `args.model_dir`.

    args: `train_files`, `eval_files` and `retrieval` are not read. sequences: split -> files of train, eval and test.
    judged: SavedModel of the judged model.
    Returns the ids of the items and their views (`ItemTower.views`), float32 [N, D] each.
    """
    fitted = read_fitted(judged)
    args = replace(args, retrieval=fitted.retrieval)
    with tempfile.TemporaryDirectory() as folder:
        sizes = vocabulary_sizes(args.transform_graph, args.data) if args.transform_graph else {}
        table = ItemTable.build(args.items, args.data, Path(folder), sizes)
        table.arrays |= read_measured(judged)
        splits = [read_interactions(sequences[split], table.item_ids, tuple(args.data.event_rules)) for split in SPLITS]
        known = np.flatnonzero(splits[0].counts(len(table)))  # the items that the judged model has id embeddings of
        with local_strategy(args.engine).scope():
            model, attention, frame = _refitted(args, table, everything(splits), known, fitted.epochs, judged)
        events = tuple(args.data.event_rules)
        export(model, attention, table, events, args.data, args.model_dir, args.transform_graph, frame)
        write_fitted(args.model_dir, fitted)
        views = model.item_tower.encode_views(table)
    return [item_id.decode() for item_id in table.item_ids], views | {"vector": views["vector"] @ frame}


def everything(splits: Sequence[Interactions]) -> Interactions:
    """All interactions of everybody as one split to train on: nothing is history."""
    known = latest(splits)
    return replace(known, num_history=np.zeros_like(known.num_history))


def _refitted(
    args: Arguments, table: ItemTable, interactions: Interactions, known: np.ndarray, epochs: int, judged: str
) -> tuple[Retrieval, CrossAttention, np.ndarray]:
    """The trained model, the judged model's learned similarity, and the rotation onto the judged vectors, [D, D].

    known: int [R], rows of the items that the judged model has id embeddings of.
    """
    users = read_user_features(args.users, args.data, interactions, args.retrieval)
    if users:
        interactions = replace(interactions, user_feature_rows=users.rows_of(interactions.user_ids))
    encoders = (args.encoder_configs, args.encoder_weights)
    model = build(table, interactions, args.data, args.retrieval, users, *encoders, measured_on=known)
    nobody = interactions.select(np.zeros(0, int))
    fit_interactions(model, interactions, nobody, table, args.engine, epochs=epochs)
    attention = CrossAttention(args.retrieval.embedding_dim, name="cross_attention")
    tower, num_submodels = model.item_tower, args.retrieval.num_submodels
    before = unit_submodels(_restore(tower, attention, judged, len(known)), num_submodels).numpy()
    rotations = rotations_onto(before, tower.id_embeddings(table, known), num_submodels)
    tower.rotate_content(scipy.linalg.block_diag(*rotations).T)
    scale = [np.eye(1)] if args.retrieval.item_scale else []  # the dimension of each submodel that is no direction
    blocks = [block for rotation in rotations for block in (rotation, *scale)]
    return model, attention, scipy.linalg.block_diag(*blocks).astype(np.float32)


def rotations_onto(targets: np.ndarray, vectors: np.ndarray, num_submodels: int) -> list[np.ndarray]:
    """The orthogonal map of each submodel's vectors that brings them nearest to others, by least squares.

    targets, vectors: float [R, D]. Returns P arrays, float [D / P, D / P], to multiply rows by.
    Source: Schönemann, A generalized solution of the orthogonal Procrustes problem, Psychometrika 1966.
    """
    parts = (np.split(array, num_submodels, 1) for array in (vectors, targets))
    return [scipy.linalg.orthogonal_procrustes(mine, theirs)[0] for mine, theirs in zip(*parts)]


def _restore(tower: ItemTower, attention: CrossAttention, judged: str, num_known: int) -> tf.Tensor:
    """Reads the content path, the shrinkage and the learned similarity of a judged model into built layers.

    Returns its id embeddings, float32 [R, D without the scales].
    """
    kept, ids = tf.Module(), tf.Module()
    kept.shrinkage, kept.id_embedding = tower.shrinkage, ids
    ids.embeddings = tf.Variable(tf.zeros([1 + num_known, tower.id_embedding.output_dim]))
    if tower.encoders:
        kept.encoders, kept.linear, kept.fusion, kept.project = (
            tower.encoders,
            tower.linear,
            tower.fusion,
            tower.project,
        )
        if tower.tag_head is not None:
            kept.tag_head = tower.tag_head
    towers = tf.train.Checkpoint(item_tower=kept, attention=attention)
    towers.read(f"{judged}/variables/variables").assert_existing_objects_matched().expect_partial()
    if tower.encoders:
        tower.uses_encoders = bool(tower.project.kernel.numpy().any())  # zero where they were not trained
    return tf.convert_to_tensor(ids.embeddings)[1:]
