"""A good model whose served answers are not its own: it is not pushed, and the last line says why."""

from pathlib import Path

import pytest
import tensorflow as tf
from tfx.types.standard_artifacts import InfraBlessing, Model

from pipeline import summary, workflows
from pipeline.local_runner import Stage
from pipeline.nodes.serving_validator import ServingValidator
from serving.export import replay
from tests.components.nodes import artifact

GOOD = {"decision": {"blessed": True, "reason": "good enough", "metric": "NDCG@10", "value": 0.5, "popularity": 0.1}}


class Doubled(tf.Module):
    """Doubles a number."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="number")])
    def double(self, number):
        return {"doubled": 2 * number}


@pytest.fixture(scope="module", params=[2.0, 3.0], ids=["as recorded", "otherwise"])
def validated(request, tmp_path_factory):
    """The stages of a run whose model has recorded so many times its input, and what should be said of it."""
    folder = tmp_path_factory.mktemp("model")
    module = Doubled()
    path = f"{folder}/Format-Serving"
    tf.saved_model.save(module, path, signatures={"double": module.double})
    recorded = [("double", {"number": tf.constant([1.0, 2.0])})]
    replay.record(path, lambda _, inputs: {"doubled": request.param * inputs["number"].numpy()}, recorded)
    model, blessing = artifact(Model, folder), artifact(InfraBlessing, tmp_path_factory.mktemp("blessing"))
    ServingValidator.test_call(exact=model, scann=model, blessing=blessing, code="")
    stages = {"ServingValidator": Stage("ServingValidator", 1, 1, 1.0, False, {"blessing": [blessing]})}
    return stages, "" if request.param == 2.0 else "double, output doubled: differs from the recorded answer by 2"


def test_the_last_line_says_what_became_of_the_model(validated, config_of, tmp_path):
    stages, expected = validated
    refusal = workflows.server_refusal(stages)
    line = summary.last_line(config_of(tmp_path), Path("a.yaml"), GOOD, 60.0, refusal)
    if expected:
        assert line.startswith("not pushed: the model server's answers are not the model's: ") and expected in line
    else:
        assert line.startswith("model in ") and "not pushed" not in line
    assert line.endswith("NDCG@10 0.5000 (popularity 0.1000) in 60 s")
