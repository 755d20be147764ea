"""Position bias in logged lists is explained by the position, not by the items (Zhao et al., RecSys 2019)."""

from collections.abc import Sequence

import numpy as np
import pytest
from scipy.stats import spearmanr

from components.config import DEFAULT_EVENTS, DataConfig, TableConfig
from trainer.config.ranking import RankingConfig
from trainer.ranking.deepfm import LogisticRegression
from trainer.ranking.features import PAIR_NUMBERS, RankingExamples
from trainer.ranking.run import build_ranker

DATA = DataConfig(TableConfig(""), TableConfig(""))
CONFIG = RankingConfig(embedding_dim=3, epochs=25, patience=25, batch_size=128, learning_rate=0.02, weight_decay=0.0)
KINDS = list(DEFAULT_EVENTS)
LISTED = 10
CREATORS = np.array([f"c{number}".encode() for number in range(LISTED)], object)
RELEVANCE = np.linspace(0.4, 0.9, LISTED)  # chance that an item is taken by who looks at it
LOOKED_AT = 1 / np.arange(1, LISTED + 1)  # chance that somebody looks at a position, which falls with it


def log(num_lists: int, seed: int, is_position_known: bool = True) -> RankingExamples:
    """Lists of all creators' items under a policy that likes the wrong ones: the less relevant, the higher, mostly."""
    generator = np.random.default_rng(seed)
    wrong_scores = -RELEVANCE + generator.normal(0, 0.3, (num_lists, LISTED))
    items = np.argsort(-wrong_scores, 1)
    taken = generator.random((num_lists, LISTED)) < RELEVANCE[items] * LOOKED_AT
    count = num_lists * LISTED
    positions = np.tile(np.arange(1, LISTED + 1), num_lists)
    labels = np.zeros((count, len(KINDS)), np.float32)
    labels[:, KINDS.index("play")] = taken.ravel()
    features = features_of(CREATORS[items.ravel()], positions * is_position_known)
    return RankingExamples(features, labels, positions_shown=is_position_known)


def features_of(creators: Sequence[bytes], positions: np.ndarray) -> dict[str, np.ndarray]:
    """Examples that tell their items apart by the creator alone."""
    count = len(creators)
    numbers = (*PAIR_NUMBERS, "popularity")
    return {
        "history_counts": np.zeros((count, len(KINDS)), np.float32),
        "categories": np.zeros((count, 0), object),
        "numeric": np.full((count, 1), np.nan, np.float32),
        "domain": np.full(count, b"", object),
        "creator": np.asarray(creators, object),
        **{name: np.full(count, -1.0, np.float32) for name in ("recency_s", "age_s")},
        **{name: np.zeros(count, np.int64) for name in ("time_s", "fitted")},
        **{name: np.ones((count, 2), np.float32) / np.sqrt(2) for name in ("user_vector", "item_vector")},
        **{name: np.zeros(count, np.float32) for name in numbers},
        "position": np.asarray(positions, np.int64),
    }


def served_scores(is_position_known: bool) -> np.ndarray:
    """The probability of a play that the ranker serves for each creator's item."""
    from trainer.keras import tf

    examples = [log(lists, seed, is_position_known) for lists, seed in ((800, 1), (200, 2))]
    ranker = build_ranker(LogisticRegression, *examples, DATA, CONFIG)
    asked = {name: tf.constant(values) for name, values in features_of(CREATORS, np.zeros(LISTED)).items()}
    return ranker.probabilities(asked).numpy()[:, KINDS.index("play")]


@pytest.fixture(scope="module")
def scores():
    return {is_known: served_scores(is_known) for is_known in (True, False)}


def test_the_log_alone_would_mislead():
    examples = log(2000, 3)
    rates = [examples.labels[examples.features["creator"] == creator].sum() for creator in CREATORS]
    assert spearmanr(rates, RELEVANCE).statistic < 0, "what is shown on top is taken, relevant or not"


def test_with_positions_the_served_scores_follow_the_relevance(scores):
    known, unknown = (spearmanr(scores[is_known], RELEVANCE).statistic for is_known in (True, False))
    assert known > 0.8
    assert known > unknown + 0.3
