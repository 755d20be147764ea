"""Item examples arrive in the order of the catalogue, and what they lack is told apart from what they say."""

import numpy as np
import pytest
import tensorflow as tf

from components.datasets.items import encode_item_batches, read_item_metadata, read_item_words
from components.examples import bytes_feature, floats_feature, ints_feature


def write(folder, *items):
    """Items: each {feature: list of str, int or float}."""
    folder.mkdir(parents=True, exist_ok=True)
    kinds = {str: bytes_feature, int: ints_feature, float: floats_feature}
    with tf.io.TFRecordWriter(f"{folder}/part.gz", "GZIP") as writer:
        for item in items:
            feature = {name: kinds[type(values[0])](values) for name, values in item.items()}
            writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())
    return str(folder)


def test_metadata_follows_the_ids_and_tells_what_is_absent(tmp_path):
    """A film of 1931 has a date as any other, and a category that it lacks is empty."""
    film = {"item_id": ["ü"], "published_at": [-1_220_000_000], "mood": ["glum"], "domain": ["film"], "year": [1931.0]}
    folder = write(tmp_path, film, {"item_id": ["n"], "creator": ["somebody"], "duration_s": [9.0]})
    found = read_item_metadata(folder, ["n", "ü"], categorical=["mood"], numeric=["year"])
    assert np.isnan(found.published_at_s[0]) and found.published_at_s[1] == -1_220_000_000
    assert found.domains.tolist() == ["", "film"] and found.creators.tolist() == ["somebody", ""]
    assert found.categories.tolist() == [[""], ["glum"]]
    np.testing.assert_array_equal(found.numeric, [[9, np.nan], [np.nan, 1931]])
    with pytest.raises(KeyError, match="z"):
        read_item_metadata(folder, ["n", "z"])


def test_items_of_which_nothing_is_known_may_follow(tmp_path):
    found = read_item_metadata(write(tmp_path, {"item_id": ["a"], "domain": ["film"]}), ["a"]).padded(2)
    assert found.domains.tolist() == ["film", "", ""] and np.isnan(found.published_at_s).all()
    assert found.categories.shape == (3, 0) and found.numeric.shape == (3, 1)


def test_words_are_those_of_title_description_and_tags(tmp_path):
    folder = write(
        tmp_path,
        {"item_id": ["a"], "title": ["Don't STOP_me"], "tags": ["rock", "live 1979"]},
        {"item_id": ["b"], "description": ["音楽 jazz"]},
        {"item_id": ["c"]},
    )
    assert read_item_words(folder, ["c", "b", "a"]) == [
        [],
        ["音", "楽", "jazz"],
        ["don", "t", "stop", "me", "rock", "live", "1979"],
    ]


def test_the_signature_decides_the_features_and_what_is_absent_is_marked(tmp_path):
    """A list without values is NaN where others have some."""

    specs = {
        "item_id": tf.TensorSpec([None], tf.string),
        "embedding_style": tf.TensorSpec([None, None], tf.float32),
        "tags": tf.TensorSpec([None, None], tf.string),
        "published_at": tf.TensorSpec([None, None], tf.int64),
    }
    signature = tf.function(lambda **features: features["embedding_style"]).get_concrete_function(**specs)
    folder = write(
        tmp_path,
        {"item_id": ["x"], "embedding_style": [1.0, 2.0], "tags": ["rock"]},
        {"item_id": ["y"], "published_at": [5]},
    )
    ((ids, inputs),) = encode_item_batches(signature, folder)
    assert ids == [b"x", b"y"] and inputs["item_id"].numpy().tolist() == ids
    np.testing.assert_array_equal(inputs["embedding_style"], [[1, 2], [np.nan, np.nan]])
    assert inputs["tags"].numpy().tolist() == [[b"rock"], [b""]] and inputs["published_at"].numpy().tolist() == [
        [-1],
        [5],
    ]
    assert [ids for ids, _ in encode_item_batches(signature, folder, batch_size=1)] == [[b"x"], [b"y"]]
