"""`zhiyin explain` by modality: parts of an item's vector, from the current model's run, that add up to the score."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from components.settings import SettingsError
from pipeline import attribution
from pipeline.local_model import CurrentModel, RankedList
from tests.pipeline.runs import Runs


class _Model(tf.Module):
    """A vector of two parts: what was heard of an item, and its title's length."""

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.string, "title"),
            tf.TensorSpec([None, None], tf.float32, "embedding_heard"),
        ]
    )
    def item_contributions(self, title, embedding_heard):
        heard = tf.reduce_sum(tf.where(tf.math.is_nan(embedding_heard), 0.0, embedding_heard), 1, keepdims=True) * [
            [1.0, 0.0]
        ]
        length = tf.cast(tf.strings.length(title), tf.float32)[:, None] * [[0.0, 0.1]]
        return {"parts": tf.stack([heard, length], 1), "names": tf.repeat([["audio", "text"]], tf.size(title), 0)}


def save_items(folder):
    folder.mkdir(parents=True)
    with tf.io.TFRecordWriter(str(folder / "items.gz"), "GZIP") as writer:
        for item_id, title, heard in ((b"i1", b"calm", [0.5, 0.0]), (b"i2", b"", [])):
            example = tf.train.Example()
            example.features.feature["item_id"].bytes_list.value.append(item_id)
            example.features.feature["title"].bytes_list.value.append(title)
            example.features.feature["embedding_heard"].float_list.value.extend(heard)
            writer.write(example.SerializeToString())


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Version 1 of a model that gives parts, version 2 of one that does not, both on the same items."""
    runs = Runs(tmp_path_factory.mktemp("work"))
    model = _Model()
    for version, signature in (("1", "item_contributions"), ("2", "item_tower")):
        parts = runs.train(version)
        save_items(Path(runs.uri(parts["items"])) / "Split-train")
        folder = Path(runs.uri(parts["model"])) / "Format-Serving"
        tf.saved_model.save(model, str(folder), signatures={signature: model.item_contributions})
    return runs


@pytest.fixture()
def model(runs, config_of):
    """The model whose parts are version 1's."""
    current = CurrentModel(config_of(runs.work_path))
    current.path = current.path.with_name("1")
    return current


def test_the_parts_of_a_score_add_up_to_it(model):
    """Heard 0.5 along the first axis, four letters 0.4 along the second; a person at (0.6, 0.8): 0.30 + 0.32."""
    names, parts = attribution.score_parts(model, "i1", np.array([0.6, 0.8], np.float32), 0.62)
    assert names == ["audio", "text"]
    np.testing.assert_allclose(parts, [0.3, 0.32], atol=1e-6)


def test_what_an_item_lacks_is_no_part_of_it(model):
    _, parts = attribution.vector_parts(model, "i2")
    assert parts.shape == (2, 2) and not parts.any()


def test_parts_of_another_vector_than_the_served_one_are_not_shown(model):
    with pytest.raises(SettingsError, match="another vector"):
        attribution.score_parts(model, "i1", np.array([0.6, 0.8], np.float32), 0.7)


def test_what_cannot_be_told_is_said(model, runs, config_of):
    with pytest.raises(SettingsError, match="no item 'i3'"):
        attribution.score_parts(model, "i3", np.zeros(2, np.float32), 0.0)
    with pytest.raises(SettingsError, match="train it anew"):
        attribution.vector_parts(CurrentModel(config_of(runs.work_path)), "i1")


@pytest.mark.parametrize(("fallback", "notes"), [(False, 1), (True, 2)])
def test_somebody_known_from_the_users_table_alone_is_not_unknown(monkeypatch, fallback, notes):
    """Of both there is no history; who is new gets the list of new people."""
    why = {name: np.zeros((1, 1)) for name in ("score", "history_rest", "history_parts")}
    why |= {"history_ids": np.array([b""]), "field_names": []}
    asked = SimpleNamespace(
        explain=lambda user_id, item_id: why,
        titles=lambda item_ids: {},
        query=lambda user_id: np.zeros(2),
        recommend=lambda user_ids, k: iter([RankedList(user_ids[0], [], [], fallback)]),
    )

    def not_told(*_):
        raise SettingsError("no run")

    monkeypatch.setattr(attribution, "score_parts", not_told)
    found = attribution.explain(asked, "ann", "i1").notes
    assert len(found) == notes and ("nothing is known of 'ann'" in found[-1]) == fallback


def test_the_largest_parts_and_the_rest_add_up():
    parts = np.array([0.1, 0.5, 0.02, -0.3])
    whole = attribution.Decomposition("score", 0.42, ["audio", "text", "tags", ""], parts, 0.1)
    assert whole.largest(3) == ([("text", 0.5), ("audio", 0.1)], pytest.approx(-0.18))
