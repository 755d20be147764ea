"""DeepFM against sums written out by hand, and the numbers that judge it against scikit-learn."""

import logging

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from components.config import DEFAULT_EVENTS, DataConfig, TableConfig
from trainer.config.ranking import RankingConfig, broadest_success, labels_of, utility_weights
from trainer.keras import tf
from trainer.ranking import calibration, deepfm
from trainer.ranking.features import PAIR_NUMBERS, Encoder, RankingExamples
from trainer.ranking.run import build_ranker, export

DATA = DataConfig(TableConfig(""), TableConfig(""), numeric=("year",), categorical=("mood",))
CONFIG = RankingConfig(embedding_dim=3, hidden=(8,), epochs=15, batch_size=64, min_count=2, learning_rate=0.02)
DIM, KINDS = 4, list(DEFAULT_EVENTS)
MODELS = (deepfm.LogisticRegression, deepfm.FactorizationMachine, deepfm.DeepFM)


def rows(count, seed=0):
    """Examples with random features: people play what is similar, skip music, and never rate."""
    generator = np.random.default_rng(seed)
    names = lambda *choices: generator.choice(np.array(choices, object), count)  # noqa: E731

    def unit():
        vectors = generator.normal(size=(count, DIM))
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)

    features = {
        "history_counts": generator.integers(0, 9, (count, len(KINDS))).astype(np.float32),
        "recency_s": generator.choice([-1.0, 0.0, 1e5], count).astype(np.float32),
        "time_s": generator.choice([0, 1_700_000_000], count).astype(np.int64),
        "domain": names(b"music", b"film", b""),
        "creator": names(b"a", b"b"),
        "categories": names(b"calm", b"")[:, None],
        "numeric": np.stack([generator.uniform(10, 500, count), np.full(count, np.nan)], 1).astype(np.float32),
        "popularity": generator.exponential(1, count).astype(np.float32),
        "age_s": generator.choice([-1.0, 1e6], count).astype(np.float32),
        "user_vector": unit(),
        "item_vector": unit(),
        "max_similarity": generator.uniform(-1, 1, count).astype(np.float32),
        "mean_similarity": generator.uniform(-1, 1, count).astype(np.float32),
        "latest_similarity": generator.uniform(-1, 1, count).astype(np.float32),
        "learned_similarity": generator.uniform(-1, 1, count).astype(np.float32),
        "domain_share": generator.uniform(0, 1, count).astype(np.float32),
        "creator_share": generator.uniform(0, 1, count).astype(np.float32),
        "position": generator.integers(0, 30, count),
        "fitted": generator.integers(0, 2, count),
    }
    labels = np.zeros((count, len(KINDS)), np.float32)
    labels[:, KINDS.index("play")] = features["max_similarity"] + generator.normal(0, 0.3, count) > 0.3
    labels[:, KINDS.index("skip")] = (features["domain"] == b"music") & (generator.uniform(size=count) < 0.7)
    return RankingExamples(features, labels)


def tensors(features):
    return {name: tf.constant(values) for name, values in features.items()}


@pytest.fixture(scope="module")
def encoder():
    return Encoder(rows(200)[0], 2, KINDS, DATA.numeric)


@pytest.fixture(scope="module")
def ranker():
    return build_ranker(deepfm.DeepFM, rows(1500), rows(500, 1), DATA, CONFIG)


def test_the_fm_term_is_the_sum_over_all_pairs():
    vectors = np.random.default_rng(0).normal(size=(3, 5, 2)).astype(np.float32)
    expected = sum(vectors[:, i] * vectors[:, j] for i in range(5) for j in range(i + 1, 5))
    np.testing.assert_allclose(deepfm.pairwise(tf.constant(vectors)), expected, atol=1e-5)


def test_deepfm_is_the_sum_of_its_three_parts(encoder):
    """With one row written out by hand: every weight of the first order, every pair, and the deep part."""
    model = deepfm.DeepFM(encoder, np.full(len(KINDS), 0.2), CONFIG)
    inputs = encoder(tensors(rows(4, 3)[0]))
    got = model(inputs).numpy()
    first, second = (layer(inputs).numpy() for layer in (model.first_order, model.vectors))
    num_fields = first.shape[1]
    for row in range(4):
        pairs = sum(second[row, i] * second[row, j] for i in range(num_fields) for j in range(i + 1, num_fields))
        deep = model.deep(second[row : row + 1]).numpy()[0]
        expected = np.log(0.2 / 0.8) + first[row].sum(0) + pairs @ model.heads.numpy() + deep
        np.testing.assert_allclose(got[row], expected, atol=1e-4)


def test_a_number_is_its_vector_times_it_and_a_category_its_row(encoder):
    layer = deepfm.FieldVectors(encoder, 2)
    inputs = encoder(tensors(rows(2)[0]))
    vectors = layer(inputs).numpy()
    num_ids = inputs["ids"].shape[1]
    np.testing.assert_allclose(vectors[1, 0], layer.categories.embeddings[inputs["ids"][1, 0]], atol=1e-6)
    np.testing.assert_allclose(vectors[1, num_ids + 2], inputs["dense"][1, 2] * layer.numbers[2], atol=1e-6)
    np.testing.assert_allclose(vectors[1, -1], inputs["product"][1].numpy() @ layer.project.kernel.numpy(), atol=1e-6)


def test_a_learned_similarity_that_is_the_dot_product_tells_nothing(encoder):
    """What counts is what it adds: 0 after scaling where that is nothing everywhere, and of itself where it is
    something.
    """
    features, _, _ = rows(50)
    features["learned_similarity"] = (features["user_vector"] * features["item_vector"]).sum(1)
    at = PAIR_NUMBERS.index("learned_similarity")
    same = Encoder(features, 2, KINDS, DATA.numeric)(tensors(features))["dense"][:, at]
    np.testing.assert_allclose(same, 0, atol=1e-5)
    assert np.std(encoder(tensors(rows(50)[0]))["dense"][:, at]) > 0.5


@pytest.mark.parametrize("kind", MODELS)
def test_heads_do_not_feed_each_other(encoder, kind):
    """The gradient of one head's logit with respect to another head's own weights is zero."""
    model = kind(encoder, np.full(len(KINDS), 0.2), CONFIG)
    inputs = encoder(tensors(rows(8)[0]))
    with tf.GradientTape() as tape:
        logit = tf.reduce_sum(model(inputs)[:, 1])
    gradient = tape.gradient(logit, model.first_order.numbers).numpy()
    assert gradient[:, 1].any() and not np.delete(gradient, 1, 1).any()


def test_a_batch_equals_its_parts(ranker):
    features = rows(6, 5)[0]
    whole = ranker.probabilities(tensors(features)).numpy()
    for row in range(6):
        part = ranker.probabilities(tensors({name: values[row : row + 1] for name, values in features.items()})).numpy()
        np.testing.assert_allclose(part[0], whole[row], atol=1e-6)


def test_it_learns_both_heads_and_is_calibrated(ranker):
    features, labels, _ = rows(2000, 7)
    probabilities = ranker.probabilities(tensors(features)).numpy()
    for name in ("play", "skip"):
        column = KINDS.index(name)
        assert roc_auc_score(labels[:, column], probabilities[:, column]) > 0.85
        assert calibration.calibration_error(probabilities[:, column], labels[:, column]) < 0.05


def test_the_place_in_the_list_and_the_fit_are_not_looked_at_when_serving(ranker):
    features = rows(5, 8)[0]
    moved = features | {"position": features["position"] + 7, "fitted": 1 - features["fitted"]}
    np.testing.assert_array_equal(ranker.probabilities(tensors(features)), ranker.probabilities(tensors(moved)))


def test_a_head_without_examples_stays_near_zero_and_the_export_answers_alike(ranker, tmp_path):
    """C46: nobody ever rates; that head says so and spoils no other."""
    features = rows(50, 9)[0]
    told = ranker.probabilities(tensors(features)).numpy()[:, KINDS.index("rating")]
    assert told.mean() < 0.02 and told.max() < 0.2
    export(ranker, features, str(tmp_path / "ranker"))


def test_auc_of_one_class_is_undefined(caplog):
    """C46."""
    with caplog.at_level(logging.WARNING):
        assert calibration.auc(np.array([0.1, 0.9]), np.ones(2)) is None
    assert "2 positive and 0 negative" in caplog.text


def test_auc_counts_ties_half():
    """Of the four pairs of a positive and a negative two are right, one is wrong and one is a tie."""
    assert calibration.auc(np.array([0.9, 0.5, 0.5, 0.6]), np.array([1, 1, 0, 0])) == pytest.approx(2.5 / 4)


def test_calibration_error_by_hand():
    """Two bins of two: 0.5 said and half there; 0.9 said and half there: the mean of 0 and 0.4."""
    assert calibration.calibration_error(
        np.array([0.9, 0.5, 0.9, 0.5]), np.array([1.0, 1, 0, 0]), bins=2
    ) == pytest.approx(0.2)


def test_the_order_of_rows_of_one_probability_says_nothing_of_calibration():
    labels = np.repeat([1.0, 0.0], 50)
    for order in (np.arange(100), np.random.default_rng(0).permutation(100)):
        assert calibration.calibration_error(np.full(100, 0.5), labels[order]) == pytest.approx(0)


def test_platt_undoes_a_known_distortion():
    """Labels drawn from sigmoid(2 x - 1), logits given as x: slope 2, shift -1. One class: left as it is."""
    generator = np.random.default_rng(4)
    logits = generator.normal(0, 2, (20_000, 2)).astype(np.float32)
    labels = np.zeros((20_000, 2))
    labels[:, 0] = generator.uniform(size=20_000) < 1 / (1 + np.exp(1 - 2 * logits[:, 0]))
    np.testing.assert_allclose(calibration.fit_platt(logits, labels), [[2, 1], [-1, 0]], atol=0.1)


def test_labels_utility_and_gate():
    """play 1 < complete 2 < like 3; a rating carries a value; a skip is no success."""
    assert dict(zip(KINDS, labels_of("complete", True, DEFAULT_EVENTS))) == {
        "play": 1,
        "complete": 1,
        "like": 0,
        "skip": 0,
        "rating": 0,
    }
    assert dict(zip(KINDS, labels_of("skip", False, DEFAULT_EVENTS))) == {
        "play": 0,
        "complete": 0,
        "like": 0,
        "skip": 1,
        "rating": 0,
    }
    assert dict(zip(KINDS, labels_of("rating", False, DEFAULT_EVENTS))) == dict.fromkeys(KINDS, 0)
    assert labels_of("rating", True, DEFAULT_EVENTS)[KINDS.index("rating")] == 1
    assert utility_weights(DEFAULT_EVENTS, RankingConfig(weights={"like": 9.0}))["like"] == 9.0
    assert utility_weights(DEFAULT_EVENTS, RankingConfig())["skip"] == -0.5
    assert broadest_success(DEFAULT_EVENTS) == "play"
    with pytest.raises(ValueError, match="no event rule for lik"):
        utility_weights(DEFAULT_EVENTS, RankingConfig(weights={"lik": 1.0}))


def test_what_the_fields_add_is_the_utility(ranker, tmp_path):
    """Completeness (Sundararajan et al., 2017): parts and rest are the utility to 1e-3, as exported; what decides play
    leads there.
    """
    features = rows(40, 11)[0]
    weights = np.tile(np.array([[float(name == "play") for name in KINDS]], np.float32), (40, 1))
    export(ranker, features, str(tmp_path / "ranker"))
    explained = tf.saved_model.load(str(tmp_path / "ranker")).signatures["explain"](
        weights=tf.constant(weights), **tensors(features)
    )
    utility = ranker.probabilities(tensors(features)).numpy()[:, KINDS.index("play")]
    np.testing.assert_allclose(explained["parts"].numpy().sum(1) + explained["rest"].numpy(), utility, atol=1e-3)
    names = [name.decode() for name in explained["names"].numpy()[0]]
    strength = dict(zip(names, np.abs(explained["parts"].numpy()).mean(0)))
    assert (
        len(names) == len(strength) == explained["parts"].shape[1]
        and max(strength, key=strength.get) == "max_similarity"
    )
