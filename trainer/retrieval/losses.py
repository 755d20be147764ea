"""Training objectives: of several replicas, each gives its share of the mean over the whole batch.

B users, C candidates, Q targets (interactions to be predicted), D embedding_dim.
"""

from __future__ import annotations

import tensorflow_recommenders as tfrs

from trainer.keras import tf
from trainer.strategy import global_sum


def profile_cosine(predicted, target, sharpness: float = 1.0, activity_power: float = 0.0):
    """Squared distance between the unit profiles after a ReLU, mean over users: 2 - 2 cos (Vančura et al., ELSA, RecSys 2022).

    predicted: float [B, C], scores with the user's own contribution to each item taken away; target: float [B, C], >= 0.
    sharpness: power of the scores above zero before they are compared; above 1 the highest scores, the top of a list, weigh more.
    activity_power: a user weighs as much as their number of targets to this power; 0 = all alike.
    A user without a target does not count.
    """
    predicted = tf.nn.relu(predicted)
    if sharpness != 1:
        predicted = (predicted + 1e-6) ** sharpness  # the slope of a power below 1 has no bound at 0
    predicted = tf.math.l2_normalize(predicted, -1, epsilon=1e-9)
    distance = tf.reduce_sum((predicted - tf.math.l2_normalize(target, -1, epsilon=1e-9)) ** 2, -1)
    counts = tf.reduce_sum(tf.cast(target > 0, distance.dtype), -1)
    counts = tf.where(counts > 0, tf.maximum(counts, 1.0) ** activity_power, 0.0)
    return tf.reduce_sum(distance * counts) / tf.maximum(global_sum(counts), 1.0)


def full_softmax(queries, candidates, targets, weights, temperature: float):
    """Cross-entropy over every candidate, weighted mean over targets.

    queries: [Q, D]; candidates: [C, D]; targets: int [Q], positions among the candidates; weights: float [Q].
    """
    logits = tf.matmul(queries, candidates, transpose_b=True) / temperature  # [Q, C]
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits)
    return tf.reduce_sum(losses * weights) / tf.maximum(global_sum(weights), 1e-6)


def sampled_softmax(temperature: float, hard_negatives: int = 0) -> tfrs.tasks.Retrieval:
    """The TFRS retrieval task: in-batch and extra negatives, no accidental hits, log-Q where probabilities are given (Yi et al., 2019).

    hard_negatives: of all negatives only so many with the highest logits count for each target; 0 = all.
    Called with query_embeddings [Q, D], candidate_embeddings [Q + extra, D] whose first Q rows are the targets, candidate_ids,
    candidate_sampling_probability, sample_weight; gives the weighted sum over targets.
    """
    return tfrs.tasks.Retrieval(
        temperature=temperature, remove_accidental_hits=True, num_hard_negatives=hard_negatives or None
    )


def rating_mse(predicted, values, weights):
    """Squared error on ratings, weighted mean over the interactions that have one.

    predicted, values: float [B, L], values NaN where there is no rating; weights: float [B, L].
    """
    is_rated = tf.math.is_finite(values)
    weights = tf.where(is_rated, weights, 0.0)
    errors = tf.where(is_rated, predicted - values, 0.0)
    return tf.reduce_sum(errors**2 * weights) / tf.maximum(global_sum(weights), 1e-6)


def recency(age_s, half_life_days: float):
    """How much an interaction counts for its age: 1 at age 0 or where the age is unknown (0), half of it for each half-life.

    age_s: float, seconds. Returns the same shape.
    """
    return 0.5 ** (age_s / (half_life_days * SECONDS_A_DAY))


SECONDS_A_DAY = 86_400.0


def sampling_probability(target_share, num_items: int, num_targets, num_uniform):
    """Expected share of the candidate list that an item takes: drawn as a target by its popularity, or uniformly.

    target_share: float [C], the item's share of all targets. Returns float [C].
    """
    targets, uniform = tf.cast(num_targets, tf.float32), tf.cast(num_uniform, tf.float32)
    return (targets * target_share + uniform / num_items) / tf.maximum(targets + uniform, 1.0)
