"""Training objectives of retrieval. With several replicas, each gives its share of the mean over the whole batch.

B users, C candidates, L interactions, Q targets (interactions to be predicted), D embedding_dim.
"""

from __future__ import annotations

import tensorflow_recommenders as tfrs

from trainer.keras import tf
from trainer.strategy import global_sum


def profile_cosine(predicted, target, score_exponent: float = 1.0, user_weight_exponent: float = 0.0):
    """Squared distance between unit vectors of scores and of targets after a ReLU, mean over users: 2 - 2 cos.

    A user without a target does not count.
    predicted: float [B, C], scores without what an item of the history adds to its own.
    target: float [B, C], 0 or more.
    score_exponent: power of the scores before they are compared; above 1 the highest scores, the top of a list, weigh
    more.
    user_weight_exponent: a user weighs as much as their number of targets to this power; 0 = all alike.
    Source: Vančura et al., ELSA, RecSys 2022.
    """
    predicted = tf.nn.relu(predicted)
    if score_exponent != 1:
        predicted = (predicted + 1e-6) ** score_exponent  # the slope of a power below 1 has no bound at 0
    predicted = tf.math.l2_normalize(predicted, -1, epsilon=1e-9)
    distance = tf.reduce_sum((predicted - tf.math.l2_normalize(target, -1, epsilon=1e-9)) ** 2, -1)
    counts = tf.reduce_sum(tf.cast(target > 0, distance.dtype), -1)
    counts = tf.where(counts > 0, tf.maximum(counts, 1.0) ** user_weight_exponent, 0.0)
    return tf.reduce_sum(distance * counts) / tf.maximum(global_sum(counts), 1.0)


def full_softmax(queries, candidates, targets, weights, temperature: float):
    """Cross-entropy over every candidate, weighted mean over targets.

    queries: float [Q, D].
    candidates: float [C, D].
    targets: int [Q], positions among the candidates.
    weights: float [Q].
    """
    logits = tf.matmul(queries, candidates, transpose_b=True) / temperature  # [Q, C]
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits)
    return tf.reduce_sum(losses * weights) / tf.maximum(global_sum(weights), 1e-6)


def sampled_softmax(temperature: float, hard_negatives: int = 0) -> tfrs.tasks.Retrieval:
    """The sampled softmax of TFRS: in-batch and extra negatives, no accidental hits, and the log-Q correction.

    It is called with query_embeddings float [Q, D], candidate_embeddings float [Q + extra, D] whose first Q rows are
    the targets, candidate_ids, candidate_sampling_probability and sample_weight, and gives the weighted sum over
    targets.
    hard_negatives: of all negatives only so many with the highest logits count for each target; 0 = all.
    Source: Yi et al., Sampling-Bias-Corrected Neural Modeling, RecSys 2019.
    """
    return tfrs.tasks.Retrieval(
        temperature=temperature, remove_accidental_hits=True, num_hard_negatives=hard_negatives or None
    )


def rating_mse(predicted, values, weights):
    """Squared error of ratings, weighted mean over the interactions that have one.

    predicted: float [B, L].
    values: float [B, L], NaN where there is no rating.
    weights: float [B, L].
    """
    is_rated = tf.math.is_finite(values)
    weights = tf.where(is_rated, weights, 0.0)
    errors = tf.where(is_rated, predicted - values, 0.0)
    return tf.reduce_sum(errors**2 * weights) / tf.maximum(global_sum(weights), 1e-6)


def recency(age_s, half_life_days: float):
    """Exponential decay of an interaction's weight: 1 at age 0 or where the age is unknown (0), half of that after each
    half-life.

    age_s: float, seconds.
    Returns float of the same shape.
    """
    return 0.5 ** (age_s / (half_life_days * SECONDS_A_DAY))


SECONDS_A_DAY = 86_400.0


def sampling_probability(target_share, num_items: int, num_targets, num_uniform):
    """Expected share of a step's candidates that an item takes, drawn as a target by its popularity or uniformly: float
    [C].

    target_share: float [C], the item's share of all targets.
    num_items: of the catalogue.
    num_targets, num_uniform: candidates of the step that are drawn in each way.
    """
    targets, uniform = tf.cast(num_targets, tf.float32), tf.cast(num_uniform, tf.float32)
    return (targets * target_share + uniform / num_items) / tf.maximum(targets + uniform, 1.0)
