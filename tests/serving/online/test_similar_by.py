"""What `similar` orders by, through the saved signature, beside numpy."""

import numpy as np
import pytest
import tensorflow as tf

from serving.export import saved_model
from serving.index import SAVE_OPTIONS
from serving.online.requests import SIMILAR_SPECS
from tests.serving import tiny
from trainer.retrieval.similarity import SIMILARITIES

NUM_ITEMS = 30
NOTHING = np.zeros((1, 0), np.float32)  # of the content of an item
NEW = np.array(
    [0.6, -1.6, 0.0, 1.0], np.float32
)  # twice as long as others: the scores tell what a direction alone does not

ORACLES = {
    "dot": lambda query, vectors: vectors @ query,
    "cosine": lambda query, vectors: vectors @ query / np.linalg.norm(vectors, axis=1) / np.linalg.norm(query),
    "euclidean": lambda query, vectors: -((vectors - query) ** 2).sum(1),
    "hamming": lambda query, vectors: -((vectors >= 0) != (query >= 0)).sum(1),
}


def save_similar(recommender, path):
    """A SavedModel with the two signatures that are asked here; tracing the others takes most of the time."""
    texts = {name: tf.TensorSpec([None], tf.string, name) for name in ("item_id", "domain", "creator")}
    sizes = {"vector": tiny.DIM, "content": None}
    vectors = {name: tf.TensorSpec([None, size], tf.float32, name) for name, size in sizes.items()}
    added = texts | vectors | {"published_at_s": tf.TensorSpec([None], tf.int64, "published_at_s")}
    specs = {name: tf.TensorSpec(spec.shape, spec.dtype, name) for name, spec in SIMILAR_SPECS._asdict().items()}
    signatures = {
        "similar": tf.function(recommender.similar).get_concrete_function(**specs),
        "add_items": tf.function(recommender.add_items).get_concrete_function(**added),
    }
    tf.saved_model.save(recommender.state, path, signatures=signatures, options=SAVE_OPTIONS)


@pytest.mark.parametrize(("name", "kind"), [*((name, "exact") for name in SIMILARITIES), ("hamming", "scann")])
def test_each_name_orders_all_items_new_ones_too(model, tmp_path, name, kind):
    """Equal ones stand as all items do, or as ScaNN hands them on: by dot product."""
    recommender = tiny.recommender(model, kind, NUM_ITEMS, insert_capacity=2, similar_by=name)
    save_similar(recommender, str(tmp_path))
    loaded = saved_model.load(str(tmp_path)).signatures
    nothing = tf.constant([""])
    new = {"item_id": tf.constant(["new"]), "vector": tf.constant(NEW[None]), "content": tf.constant(NOTHING)}
    loaded["add_items"](**new, domain=nothing, creator=nothing, published_at_s=tf.constant([0], tf.int64))
    ids, vectors = (
        np.array([*(f"i{row}" for row in range(NUM_ITEMS)), "new"]),
        np.concatenate([tiny.vectors_of(NUM_ITEMS), NEW[None]]),
    )
    for row in (3, NUM_ITEMS):
        scores = ORACLES[name](vectors[row], vectors).astype(float)
        order = np.lexsort(
            (-(vectors @ vectors[row]) if kind == "scann" else np.arange(len(ids)), np.round(-scores, 5))
        )
        order = order[order != row]
        asked = tiny.similar_to(ids[row], k=NUM_ITEMS - 1, exclude=[["i7"]])
        ((found, told),) = tiny.answers(loaded["similar"](**asked))
        order = order[ids[order] != "i7"]
        assert found == ids[order].tolist()
        np.testing.assert_allclose(told, scores[order], atol=1e-5)


@pytest.mark.parametrize("name", ["euclidean", "hamming"])
def test_a_cap_holds_by_any_name(model, name):
    """Of no creator at all every item is a creator of its own, so a cap of one leaves the list as it is."""
    recommender = tiny.recommender(model, "exact", NUM_ITEMS, similar_by=name)
    plain, capped = (tiny.answers(recommender.similar(**tiny.similar_to("i3", k=8, cap=cap)))[0] for cap in ([0], [1]))
    assert plain[0] == capped[0] and len(plain[0]) == 8
