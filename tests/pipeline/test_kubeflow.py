"""The compiled pipeline: the very DAG that runs here, parsed back; and what is refused before a cluster sees it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from components.settings import SettingsError
from pipeline import catalog_updates, kubeflow
from pipeline import config as configuration

pytestmark = pytest.mark.filterwarnings("default")

NODES = {
    "CatalogGen", "EventGen", "CatalogStatistics", "EventStatistics", "CatalogSchema", "EventSchema",
    "CatalogValidator", "EventValidator",
    "DataGate", "MediaFeatures", "ItemTransform", "Interactions", "RetrievalTrainer", "ItemIndex", "RetrievalEvaluator",
    "RankingExamples", "RankingTrainer", "RankingEvaluator", "RetrievalRefit", "Recommender", "ServingValidator",
    "ExactPusher", "ScannPusher",
}  # fmt: skip


STORE = "store:redis://:hidden@host/0"


def compiled(config: configuration.Config, output: Path) -> dict:
    return kubeflow.compile_pipeline(config, output, fingerprint="20240101T000000Z")


@pytest.mark.slow
def test_the_compiled_job_has_every_node_with_image_and_entry_point(cloud_settings, write, tmp_path) -> None:
    """C42: the image, functions by dotted name, the environment variable; no path of the compiling machine."""
    config = configuration.load(write(cloud_settings))
    compiled(config, tmp_path / "job.json")
    text = (tmp_path / "job.json").read_text()
    rows = {node: (image, entry) for node, image, entry in kubeflow.summary(json.loads(text))}
    assert set(rows) == NODES
    assert {image for image, _ in rows.values()} == {"registry/zhiyin:1"}
    assert rows["RetrievalTrainer"][1] == "pipeline.nodes.retrieval_trainer.RetrievalTrainerExecutor"
    assert rows["MediaFeatures"][1] == "pipeline.nodes.media_features.MediaFeatures_Executor"
    executors = json.loads(text)["pipelineSpec"]["deploymentSpec"]["executors"].values()
    assert all(executor["container"]["command"][:2] == ["env", "TF_USE_LEGACY_KERAS=1"] for executor in executors)
    assert "trainer.retrieval.run.run_fn" in text
    assert f'"{Path.home()}/' not in text and str(Path(__file__).parents[2]) not in text


@pytest.mark.slow
def test_json_and_yaml_hold_the_same_nodes_and_the_trainer_its_accelerator(cloud_settings, write, tmp_path) -> None:
    cloud_settings["deploy"] |= {"accelerator": "NVIDIA_TESLA_T4", "accelerator_count": 2}
    config = configuration.load(write(cloud_settings))
    as_json = compiled(config, tmp_path / "job.json")
    compiled(config, tmp_path / "job.yaml")
    as_yaml = yaml.safe_load((tmp_path / "job.yaml").read_text())
    executors = as_json["pipelineSpec"]["deploymentSpec"]["executors"]
    assert {node for node, _, _ in kubeflow.summary(as_json)} == NODES
    assert set(
        as_yaml.get("deploymentSpec", as_yaml.get("pipelineSpec", {}).get("deploymentSpec"))["executors"]
    ) == set(executors)
    (trainer,) = (name for name in executors if name.startswith("RetrievalTrainer"))
    accelerator = executors[trainer]["container"]["resources"]["accelerator"]
    assert (accelerator["type"], int(accelerator["count"])) == ("NVIDIA_TESLA_T4", 2)


@pytest.mark.slow
def test_vertex_gets_a_job_and_kubeflow_its_specification_in_the_client_library_s_types(
    cloud_settings, write, tmp_path
) -> None:
    from google.protobuf import json_format
    from kfp.pipeline_spec import pipeline_spec_pb2

    config = configuration.load(write(cloud_settings))
    specs = {}
    for target in ("vertex", "kubeflow"):
        kubeflow.compile_pipeline(config, tmp_path / f"{target}.json", "20240101T000000Z", target)
        text = (tmp_path / f"{target}.json").read_text()
        message = pipeline_spec_pb2.PipelineJob() if target == "vertex" else pipeline_spec_pb2.PipelineSpec()
        specs[target] = json_format.Parse(text, message)
    job, spec = specs["vertex"], specs["kubeflow"]
    assert json_format.ParseDict(json_format.MessageToDict(job.pipeline_spec), type(spec)()) == spec
    assert (spec.schema_version, spec.default_pipeline_root) == ("2.1.0", "gs://b/root")
    assert job.runtime_config.gcs_output_directory == "gs://b/root"


@pytest.mark.slow
def test_pretraining_is_a_node_where_the_configuration_asks_for_it(cloud_settings, write, tmp_path) -> None:
    """And the retrieval trainer waits for its weights."""
    plain = compiled(configuration.load(write(cloud_settings)), tmp_path / "plain.json")
    asked = compiled(configuration.load(write({**cloud_settings, "pretraining": {"epochs": 2}})), tmp_path / "job.json")
    nodes = {node for node, _, _ in kubeflow.summary(asked)}
    assert nodes - {node for node, _, _ in kubeflow.summary(plain)} == {"Pretraining"}
    tasks = asked["pipelineSpec"]["root"]["dag"]["tasks"]
    assert "Pretraining" in tasks["RetrievalTrainer"]["dependentTasks"]
    assert "encoder_weights" in tasks["RetrievalTrainer"]["inputs"]["artifacts"]


@pytest.mark.slow
def test_encoders_have_a_node_where_there_are_some(cloud_settings, write, tmp_path) -> None:
    """Their models may lie in a bucket or in the image, but not somewhere below a folder that the image does not
    know."""
    encoder = {"name": "words", "kind": "text", "path": "/models/words", "dim": 8}
    job = compiled(configuration.load(write({**cloud_settings, "encoders": [encoder]})), tmp_path / "job.json")
    assert {node for node, _, _ in kubeflow.summary(job)} == NODES | {"FrozenEncoders"}
    elsewhere = configuration.load(write({**cloud_settings, "encoders": [{**encoder, "path": "models/words"}]}))
    with pytest.raises(SettingsError, match="'models/words' is a relative path"):
        kubeflow.check(elsewhere, tmp_path / "job.json")


@pytest.mark.parametrize(
    ("section", "setting", "value", "message"),
    [
        ("deploy", "image", "", "deploy.image is not set"),
        ("deploy", "pipeline_root", "", "deploy.pipeline_root is not set"),
        ("deploy", "serving_root", "models", "deploy.serving_root: 'models' is a path on this machine"),
        ("data", "catalogue", {"path": "items.csv"}, "data.catalogue.path: 'items.csv' is a path on this machine"),
        ("data", "media_root", "media", "data.media_root: 'media' is a path on this machine"),
        ("data", "users", {"path": "users.csv"}, "data.users.path: 'users.csv' is a path on this machine"),
        ("data", "exposures", "lists.csv", "data.exposures: 'lists.csv' is a path on this machine"),
        ("data", "events", {"path": "store:"}, "data.events.path: only a run on this machine reads a store"),
        ("data", "events", {"path": STORE}, "data.events.path: only a run on this machine reads a store"),
        ("data", "exposures", STORE, "data.exposures: only a run on this machine reads a store"),
    ],
)
def test_what_a_container_could_not_see_is_refused(
    cloud_settings, write, section, setting, value, message, tmp_path
) -> None:
    cloud_settings[section][setting] = value
    cloud_settings["retrieval"] = {"use_user_features": True}
    with pytest.raises(SettingsError) as caught:
        kubeflow.check(configuration.load(write(cloud_settings)), tmp_path / "job.json")
    assert message in str(caught.value) and "hidden" not in str(caught.value)


@pytest.mark.slow
def test_the_job_knows_what_was_withdrawn_when_it_was_compiled(cloud_settings, write, tmp_path) -> None:
    config = configuration.load(write({**cloud_settings, "work_dir": str(tmp_path / "work")}))
    catalog_updates.note_withdrawn(config, ["an item that is gone"])
    compiled(config, tmp_path / "job.json")
    assert "an item that is gone" in (tmp_path / "job.json").read_text()


@pytest.mark.parametrize("name", ["x.txt", "x", "x.json.gz"])
def test_another_ending_is_refused_with_the_allowed_ones(cloud_settings, write, tmp_path, name) -> None:
    """C43."""
    with pytest.raises(SettingsError, match=r"\.json, \.yaml, \.yml"):
        kubeflow.check(configuration.load(write(cloud_settings)), tmp_path / name)


def test_a_function_that_does_not_exist_is_refused(monkeypatch, cloud_settings, write, tmp_path) -> None:
    from pipeline import retrieval_nodes

    monkeypatch.setattr(retrieval_nodes, "RETRIEVAL_RUN_FN", "trainer.retrieval.run.nope")
    with pytest.raises(ValueError, match="RetrievalTrainer: there is no function trainer.retrieval.run.nope"):
        compiled(configuration.load(write(cloud_settings)), tmp_path / "job.json")
