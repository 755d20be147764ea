"""The node Pretraining, and how its weights reach the trainer."""

import json

import pytest
from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2
from tfx.components.trainer import executor
from tfx.components.trainer.fn_args_utils import FnArgs
from tfx.types import artifact_utils
from tfx.types.standard_artifacts import Examples, TransformGraph

from components.config import DataConfig, TableConfig
from components.settings import to_json
from pipeline.nodes.pretraining import Pretraining
from pipeline.nodes.retrieval_trainer import RetrievalTrainerExecutor
from trainer.config.encoder import EncoderConfig
from trainer.config.pretraining import PretrainingConfig
from zhiyin_artifacts import EncoderWeights

DATA = DataConfig(TableConfig("items.csv"), TableConfig("events.csv"))


def artifact(kind, uri, splits=None):
    made = kind()
    made.uri = str(uri)
    if splits:
        made.split_names = artifact_utils.encode_split_names(splits)
    return made


def weights_of_node(folder):
    """What the node leaves, with everything that it reads below a folder."""
    weights = artifact(EncoderWeights, folder / "weights")
    Pretraining.test_call(
        items=artifact(Examples, folder / "items", ["train"]),
        transform_graph=artifact(TransformGraph, folder / "graph"),
        weights=weights,
        data=to_json(DATA),
        encoder=to_json(EncoderConfig(width=8)),
        pretraining=to_json(PretrainingConfig(epochs=3)),
        code="",
    )
    return weights


def test_the_node_hands_the_train_split_on_and_keeps_the_errors(monkeypatch, tmp_path):
    calls = []

    def train(*arguments):
        calls.append(arguments)
        return {"audio": {"before": 1.0, "after": 0.5, "epochs": 3, "items": 8}}

    monkeypatch.setattr("trainer.content.run_pretraining.pretrain_encoders", train)
    weights = weights_of_node(tmp_path)
    places = (str(tmp_path / "items" / "Split-train"), str(tmp_path / "graph"), weights.uri)
    assert calls == [(*places, DATA, EncoderConfig(width=8), PretrainingConfig(epochs=3))]
    assert (
        weights.get_float_custom_property("audio_before") == 1.0
        and weights.get_float_custom_property("audio_after") == 0.5
    )


def test_what_was_not_measured_is_no_property_and_the_weights_are_published(monkeypatch, tmp_path):
    """A store of metadata takes no NaN: an error that no item was held out for is left out."""
    report = {"video": {"before": None, "after": None, "epochs": 3, "items": 8}}
    monkeypatch.setattr("trainer.content.run_pretraining.pretrain_encoders", lambda *_: report)
    weights = weights_of_node(tmp_path)
    assert not weights.has_custom_property("video_before") and not weights.has_custom_property("video_after")
    connection = metadata_store_pb2.ConnectionConfig()
    connection.fake_database.SetInParent()
    store = metadata_store.MetadataStore(connection)
    weights.type_id = store.put_artifact_type(weights.artifact_type)
    (number,) = store.put_artifacts([weights.mlmd_artifact])
    assert store.get_artifacts_by_id([number])[0].uri == weights.uri


@pytest.mark.parametrize("is_pretrained", [True, False])
def test_the_trainer_hears_of_weights_where_there_are_any(monkeypatch, tmp_path, is_pretrained):
    monkeypatch.setattr(
        executor.GenericExecutor,
        "_GetFnArgs",
        lambda self, inputs, outputs, properties: FnArgs(custom_config={"data": "{}"}),
    )
    inputs = {"items": [artifact(Examples, tmp_path / "items", ["train"])]}
    if is_pretrained:
        inputs["encoder_weights"] = [artifact(EncoderWeights, tmp_path / "weights")]
    arguments = RetrievalTrainerExecutor.__new__(RetrievalTrainerExecutor)._GetFnArgs(inputs, {}, {})
    expected = {"data": "{}", "items": str(tmp_path / "items" / "Split-train")}
    assert arguments.custom_config == {
        **expected,
        **({"encoder_weights": str(tmp_path / "weights")} if is_pretrained else {}),
    }
    json.dumps(arguments.custom_config)
