"""The compiled pipeline, run: each container's command as a process of its own, to a pushed model that answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from tests.e2e import compiled_job

BUCKET = "gs://bucket"
SETTINGS = {
    "name": "tiny",
    "data": {
        "catalogue": {"path": f"{BUCKET}/world/catalogue.csv"},
        "events": {"path": f"{BUCKET}/world/events.csv"},
        "media_root": f"{BUCKET}/world",
        "max_reject_share": 0.2,
    },
    "retrieval": {"embedding_dim": 8, "epochs": 2, "content_epochs": 0, "encoder": {"width": 8, "heads": 2}},
    "evaluation": {"min_gain_over_popularity": -1.0, "max_loss_to_last": 1.0},
    "deploy": {"image": "registry/zhiyin:1", "pipeline_root": f"{BUCKET}/root", "serving_root": f"{BUCKET}/serving"},
}


class Finished(NamedTuple):
    """A job that has run."""

    tasks: list[compiled_job.Task]
    artifacts: dict[str, dict]  # task -> output -> ArtifactList
    serving: Path  # of the pushed versions


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The job of a world of 30 items, compiled and run."""
    from pipeline import config as configuration
    from pipeline import kubeflow
    from pipeline.sources.demo.dataset import DemoConfig, write_demo

    folder = tmp_path_factory.mktemp("job")
    bucket, work = folder / "bucket", folder / "work"
    work.mkdir()
    write_demo(bucket / "world", DemoConfig(seed=1, num_items=30, num_people=40, num_events=900))
    (folder / "tiny.yaml").write_text(yaml.safe_dump(SETTINGS))
    kubeflow.compile_pipeline(configuration.load(folder / "tiny.yaml"), folder / "job.json", "20240101T000000Z")
    job = compiled_job.in_folder(json.loads((folder / "job.json").read_text()), BUCKET, bucket)
    artifacts = compiled_job.run(job, work)
    return Finished(compiled_job.tasks_in_order(job), artifacts, bucket / "serving")


@pytest.mark.e2e
@pytest.mark.slow
@pytest.mark.filterwarnings("default")
class TestCompiledJob:
    def test_every_task_ran_after_those_it_waits_for_and_left_its_artifacts(self, finished: Finished) -> None:
        assert [task.name for task in finished.tasks] == list(finished.artifacts)
        assert len(finished.tasks) == 23
        for number, task in enumerate(finished.tasks):
            assert task.upstream <= {earlier.name for earlier in finished.tasks[:number]}
            outputs = task.component.get("outputDefinitions", {}).get("artifacts", {})
            assert set(finished.artifacts[task.name]) == set(outputs)

    def test_what_blesses_a_model_reaches_what_pushes_it(self, finished: Finished) -> None:
        for task, output, outcome in [
            ("RetrievalEvaluator", "blessing", "blessed"),
            ("RankingEvaluator", "blessing", "blessed"),
            ("ServingValidator", "blessing", "blessed"),
            ("ExactPusher", "pushed_model", "pushed"),
            ("ScannPusher", "pushed_model", "pushed"),
        ]:
            (artifact,) = finished.artifacts[task][output]["artifacts"]
            assert artifact["metadata"][outcome] == 1, (task, artifact)

    @pytest.mark.parametrize("model", ["tiny", "tiny-scann"])
    def test_the_pushed_model_answers(self, finished: Finished, model: str) -> None:
        import tensorflow as tf

        from serving.export import saved_model

        (version,) = (path for path in (finished.serving / model).iterdir() if path.name.isdigit())
        answer = saved_model.load(str(version)).signatures["recommend_user"](
            user_id=tf.constant(["u0001", "nobody"]), k=tf.constant([3, 3])
        )
        catalogue = (finished.serving.parent / "world" / "catalogue.csv").read_text().splitlines()[1:]
        for items, count in zip(answer["item_ids"].numpy().astype(str), answer["count"].numpy()):
            assert count and set(items[:count]) <= {line.split(",")[0] for line in catalogue}
            assert len(set(items[:count])) == count
        assert answer["fallback"].numpy().tolist() == [False, True]


def test_a_container_that_ends_with_an_error_is_named_with_what_it_said(tmp_path: Path) -> None:
    container = {"command": ["sh", "-c"], "args": ["echo no such bucket >&2; exit 3"]}
    spec = {"componentRef": {"name": "Reader"}, "taskInfo": {"name": "Reader"}}
    job = {
        "runtimeConfig": {"gcsOutputDirectory": str(tmp_path / "root")},
        "pipelineSpec": {
            "root": {"dag": {"tasks": {"Reader": spec}}},
            "components": {"Reader": {"executorLabel": "reader"}},
            "deploymentSpec": {"executors": {"reader": {"container": container}}},
        },
    }
    with pytest.raises(compiled_job.TaskFailed, match="Reader ended with 3: no such bucket"):
        compiled_job.run(job, tmp_path)
