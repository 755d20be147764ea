"""The model of the TFRS retrieval tutorial: a vector for each user and each film, softmax over the films of the batch,
Adagrad.

U users, N items.
"""

from __future__ import annotations

import numpy as np

from benchmarks.quality.methods import SEEDS, Contender, Scored, Settings
from benchmarks.quality.splits import Split, Stage

EMBEDDING_DIM, LEARNING_RATE, BATCH_SIZE = 32, 0.1, 8192  # the tutorial's own
SHUFFLE = 100_000


def tutorial_peers(split: Split) -> list[Contender]:
    """The tutorial's model, where the case is the tutorial's."""
    if not split.case.startswith("TFRS-A"):
        return []
    # The tutorial trains for three epochs.
    grid = {"epochs": (3, 10)}
    return [Contender("TFRS tutorial", score_tutorial, grid, runs=SEEDS, modules=(__name__,))]


def score_tutorial(stage: Stage, settings: Settings, seed: int) -> Scored:
    """Train on the pairs, then score by dot products."""
    import tensorflow_recommenders as tfrs

    from trainer.keras import tf

    tf.keras.utils.set_random_seed(seed)
    num_users, num_items = stage.train.shape
    users = tf.keras.Sequential([tf.keras.layers.Embedding(num_users, EMBEDDING_DIM)])
    items = tf.keras.Sequential([tf.keras.layers.Embedding(num_items, EMBEDDING_DIM)])
    task = tfrs.tasks.Retrieval()

    class TwoTower(tfrs.Model):
        def __init__(self) -> None:
            super().__init__()
            self.users, self.items, self.task = users, items, task

        def compute_loss(self, inputs, training=False):
            return self.task(self.users(inputs["user"]), self.items(inputs["item"]))

    pairs = stage.train.tocoo()
    dataset = (
        tf.data.Dataset.from_tensor_slices({"user": pairs.row, "item": pairs.col})
        .shuffle(SHUFFLE, seed=seed)
        .batch(BATCH_SIZE)
    )
    model = TwoTower()
    model.compile(tf.keras.optimizers.legacy.Adagrad(LEARNING_RATE))
    model.fit(dataset.cache().prefetch(1), epochs=settings["epochs"], verbose=0)
    scores = users.layers[0].embeddings.numpy() @ items.layers[0].embeddings.numpy().T  # [U, N]
    return Scored(np.asarray(scores, np.float32), (num_users + num_items) * EMBEDDING_DIM)
