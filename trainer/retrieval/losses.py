"""Training objectives of retrieval. With several replicas, each gives its share of the mean over the whole batch.

B users, C candidates, L interactions of a user, n of all users, Q targets (interactions to be predicted),
D embedding_dim.
"""

from __future__ import annotations

import tensorflow_recommenders as tfrs

from trainer.keras import tf
from trainer.strategy import global_sum


def profile_cosine(
    profiles, candidates, itself, targets, cells, score_exponent: float = 1.0, user_weight_exponent: float = 0.0
):
    """Squared distance between unit vectors of scores and of targets after a ReLU, mean over users: 2 - 2 cos.

    A user without a target does not count. Of the scores of all candidates only their norm is needed, and those of the
    targets: |p| and p t of (p - t)^2, where p and t have unit norm.
    profiles: float [B, D].
    candidates: float [C, D].
    itself: float [n], what each interaction adds to the score of its own item, which is taken away.
    targets: float [n], 0 or more, how far each interaction is to be found.
    cells: int64 [n], user * C + item of each, -1 where padded; what falls in one cell adds up.
    score_exponent: power of the scores before they are compared; above 1 the highest scores, the top of a list, weigh
    more.
    user_weight_exponent: a user weighs as much as their number of targets to this power; 0 = all alike.
    Source: Vančura et al., ELSA, RecSys 2022.
    """
    shape = tf.stack([tf.shape(profiles)[0], tf.shape(candidates)[0]])
    squares, found = _rectified(score_exponent, cells, shape)(profiles, candidates, itself)  # [B], [n]
    if score_exponent != 1:
        found = (found + _FLOOR) ** score_exponent
    users = tf.where(cells >= 0, cells // tf.cast(shape[1], cells.dtype), -1)
    products = tf.math.unsorted_segment_sum(targets * found, users, shape[0])
    wanted = _dense(targets, cells, shape)
    wanted_squares = tf.reduce_sum(wanted**2, -1)
    length, wanted_length = (tf.sqrt(tf.maximum(each, 1e-9)) for each in (squares, wanted_squares))
    distance = squares / length**2 + wanted_squares / wanted_length**2 - 2 * products / (length * wanted_length)
    counts = tf.reduce_sum(tf.cast(wanted > 0, distance.dtype), -1)
    counts = tf.where(counts > 0, tf.maximum(counts, 1.0) ** user_weight_exponent, 0.0)
    return tf.reduce_sum(distance * counts) / tf.maximum(global_sum(counts), 1.0)


_FLOOR = 1e-6  # of a score before a power: the slope of a power below 1 has no bound at 0


def _rectified(exponent: float, cells, shape):
    """A function of profiles, candidates and `itself`, as of `profile_cosine`: the squared norm of each user's
    rectified scores to a power, float [B], and the rectified scores at the cells, float [n].

    Its gradient is written out, for a matrix of users and candidates less for each step between.
    """

    @tf.custom_gradient
    def rectified(profiles, candidates, itself):
        scores = tf.nn.relu(tf.matmul(profiles, candidates, transpose_b=True) - _dense(itself, cells, shape))
        squares = tf.reduce_sum(scores**2 if exponent == 1 else (scores + _FLOOR) ** (2 * exponent), -1)
        found = _at(scores, cells)

        def gradient(of_squares, of_found):
            slope = scores
            if exponent != 1:
                slope = tf.where(scores > 0, exponent * (scores + _FLOOR) ** (2 * exponent - 1), 0.0)
            slope = 2 * of_squares[:, None] * slope + _dense(tf.where(found > 0, of_found, 0.0), cells, shape)
            return tf.matmul(slope, candidates), tf.matmul(slope, profiles, transpose_a=True), -_at(slope, cells)

        return (squares, found), gradient

    return rectified


def _dense(values, cells, shape):
    """Values float [n] at their cells int64 [n] (-1 = nowhere) as a matrix [B, C]; values of one cell add up."""
    return tf.reshape(tf.math.unsorted_segment_sum(values, cells, tf.reduce_prod(tf.cast(shape, cells.dtype))), shape)


def _at(matrix, cells):
    """The values of a matrix [B, C] at cells int64 [n], 0 at -1."""
    return tf.where(cells >= 0, tf.gather(tf.reshape(matrix, [-1]), tf.maximum(cells, 0)), 0.0)


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
