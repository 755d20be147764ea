"""The node Pretraining, and how its weights reach the trainer."""

import json

import pytest
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


def test_the_node_hands_the_train_split_on_and_keeps_the_errors(monkeypatch, tmp_path):
    calls = []

    def train(*arguments):
        calls.append(arguments)
        return {"audio": {"before": 1.0, "after": 0.5, "epochs": 3, "items": 8}}

    monkeypatch.setattr("trainer.content.run_pretraining.pretrain_encoders", train)
    weights = artifact(EncoderWeights, tmp_path / "weights")
    Pretraining.test_call(
        items=artifact(Examples, tmp_path / "items", ["train"]),
        transform_graph=artifact(TransformGraph, tmp_path / "graph"),
        weights=weights,
        data=to_json(DATA),
        encoder=to_json(EncoderConfig(width=8)),
        pretraining=to_json(PretrainingConfig(epochs=3)),
        code="",
    )
    places = (str(tmp_path / "items" / "Split-train"), str(tmp_path / "graph"), weights.uri)
    assert calls == [(*places, DATA, EncoderConfig(width=8), PretrainingConfig(epochs=3))]
    assert (
        weights.get_float_custom_property("audio_before") == 1.0
        and weights.get_float_custom_property("audio_after") == 0.5
    )


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
