"""The engine of the Beam nodes: what is refused before anything runs, and nodes through a job server of Beam's."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.interpreter import module_environment
from components.settings import SettingsError
from pipeline import beam_engine, kubeflow, workflows
from pipeline import config as configuration
from pipeline.beam_engine import BeamConfig

STARTS_WITHIN_S = 120
OUTPUTS = (
    ("CatalogGen", "examples"),
    ("MediaFeatures", "examples"),
    ("Interactions", "sequences"),
    ("ItemTransform", "transformed_examples"),
)


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
    assert not (tmp_path / "runs").exists()


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
        executor["container"]["args"][-5:]
        == [
            "--runner=PortableRunner",
            "--job_endpoint=jobs:8099",
            "--environment_type=EXTERNAL",
            "--environment_config=localhost:50000",
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
    from pipeline.sources.demo.dataset import DemoConfig, write_demo

    folder = tmp_path_factory.mktemp("world")
    write_demo(folder, DemoConfig(seed=1, num_items=12, num_people=20, num_events=300))
    return folder


def records_before_training(world: Path, work_path: Path, beam: BeamConfig) -> dict[str, list[bytes]]:
    """The records of tables, media features, sequences and transformed items, sorted; by node and split."""
    import tensorflow as tf

    from components.config import DataConfig, TableConfig
    from pipeline import dags
    from pipeline.local_runner import run_locally
    from serving.config import EvaluationConfig

    data = DataConfig(
        TableConfig(str(world / "catalogue.csv")),
        TableConfig(str(world / "events.csv")),
        media_root=str(world),
        max_reject_share=0.5,
    )
    evaluation = EvaluationConfig(min_gain_over_popularity=0, max_loss_to_last=0)
    config = configuration.Config("tiny", data, evaluation, work_dir=str(work_path))
    paths = workflows._paths_of(config)
    nodes = dags.train(config, paths)
    last = [node.id for node in nodes].index("ItemTransform")
    stages = run_locally(
        nodes[: last + 1],
        "tiny",
        work_path,
        lambda *_: None,
        lambda _: None,
        beam_arguments=beam.arguments,
    )
    found = {}
    for node, output in OUTPUTS:
        for split in sorted(stages[node].uri(output).glob("Split-*")):
            files = [str(path) for path in split.iterdir()]
            records = tf.data.TFRecordDataset(files, "GZIP").as_numpy_iterator()
            found[f"{node} {split.name}"] = sorted(canonical(record) for record in records)
    return found


def canonical(record: bytes) -> bytes:
    """The same Example gives the same bytes, in whatever order its features were added."""
    import tensorflow as tf

    return tf.train.Example.FromString(record).SerializeToString(deterministic=True)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_nodes_through_a_job_server_write_the_records_of_the_direct_runner(world, job_server, tmp_path) -> None:
    """Our nodes and TFX's own, with workers of this process; the order of records aside."""
    direct = records_before_training(world, tmp_path / "direct", BeamConfig())
    portable = BeamConfig(runner="flink", job_server=job_server)
    beam_engine.check(portable)
    assert records_before_training(world, tmp_path / "portable", portable) == direct
    assert len(direct["ItemTransform Split-train"]) == 12 and direct["Interactions Split-train"]
