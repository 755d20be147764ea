"""A recommender with a ranker over 60 dated items of several creators, and requests of it as plain values; a trainer's
ranker that has learned nothing.
"""

import numpy as np
import tensorflow as tf

from components.config import DataConfig, TableConfig
from components.contract import Feature
from components.datasets.items import ItemMetadata
from serving.config import IndexConfig, ListDefaults, ServingConfig
from serving.offline.build_index import build_vector_index
from serving.online.catalog import IndexedItems, LiveCatalog
from serving.online.recommender import RecommenderModel
from serving.online.scorers import RankerScorer
from tests.serving import tiny
from trainer.config.ranking import RankingConfig
from trainer.ranking.deepfm import LogisticRegression
from trainer.ranking.features import Encoder, ranking_features
from trainer.ranking.run import Ranker, export

DATA = DataConfig(TableConfig(""), TableConfig(""))
NUM_ITEMS, CANDIDATES, LAST_S = 60, 20, 1_700_000_000
VECTORS = tiny.vectors_of(NUM_ITEMS, 3)
DOMAINS = np.array([("music", "film", "")[row % 3] for row in range(NUM_ITEMS)])
# One creator has made a third of everything, so that a cap uses the candidates up; every tenth item has none.
CREATORS = np.array(["" if row % 10 == 0 else "c0" if row % 3 else f"c{row % 7}" for row in range(NUM_ITEMS)])
# Every fifth item has no date; the others appeared in the last hundred days.
PUBLISHED_S = np.array([np.nan if row % 5 == 0 else LAST_S - 86_400.0 * (row * 37 % 100) for row in range(NUM_ITEMS)])
POPULARITY = np.random.default_rng(1).exponential(1, NUM_ITEMS).astype(np.float32)
COLD_START = np.random.default_rng(2).permutation(NUM_ITEMS) / NUM_ITEMS
STORED = {"known": [(0, 1), (3, 2)], "other": [(1, 1)]}  # position and weight of the event
WEIGHTS = {"play": 1.0, "complete": 2.0, "like": 3.0, "skip": -0.5, "rating": 2.0}
NAMES = list(WEIGHTS)


class PlainRanker(tf.Module):
    """play: by the learned similarity; complete: by the nearest item of the history; like: by popularity; skip: by the
    domain's share; rating: by the number of likes in the history.
    """

    def __init__(self):
        super().__init__()
        features = ranking_features(DATA, tiny.DIM)
        specs = {one.name: tf.TensorSpec([None, *one.shape], tf.as_dtype(one.dtype), one.name) for one in features}
        weights = tf.TensorSpec([None, len(NAMES)], tf.float32, "weights")
        explain = tf.function(self.explain).get_concrete_function(weights=weights, **specs)
        self.signatures = {"rank": tf.function(self.rank).get_concrete_function(**specs), "explain": explain}

    def explain(self, weights, **features):
        """Each objective's part of the utility stands for a field of its own."""
        parts = self.rank(**features)["probabilities"] * weights
        return {
            "parts": parts,
            "rest": tf.zeros_like(parts[:, 0]),
            "names": tf.repeat(tf.constant([NAMES]), tf.shape(parts)[0], 0),
        }

    def rank(self, **features):
        columns = [
            features["learned_similarity"],
            3 * features["max_similarity"],
            features["popularity"] - 1,
            features["domain_share"],
        ]
        return {"probabilities": tf.sigmoid(tf.stack([*columns, features["history_counts"][:, 2] / 4], 1))}


def save_untaught(folder, data, dim):
    """A ranker as the trainer exports it, that has learned nothing; returns its folder."""
    features = {one.name: _ones(one) for one in ranking_features(data, dim)}
    encoder = Encoder(features, 1, list(data.event_rules), data.numeric)
    model = LogisticRegression(encoder, np.full(len(data.event_rules), 0.5), RankingConfig())
    platt = np.repeat([[1.0], [0.0]], len(data.event_rules), 1).astype(np.float32)
    export(Ranker(encoder, model, platt, data, dim), features, str(folder))
    return str(folder)


def _ones(feature: Feature):
    shape = (3, *feature.shape)
    return np.full(shape, b"a", object) if feature.dtype == "string" else np.ones(shape, feature.dtype)


def recommender(model, kind, defaults=ListDefaults(), candidates=CANDIDATES, **index):  # noqa: B008 (frozen)
    ids = [f"i{row}" for row in range(NUM_ITEMS)]
    config = IndexConfig(kind=kind, candidates=candidates, **index)
    index = build_vector_index(VECTORS, ids, config)
    empty = np.full(NUM_ITEMS, "", object)
    facts = ItemMetadata(
        DOMAINS.astype(object), CREATORS.astype(object), empty[:, None][:, :0], np.zeros((NUM_ITEMS, 1)), PUBLISHED_S
    )
    columns = {"creators": list(CREATORS), "published_at_s": PUBLISHED_S, "available_from_s": PUBLISHED_S}
    catalog = LiveCatalog(index, IndexedItems(ids, list(DOMAINS), COLD_START, now_s=LAST_S, **columns))
    scorer = RankerScorer(PlainRanker(), facts, catalog, model.signatures["learned_similarity"], POPULARITY, WEIGHTS)
    histories = tiny.histories_of({"known": [(0, 0, 0.0), (3, 1, 0.0)], "other": [(1, 0, 0.0)]})
    return RecommenderModel(model, catalog, histories, ServingConfig(config, defaults=defaults), scorer)


def fits(row, one):
    """Whether the item is of the domain, out at the time of the request, and no older than asked for."""
    time_s = one["time_s"] or LAST_S
    is_recent = not one["age"] or PUBLISHED_S[row] >= time_s - one["age"]
    return one["domain"] in ("", DOMAINS[row]) and is_recent and not PUBLISHED_S[row] > time_s


def ask(answer, batch):
    column = lambda name: [one[name] for one in batch]  # noqa: E731
    page = tiny.request(
        column("user_id"),
        column("history"),
        None,
        None,
        column("exclude"),
        column("domain"),
        column("k"),
        allow=column("allow"),
        weights=column("weights"),
        diversity=column("diversity"),
        cap=column("cap"),
        # fmt: skip
        explore=column("explore"),
        seed=column("seed"),
        age=column("age"),
        time_s=column("time_s"),
    )
    return {name: value.numpy() for name, value in answer.recommend(**page).items()}


SILENT = {"user_id": "known", "history": [], "exclude": [], "allow": [], "domain": "", "k": 12, "weights": [0.0] * 5,
          "diversity": 0.0, "cap": 0, "explore": 0.0, "seed": 7, "age": 0, "time_s": 0}  # fmt: skip
