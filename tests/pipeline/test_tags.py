"""`zhiyin tags`: what the retrieval model that is current tells of an item."""

from pathlib import Path

import pytest
import tensorflow as tf

from components.settings import SettingsError
from pipeline.commands import tags
from pipeline.local_model import CurrentModel
from tests.pipeline.runs import Runs


class _Model(tf.Module):
    """Says a tag with the item's number as its probability; media may be absent."""

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.string, "item_id"),
            tf.TensorSpec([None], tf.string, "audio_log_mel"),
            tf.TensorSpec([None, 1], tf.float32, "numeric"),
        ]
    )
    def tell(self, item_id, audio_log_mel, numeric):
        return {
            "tags": tf.repeat([["calm", "loud"]], tf.size(item_id), 0),
            "probabilities": tf.concat([numeric, 1 - numeric], 1),
        }


def save(runs, parts, number, signature):
    """A model with one signature, and the one item i1 in its catalogue."""
    model = _Model()
    folder = Path(runs.uri(parts["model"])) / "Format-Serving"
    tf.saved_model.save(model, str(folder), signatures={signature: model.tell})
    example = tf.train.Example()
    for name, value in {"item_id": b"i1", "numeric": number, "tags": b"given"}.items():
        slot = example.features.feature[name]
        slot.float_list.value.append(value) if isinstance(value, float) else slot.bytes_list.value.append(value)
    for name in ("transformed_items", "catalogue"):
        folder = Path(runs.uri(parts[name])) / "Split-train"
        folder.mkdir(parents=True)
        with tf.io.TFRecordWriter(str(folder / "items.gz"), "GZIP") as writer:
            writer.write(example.SerializeToString())


@pytest.fixture
def runs(tmp_path):
    return Runs(tmp_path / "work")


def test_the_model_that_was_pushed_tells(runs, config_of):
    """Not the one that was trained later and refused."""
    save(runs, runs.train("1"), 0.75, "tags")
    save(runs, runs.train(""), 0.25, "tags")
    model = CurrentModel(config_of(runs.work_path))
    assert tags.predicted(model, "i1") == [("calm", pytest.approx(0.75)), ("loud", pytest.approx(0.25))]
    assert tags.given(model, "i1") == ["given"]


def test_what_cannot_be_told_is_said(runs, config_of):
    save(runs, runs.train("1"), 0.75, "tags")
    with pytest.raises(SettingsError, match="no item 'i2'"):
        tags.predicted(CurrentModel(config_of(runs.work_path)), "i2")
    save(runs, runs.train("2"), 0.75, "item_tower")
    with pytest.raises(SettingsError, match="tells no tags"):
        tags.predicted(CurrentModel(config_of(runs.work_path)), "i1")
