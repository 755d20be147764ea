"""Beam nodes of ours on a real Flink cluster, through Beam's job server."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from pipeline.beam_engine import BeamConfig, check
from tests.pipeline import beam_records, flink_cluster

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("default"),
    pytest.mark.skipif(not flink_cluster.is_installed(), reason=flink_cluster.MISSING),
]
LAST = "Interactions"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return beam_records.small_world(tmp_path_factory.mktemp("world"))


def test_a_task_manager_killed_in_a_job_changes_no_record(world, tmp_path) -> None:
    """Tables to sequences, with workers of this process; the first job loses one of its two task managers."""
    direct = beam_records.before_training(world, tmp_path / "direct", BeamConfig(), LAST)
    cluster = flink_cluster.FlinkCluster(tmp_path / "cluster", task_managers=2)
    try:
        engine = BeamConfig(runner="flink", job_server=cluster.address, parallelism=2)
        check(engine)
        killing = threading.Thread(target=kill_in_a_job, args=(cluster,), daemon=True)
        killing.start()
        found = beam_records.before_training(world, tmp_path / "flink", engine, LAST)
        killing.join()
        states = [job["state"] for job in cluster.ask("jobs/overview")["jobs"]]
        failures = [cluster.failures(job["jid"]) for job in cluster.ask("jobs/overview")["jobs"]]
    finally:
        cluster.stop()
    assert found == direct and direct[f"{LAST} Split-train"]
    assert set(states) == {"FINISHED"} and sum(failures) >= 1


def kill_in_a_job(cluster: flink_cluster.FlinkCluster) -> None:
    """kill -9 of a task manager once tasks of a job run on it."""
    while not any(job["tasks"]["running"] for job in cluster.ask("jobs/overview")["jobs"]):
        time.sleep(0.05)
    cluster.kill_task_manager()
