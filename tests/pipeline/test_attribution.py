"""`zhiyin explain` by modality: parts of an item's vector, read from the run that is served, that add up to the score."""

from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from components.settings import SettingsError
from pipeline import attribution
from pipeline.commands import explain


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


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    model = _Model()
    tf.saved_model.save(
        model, str(folder / "model" / "Format-Serving"), signatures={"item_contributions": model.item_contributions}
    )
    tf.saved_model.save(
        model, str(folder / "older" / "Format-Serving"), signatures={"item_tower": model.item_contributions}
    )
    (folder / "items" / "Split-train").mkdir(parents=True)
    with tf.io.TFRecordWriter(str(folder / "items" / "Split-train" / "items.gz"), "GZIP") as writer:
        for item_id, title, heard in ((b"i1", b"calm", [0.5, 0.0]), (b"i2", b"", [])):
            example = tf.train.Example()
            example.features.feature["item_id"].bytes_list.value.append(item_id)
            example.features.feature["title"].bytes_list.value.append(title)
            example.features.feature["embedding_heard"].float_list.value.extend(heard)
            writer.write(example.SerializeToString())
    return folder


@pytest.fixture()
def config(run, monkeypatch):
    """A work folder whose served answer was made of `run`'s parts."""
    served = {name: SimpleNamespace(uri=str(run / name)) for name in ("model", "items")}
    monkeypatch.setattr("pipeline.local_runner.inputs_of_served", lambda work_path, name: served)
    return SimpleNamespace(work_path=run, name="tiny")


def test_the_parts_of_a_score_add_up_to_it(config):
    """Heard 0.5 along the first axis, four letters 0.4 along the second; a person at (0.6, 0.8): 0.30 + 0.32."""
    names, parts = attribution.score_parts(config, "i1", np.array([0.6, 0.8], np.float32), 0.62)
    assert names == ["audio", "text"]
    np.testing.assert_allclose(parts, [0.3, 0.32], atol=1e-6)


def test_what_an_item_lacks_is_no_part_of_it(run):
    _, parts = attribution.vector_parts(run / "model" / "Format-Serving", run / "items" / "Split-train", "i2")
    assert parts.shape == (2, 2) and not parts.any()


def test_parts_of_another_vector_than_the_served_one_are_not_shown(config):
    with pytest.raises(SettingsError, match="another vector"):
        attribution.score_parts(config, "i1", np.array([0.6, 0.8], np.float32), 0.7)


def test_what_cannot_be_told_is_said(config, run, monkeypatch):
    with pytest.raises(SettingsError, match="no item 'i3'"):
        attribution.score_parts(config, "i3", np.zeros(2, np.float32), 0.0)
    with pytest.raises(SettingsError, match="train it anew"):
        attribution.vector_parts(run / "older" / "Format-Serving", run / "items" / "Split-train", "i1")
    monkeypatch.setattr("pipeline.local_runner.inputs_of_served", lambda work_path, name: {})
    with pytest.raises(SettingsError, match="not in the work folder"):
        attribution.score_parts(config, "i1", np.zeros(2, np.float32), 0.0)


def test_the_largest_parts_are_printed_and_the_lines_add_up(capsys):
    explain._print("score", 0.62, ["audio", "text", "tags"], np.array([0.1, 0.5, 0.02]), 0.0, top=2)
    lines = capsys.readouterr().out.split("\n")
    assert lines[:4] == ["score: 0.6200", "  +0.5000  text", "  +0.1000  audio", "  +0.0200  the rest"]
