"""Trainings as processes of their own, alone or as workers of a cluster, and what they export side by side."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from trainer.config.encoder import EncoderConfig
from trainer.keras import tf

ROOT = Path(__file__).parents[2]
STEADY = {  # nothing is drawn at random while training, so that equal means equal
    "modalities": ("tags", "embedding_given"),
    "encoder": EncoderConfig(width=8, heads=2, layers=0, dropout=0.0),
    "history_dropout": 0.0,
    "modality_dropout": 0.0,
    "dropout": 0.0,
    "epochs": 3,
    "patience": 3,
    "batch_size": 10,
}
WAYS = {
    "profile": {"user_tower": "profile", "loss": "profile_cosine", "svd_init": False},
    "sequence": {"user_tower": "sequence", "loss": "full_softmax", "targets_per_step": 4096},
}
TOLERANCE = 1e-3  # of weights and vectors: sums in another order


def environment(**more: str) -> dict[str, str]:
    """That of a training without a GPU."""
    return {**os.environ, "TF_USE_LEGACY_KERAS": "1", "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3", **more}


def tf_config(addresses: Sequence[str], index: int) -> str:
    """TF_CONFIG of the worker of that index among those at HOST:PORT addresses."""
    return json.dumps({"cluster": {"worker": list(addresses)}, "task": {"type": "worker", "index": index}})


def start(folder: Path, name: str, arguments: dict, before: Sequence[str] = (), **more: str) -> subprocess.Popen:
    """Start `trainer.retrieval.run`; what it says goes into NAME.log of the folder.

    arguments: as `run_arguments` makes them. before: words before the command, which run it elsewhere.
    more: of its environment.
    """
    (folder / f"{name}.json").write_text(json.dumps(arguments))
    command = [sys.executable, "-W", "ignore", "-m", "trainer.retrieval.run", str(folder / f"{name}.json")]
    with (folder / f"{name}.log").open("w") as log:
        return subprocess.Popen([*before, *command], cwd=ROOT, env=environment(**more), stdout=log, stderr=log)


def assert_same_models(first: Path, second: Path) -> None:
    """Two exported models have the same weights and give a user the same vector, but for `TOLERANCE`."""
    users = [
        tf.saved_model.load(str(path))
        .signatures["user_tower"](
            user_id=tf.constant(["u"]),
            history_vectors=tf.constant(np.eye(8, dtype=np.float32)[None, :3]),
            history_events=tf.constant([["play", "like", "play"]]),
            history_age_s=tf.zeros([1, 3]),
        )["vector"]
        .numpy()
        for path in (first, second)
    ]
    np.testing.assert_allclose(users[0], users[1], atol=TOLERANCE)
    weights = [tf.train.load_checkpoint(str(path / "variables" / "variables")) for path in (first, second)]
    for name, dtype in weights[0].get_variable_to_dtype_map().items():
        if dtype == tf.float32:
            np.testing.assert_allclose(
                weights[0].get_tensor(name), weights[1].get_tensor(name), atol=TOLERANCE, err_msg=name
            )
