"""Each objective against a sum that a pencil can follow, on three by three."""

import numpy as np
import pytest

from trainer.keras import tf
from trainer.retrieval import losses


def _profile_cosine(predicted, target, **settings):
    """The loss of a matrix of scores and one of targets: candidates are unit vectors, and every cell is listed."""
    predicted = tf.convert_to_tensor(predicted)
    cells = tf.range(tf.size(predicted, tf.int64))
    targets = tf.reshape(target, [-1])
    return losses.profile_cosine(
        predicted, tf.eye(predicted.shape[1]), tf.zeros_like(targets), targets, cells, **settings
    )


def _dense_profile_cosine(profiles, candidates, itself, targets, cells, score_exponent, user_weight_exponent):
    """The same on whole matrices, in float64."""
    taken, target = np.zeros((2, len(profiles) * len(candidates)))
    np.add.at(taken, cells[cells >= 0], itself[cells >= 0])
    np.add.at(target, cells[cells >= 0], targets[cells >= 0])
    shape = (len(profiles), len(candidates))
    scores = np.maximum(profiles @ candidates.T - taken.reshape(shape), 0)
    target = target.reshape(shape)
    if score_exponent != 1:
        scores = (scores + 1e-6) ** score_exponent
    unit = [each / np.sqrt(np.maximum((each**2).sum(1, keepdims=True), 1e-9)) for each in (scores, target)]
    counts = (target > 0).sum(1)
    weights = np.where(counts > 0, np.maximum(counts, 1.0) ** user_weight_exponent, 0)
    return (((unit[0] - unit[1]) ** 2).sum(1) * weights).sum() / max(weights.sum(), 1)


@pytest.mark.parametrize("exponents", [(1.0, 0.0), (2.0, 0.5), (0.5, 0.0)])
@pytest.mark.parametrize("seed", range(3))
def test_the_sparse_profile_cosine_is_the_dense_one_and_so_is_its_gradient(seed, exponents):
    """With padding, pairs that come twice, users without a target and one of whom nothing is predicted."""
    random = np.random.default_rng(seed)
    profiles, candidates = random.normal(size=(6, 4)), random.normal(size=(9, 4))
    profiles[5] = 0
    cells = random.integers(0, 5 * 9, 40)  # with some twice
    cells = np.where(random.random(40) < 0.2, -1, cells)
    itself, targets = random.normal(size=40), np.where(cells < 9, 0, random.random(40))  # user 0 has no target
    arguments = [profiles, candidates, itself]
    tensors = [tf.constant(each, tf.float32) for each in arguments]
    fixed = (tf.constant(targets, tf.float32), tf.constant(cells), *exponents)
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        loss = losses.profile_cosine(*tensors, *fixed)
    assert float(loss) == pytest.approx(_dense_profile_cosine(*arguments, targets, cells, *exponents), abs=1e-5)
    for place, gradient in enumerate(tape.gradient(loss, tensors)):
        moved = random.normal(size=arguments[place].shape)
        changed = [
            _dense_profile_cosine(*arguments[:place], arguments[place] + step * moved, *arguments[place + 1 :],
                                  targets, cells, *exponents)
            for step in (1e-6, -1e-6)
        ]  # fmt: skip
        slope = (changed[0] - changed[1]) / 2e-6
        assert float((gradient.numpy() * moved).sum()) == pytest.approx(slope, abs=2e-4, rel=1e-3)


def test_profile_cosine_is_two_minus_twice_the_cosine():
    predicted = np.array([[1.0, -5.0, 0.0], [3.0, 4.0, 0.0], [0.0, 0.0, 2.0]], np.float32)
    target = np.array([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [1.0, 0.0, 0.0]], np.float32)
    # ReLU drops the -5: cosine 1; then 4 / 5; then 0.
    assert float(_profile_cosine(predicted, target)) == pytest.approx(((2 - 2) + (2 - 2 * 0.8) + 2) / 3, abs=1e-5)


def test_profile_cosine_leaves_out_users_without_a_target():
    predicted = np.array([[3.0, 4.0, 0.0], [1.0, 1.0, 1.0]], np.float32)
    target = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]], np.float32)
    assert float(_profile_cosine(predicted, target)) == pytest.approx(2 - 2 * 0.8, abs=1e-5)


def test_profile_cosine_has_finite_gradients_where_nothing_is_predicted():
    predicted = tf.Variable(np.zeros((2, 3), np.float32))
    with tf.GradientTape() as tape:
        loss = _profile_cosine(predicted, tf.constant(np.eye(2, 3, dtype=np.float32)))
    assert np.isfinite(tape.gradient(loss, predicted).numpy()).all()


def test_full_softmax_is_the_weighted_cross_entropy():
    queries = np.eye(3, dtype=np.float32)
    candidates = np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]], np.float32)
    targets, weights = np.array([0, 1, 0]), np.array([1.0, 3.0, 2.0], np.float32)
    hit = np.log(np.e**2 + 2) - 2  # logit 2 at the target, 0 elsewhere
    miss = np.log(np.e**2 + 2)  # third row: logit 2 at item 2, 0 at its target
    expected = (1 * hit + 3 * hit + 2 * miss) / 6
    assert float(losses.full_softmax(queries, candidates, targets, weights, 0.5)) == pytest.approx(expected, abs=1e-5)


def _oracle(logits, probabilities, ids, weights):
    logits = logits - np.log(probabilities)
    total = 0.0
    for row in range(len(weights)):
        kept = [column for column in range(len(ids)) if column == row or ids[column] != ids[row]]
        total += weights[row] * (np.log(np.exp(logits[row, kept]).sum()) - logits[row, row])
    return total


def test_sampled_softmax_corrects_for_sampling_and_masks_accidental_hits():
    """C31: of items [101, 102, 101], the third column is no negative of the first row, nor the first of the third."""
    queries = np.array([[1.0, 0, 0], [0, 2, 0], [0, 0, 1]], np.float32)
    candidates = np.array([[0.5, 0, 0], [0, 0.5, 0.1], [0.2, 0, 0.5]], np.float32)
    ids, probabilities, weights = (
        np.array([101, 102, 101]),
        np.array([0.6, 0.1, 0.6], np.float32),
        np.array([1.0, 2.0, 3.0], np.float32),
    )
    got = losses.sampled_softmax(temperature=0.5)(
        queries,
        candidates,
        sample_weight=weights,
        candidate_sampling_probability=probabilities,
        candidate_ids=ids,
        compute_metrics=False,
    )
    logits = queries @ candidates.T / 0.5
    assert float(got) == pytest.approx(_oracle(logits, probabilities, ids, weights), abs=1e-5)
    assert float(got) != pytest.approx(_oracle(logits, probabilities, np.array([101, 102, 103]), weights), abs=1e-3)


def test_sampling_probability_mixes_popularity_and_chance():
    got = losses.sampling_probability(np.array([0.5, 0.0], np.float32), num_items=10, num_targets=3, num_uniform=1)
    np.testing.assert_allclose(got, [(3 * 0.5 + 0.1) / 4, 0.1 / 4], atol=1e-6)


def test_profile_cosine_with_a_sharpness_compares_powers():
    predicted, target = np.array([[1.0, 2.0, -3.0]], np.float32), np.array([[0.0, 1.0, 0.0]], np.float32)
    # Squares (1, 4, 0): cosine 4 / sqrt(17); plain scores would give 2 / sqrt(5).
    assert float(_profile_cosine(predicted, target, score_exponent=2.0)) == pytest.approx(2 - 2 * 4 / 17**0.5, abs=1e-5)


def test_profile_cosine_weighs_users_by_their_targets_to_a_power():
    predicted = np.array([[1.0, 1.0, 1.0, 1.0, 0.0], [3.0, 4.0, 0.0, 0.0, 0.0]], np.float32)
    target = np.array([[1.0, 1.0, 1.0, 1.0, 0.0], [0.0, 1.0, 0.0, 0.0, 0.0]], np.float32)
    # Four targets, met: distance 0, weight 2 at power 1/2. One target, cosine 4 / 5: distance 0.4, weight 1.
    assert float(_profile_cosine(predicted, target, user_weight_exponent=0.5)) == pytest.approx(
        (2 * 0.0 + 1 * 0.4) / 3, abs=1e-5
    )
    assert float(_profile_cosine(predicted, target)) == pytest.approx(0.2, abs=1e-5)


def test_only_the_hardest_negatives_count():
    """Three targets, each the other two's negative: with one hard negative the softmax is over the target and the
    higher of the two.
    """
    queries = np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]], np.float32)
    candidates = np.array([[0.5, 0.2, 0.1], [0.4, 0.9, 0.3], [0.1, 0.6, 0.8]], np.float32)
    got = losses.sampled_softmax(temperature=1.0, hard_negatives=1)(
        queries,
        candidates,
        sample_weight=np.ones(3, np.float32),
        candidate_ids=np.array([1, 2, 3]),
        compute_metrics=False,
    )
    # Logits: row 0: .5 against .4 and .1; row 1: .9 against .2 and .6; row 2: .8 against .1 and .3.
    expected = sum(np.log1p(np.exp(hardest - own)) for own, hardest in ((0.5, 0.4), (0.9, 0.6), (0.8, 0.3)))
    assert float(got) == pytest.approx(expected, abs=1e-5)


def test_rating_mse_is_the_weighted_mean_over_what_is_rated():
    predicted = np.array([[3.0, 4.0, 1.0]], np.float32)
    values = np.array([[5.0, np.nan, 2.0]], np.float32)
    # Errors 2 and 1 with weights 1 and 3; the unrated one does not count.
    assert float(losses.rating_mse(predicted, values, np.array([[1.0, 9.0, 3.0]], np.float32))) == pytest.approx(
        (4 + 3 * 1) / 4
    )


def test_rating_mse_has_no_gradient_where_nothing_is_rated():
    predicted = tf.Variable([[3.0, 4.0]])
    with tf.GradientTape() as tape:
        loss = losses.rating_mse(predicted, tf.constant([[np.nan, 5.0]]), tf.ones([1, 2]))
    assert tape.gradient(loss, predicted).numpy().tolist() == [[0.0, -2.0]]


def test_recency_halves_with_each_half_life():
    days = np.array([0.0, 7.0, 14.0, 28.0], np.float32)
    np.testing.assert_allclose(losses.recency(days * 86_400, half_life_days=7.0), [1, 0.5, 0.25, 0.0625], atol=1e-6)
