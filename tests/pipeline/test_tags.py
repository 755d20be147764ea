"""`zhiyin tags`: the answer of the newest trained model for an item of the newest catalogue."""

import pytest
import tensorflow as tf

from components.settings import SettingsError
from pipeline.commands import tags


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


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("artifacts")
    for version, number in (("9", 0.25), ("10", 0.75)):  # 10 is newer than 9
        model = _Model()
        target = folder / "RetrievalTrainer" / "model" / version / "Format-Serving"
        tf.saved_model.save(
            model, str(target), signatures={"tags": model.tell} if version == "10" else {"item_tower": model.tell}
        )
        features = {"item_id": b"i1", "numeric": number, "tags": b"given"}
        example = tf.train.Example()
        for name, value in features.items():
            slot = example.features.feature[name]
            slot.float_list.value.append(value) if isinstance(value, float) else slot.bytes_list.value.append(value)
        for room in ("ItemTransform/transformed_examples", "CatalogGen/examples"):
            part = folder / room / version / "Split-train"
            part.mkdir(parents=True)
            with tf.io.TFRecordWriter(str(part / "items.gz"), "GZIP") as writer:
                writer.write(example.SerializeToString())
    return folder


def test_the_newest_model_tells_of_the_newest_item(artifacts):
    assert tags.predicted(artifacts, "i1") == [("calm", pytest.approx(0.75)), ("loud", pytest.approx(0.25))]
    assert tags.given(artifacts, "i1") == ["given"]


def test_what_cannot_be_told_is_said(artifacts, tmp_path):
    with pytest.raises(SettingsError, match="no item 'i2'"):
        tags.predicted(artifacts, "i2")
    with pytest.raises(SettingsError, match="no finished run"):
        tags.predicted(tmp_path, "i1")
    older = tmp_path / "RetrievalTrainer" / "model"
    older.mkdir(parents=True)
    (older / "9").symlink_to(artifacts / "RetrievalTrainer" / "model" / "9")
    with pytest.raises(SettingsError, match="tells no tags"):
        tags.predicted(tmp_path, "i1")
