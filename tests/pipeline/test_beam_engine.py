"""The engine of the Beam nodes: what is refused before anything runs, and nodes through a job server of Beam's."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from components.config import DataConfig, TableConfig
from components.interpreter import module_environment
from components.settings import SettingsError
from pipeline import beam_engine, bulk_lists, kubeflow, workflows
from pipeline import config as configuration
from pipeline.beam_engine import BeamConfig
from serving.config import EvaluationConfig
from tests.pipeline import beam_records

STARTS_WITHIN_S = 120


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"runner": "flinc"}, "got 'flinc', expected one of direct, flink, spark, dataflow"),
        ({"runner": "flink"}, "job_server: got '', expected host:port"),
        ({"runner": "spark", "job_server": "cluster"}, "job_server: got 'cluster', expected host:port"),
        ({"runner": "flink", "job_server": "c:8099", "workers": "c"}, "workers: got 'c', expected host:port"),
        ({"runner": "flink", "job_server": "c:²"}, "job_server: got 'c:²', expected host:port"),
        ({"runner": "spark", "job_server": "c:8099", "parallelism": 2}, "a setting of flink; the runner is spark"),
        ({"runner": "dataflow", "project": "p"}, "dataflow needs region, temp_location"),
        ({"options": ["--runner=FlinkRunner"]}, "the runner is chosen by `runner`"),
        ({"options": ["direct_num_workers=2"]}, "expected --name=value"),
    ],
)
def test_an_engine_that_lacks_something_is_refused_with_what_it_lacks(settings, message, write, tmp_path) -> None:
    whole = {
        "name": "tiny",
        "data": {"catalogue": {"path": "items.csv"}, "events": {"path": "events.csv"}},
        "evaluation": {"min_gain_over_popularity": 0.0, "max_loss_to_last": 0.0},
        "engine": {"beam": settings},
    }
    with pytest.raises(SettingsError) as caught:
        configuration.load(write(whole))
    assert "engine.beam" in str(caught.value) and message in str(caught.value)


def test_the_engine_is_no_part_of_what_a_trainer_s_cache_key_is_made_of(settings, write) -> None:
    settings["engine"] = {"precision": "mixed_bfloat16", "beam": {"runner": "flink", "job_server": "cluster:8099"}}
    engine = configuration.load(write(settings)).engine
    assert engine.training.precision == "mixed_bfloat16" and not hasattr(engine.training, "beam")


def test_a_job_server_that_does_not_answer_is_named_before_anything_is_computed(settings, write, tmp_path) -> None:
    (tmp_path / "items.csv").write_text("item_id\n1\n")
    (tmp_path / "events.csv").write_text("user_id,item_id\n1,1\n")
    address = f"127.0.0.1:{free_port()}"
    settings["data"] = {name: {"path": str(tmp_path / f"{name}.csv")} for name in ("events",)} | {
        "catalogue": {"path": str(tmp_path / "items.csv")}
    }
    settings |= {"work_dir": str(tmp_path / "runs"), "engine": {"beam": {"runner": "flink", "job_server": address}}}
    with pytest.raises(SettingsError, match=f"no job server of Beam's answers at {address}.*the runner is flink"):
        workflows.train(configuration.load(write(settings)))
    assert [path.name for path in (tmp_path / "runs").rglob("*") if path.is_file()] == ["run.lock"]


def test_brackets_around_an_address_are_no_part_of_it(settings, write, monkeypatch) -> None:
    settings["engine"] = {"beam": {"runner": "flink", "job_server": "[::1]:8099"}}
    beam = configuration.load(write(settings)).engine.beam
    assert "--job_endpoint=[::1]:8099" in beam.arguments
    asked = []

    def refuse(address: tuple[str, int], timeout: float) -> None:
        asked.append(address)
        raise OSError("refused")

    monkeypatch.setattr(socket, "create_connection", refuse)
    with pytest.raises(SettingsError, match=r"answers at \[::1\]:8099"):
        beam_engine.check(beam)
    assert asked == [("::1", 8099)]


def test_dataflow_is_for_what_is_compiled_and_beam_s_own_validator_reads_its_options(
    cloud_settings, write, tmp_path
) -> None:
    dataflow = {
        "runner": "dataflow",
        "project": "my-project",
        "region": "europe-west4",
        "temp_location": "gs://bucket/tmp",
    }
    cloud_settings["engine"] = {"beam": dataflow}
    config = configuration.load(write(cloud_settings))
    kubeflow.check(config, tmp_path / "job.json")
    with pytest.raises(SettingsError, match="dataflow cannot see the files of a run on this machine"):
        beam_engine.check(config.engine.beam)
    dataflow["temp_location"] = "/tmp/x"
    with pytest.raises(SettingsError, match="Invalid GCS path"):
        kubeflow.check(configuration.load(write(cloud_settings)), tmp_path / "job.json")


def test_a_value_that_beam_cannot_read_is_refused(settings, write) -> None:
    settings["engine"] = {"beam": {"options": ["--direct_num_workers=many"]}}
    with pytest.raises(SettingsError, match="Beam does not take the options --direct_num_workers=many"):
        beam_engine.check(configuration.load(write(settings)).engine.beam)


@pytest.mark.parametrize(
    ("beam", "beam_args", "message"),
    [
        ({"runner": "flink", "job_server": "c:8099"}, [], "engine.beam.workers: loopback needs a run on this machine"),
        (
            {"runner": "flink", "job_server": "c:8099", "workers": "localhost:50000"},
            ["--runner=SparkRunner"],
            "deploy.beam_args choose a runner, and engine.beam.runner is flink",
        ),
    ],
)
def test_what_a_container_could_not_use_is_refused(cloud_settings, write, beam, beam_args, message, tmp_path) -> None:
    cloud_settings["engine"] = {"beam": beam}
    cloud_settings["deploy"]["beam_args"] = beam_args
    with pytest.raises(SettingsError, match=message):
        kubeflow.check(configuration.load(write(cloud_settings)), tmp_path / "job.json")


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_every_container_of_a_compiled_pipeline_is_told_the_engine(cloud_settings, write, tmp_path) -> None:
    cloud_settings["engine"] = {"beam": {"runner": "flink", "job_server": "jobs:8099", "workers": "localhost:50000"}}
    job = kubeflow.compile_pipeline(
        configuration.load(write(cloud_settings)), tmp_path / "job.json", "20240101T000000Z"
    )
    executors = job["pipelineSpec"]["deploymentSpec"]["executors"].values()
    assert executors and all(
        executor["container"]["args"][-6:]
        == [
            "--runner=PortableRunner",
            "--job_endpoint=jobs:8099",
            "--environment_type=EXTERNAL",
            "--environment_config=localhost:50000",
            "--experiments=disable_logging_submission_environment",
            "--sdk_container_image=registry/zhiyin:1",
        ]
        for executor in executors
    )


@pytest.fixture(scope="module")
def job_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of Beam's own job server, in a process of its own."""
    folder = tmp_path_factory.mktemp("job_server")
    port = free_port()
    command = [sys.executable, "-m", "apache_beam.runners.portability.local_job_service_main", f"--port={port}"]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [*command, f"--staging_dir={folder}"], env=module_environment(), stdout=log, stderr=log
        )
    try:
        await_port(port, server)
        yield f"127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(timeout=30)


def await_port(port: int, server: subprocess.Popen) -> None:
    deadline = time.monotonic() + STARTS_WITHIN_S
    while time.monotonic() < deadline and server.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.2)
        else:
            return
    raise AssertionError(f"nothing listens on port {port}; the server's exit code: {server.poll()}")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return beam_records.small_world(tmp_path_factory.mktemp("world"))


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_nodes_through_a_job_server_write_the_records_of_the_direct_runner(world, job_server, tmp_path, capfd) -> None:
    """Our nodes and TFX's own, with workers of this process; the order of records aside."""
    direct = beam_records.before_training(world, tmp_path / "direct", BeamConfig())
    portable = BeamConfig(runner="flink", job_server=job_server)
    beam_engine.check(portable)
    assert beam_records.before_training(world, tmp_path / "portable", portable) == direct
    assert len(direct["ItemTransform Split-train"]) == 12 and direct["Interactions Split-train"]
    assert "pip" not in capfd.readouterr().err, "Beam asks for no list of this environment's packages"


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_lists_for_everybody_are_those_of_this_process(pushed_version, job_server, tmp_path, monkeypatch) -> None:
    """In batches through a job server, in the order in which they were asked for; nothing stays behind."""
    from pipeline.local_model import CurrentModel

    monkeypatch.setattr(bulk_lists, "keys_at_once", lambda k: 2)
    shutil.copytree(pushed_version, tmp_path / "serving" / "tiny" / "1")
    data = DataConfig(TableConfig("items.csv"), TableConfig("events.csv"))
    evaluation = EvaluationConfig(min_gain_over_popularity=0, max_loss_to_last=0)
    engine = configuration.PipelineEngineConfig(beam=BeamConfig(runner="flink", job_server=job_server))
    model = CurrentModel(configuration.Config("tiny", data, evaluation, work_dir=str(tmp_path), engine=engine))
    people = ["known", "nobody", "other", "known", "another"]
    expected = list(model.recommend(people, 3))
    found = list(bulk_lists.lists(model, people, 3, 0))
    assert [replace(one, scores=[]) for one in found] == [replace(one, scores=[]) for one in expected]
    for one, other in zip(found, expected):  # in float32, whose last digit hangs on the size of a batch
        assert one.scores == pytest.approx(other.scores, abs=1e-6)
    assert len(expected) == len(people)
    assert [path.name for path in tmp_path.iterdir()] == ["serving"]
