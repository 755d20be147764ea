"""Runs a DAG of TFX nodes on this machine, one after the other. TFX is imported here, so import this module late."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ml_metadata.proto import metadata_store_pb2
from tfx.dsl.components.base.base_node import BaseNode
from tfx.orchestration import metadata
from tfx.orchestration.local import runner_utils
from tfx.orchestration.pipeline import Pipeline
from tfx.orchestration.portable import launcher, runtime_parameter_utils
from tfx.orchestration.portable.mlmd import execution_lib
from tfx.orchestration.portable.tfx_runner import IrBasedRunner
from tfx.proto.orchestration import pipeline_pb2
from tfx.types import Artifact

from pipeline.run_history import PEAK_MEMORY, PROCESSOR_SECONDS
from pipeline.run_lock import one_run_at_a_time
from pipeline.usage import Usage, measured

# Where Beam has options and none says what its workers run, TFX packs itself for them, anew in each node; here they
# have this project's environment.
NOTHING_TO_SEND = "--sdk_container_image=of-this-project"


class StageFailed(RuntimeError):
    """A node of the DAG failed: which, and why."""

    def __init__(self, stage: str, cause: BaseException):
        self.stage = stage
        super().__init__(f"{stage} failed: {_one_line(cause)}")


@dataclass(frozen=True)
class Stage:
    """What one node did in one run."""

    name: str
    number: int
    of: int
    seconds: float
    cached: bool
    outputs: dict[str, list[Artifact]] = field(repr=False)

    def uri(self, output: str) -> Path:
        """The folder of the single artifact under this output's name."""
        (artifact,) = self.outputs[output]
        return Path(artifact.uri)


def run_locally(
    nodes: list[BaseNode],
    name: str,
    work_path: Path,
    on_start: Callable[[str, int, int], None],
    on_done: Callable[[Stage], None],
    up_to: str = "",
    beam_arguments: Sequence[str] = (),
) -> dict[str, Stage]:
    """Run the nodes in order, with caching, metadata in SQLite under `work_path`; returns the stages by node id.

    nodes: in an order in which they can run. name: of the pipeline.
    on_start: is told a node's id, its number from 1 and the count of all. on_done: is told the finished Stage.
    up_to: a node's id; it and what must come before it are run, and nothing else; everything where empty.
    beam_arguments: Beam's options for every Beam node; none for the direct runner.
    Raises StageFailed at the first node that fails; a later call goes on from the cache.
    """
    work_path.mkdir(parents=True, exist_ok=True)
    connection = metadata_store_pb2.ConnectionConfig()
    connection.sqlite.filename_uri = str(work_path / "metadata.sqlite")
    connection.sqlite.connection_mode = metadata_store_pb2.SqliteMetadataSourceConfig.READWRITE_OPENCREATE
    pipeline = Pipeline(
        pipeline_name=name,
        pipeline_root=str(work_path / "artifacts"),
        components=nodes,
        enable_cache=True,
        metadata_connection_config=connection,
        beam_pipeline_args=[NOTHING_TO_SEND, *beam_arguments] if beam_arguments else [],
    )
    runner = _LocalRunner(on_start, on_done, up_to)
    with one_run_at_a_time(work_path):
        runner.run(pipeline)
    return runner.stages


class _LocalRunner(IrBasedRunner):
    """TFX's LocalDagRunner with an account of each node."""

    def __init__(self, on_start: Callable[[str, int, int], None], on_done: Callable[[Stage], None], up_to: str):
        self.stages: dict[str, Stage] = {}
        self._on_start, self._on_done, self._up_to = on_start, on_done, up_to

    def run_with_ir(self, pipeline: pipeline_pb2.Pipeline, run_options: pipeline_pb2.RunOptions | None = None) -> None:
        runtime_parameter_utils.substitute_runtime_parameter(
            pipeline, {"pipeline-run-id": datetime.datetime.now().isoformat()}
        )
        deployment = runner_utils.extract_local_deployment_config(pipeline)
        connection = getattr(
            deployment.metadata_connection_config, deployment.metadata_connection_config.WhichOneof("connection_config")
        )
        nodes = _leading_to(self._up_to, pipeline) if self._up_to else pipeline.nodes
        for number, node in enumerate(nodes, start=1):
            node_id = node.pipeline_node.node_info.id
            self._on_start(node_id, number, len(nodes))
            started = time.monotonic()
            try:
                with measured() as usage:
                    execution = launcher.Launcher(
                        pipeline_node=node.pipeline_node,
                        mlmd_connection=metadata.Metadata(connection),
                        pipeline_info=pipeline.pipeline_info,
                        pipeline_runtime_spec=pipeline.runtime_spec,
                        executor_spec=runner_utils.extract_executor_spec(deployment, node_id),
                        custom_driver_spec=runner_utils.extract_custom_driver_spec(deployment, node_id),
                    ).launch()
            except Exception as error:
                raise StageFailed(node_id, error) from error
            seconds = time.monotonic() - started
            cached, outputs = _recorded(connection, execution.execution_id, usage)
            stage = Stage(node_id, number, len(nodes), seconds, cached, outputs)
            self.stages[node_id] = stage
            self._on_done(stage)


def _leading_to(node_id: str, pipeline: pipeline_pb2.Pipeline) -> list[pipeline_pb2.Pipeline.PipelineOrNode]:
    """The node and every other that must have run before it, in their order."""
    needs = {node.pipeline_node.node_info.id: node.pipeline_node.upstream_nodes for node in pipeline.nodes}
    found: set[str] = set()
    waiting = [node_id]
    while waiting:
        found.add(node := waiting.pop())
        waiting += needs[node]
    return [node for node in pipeline.nodes if node.pipeline_node.node_info.id in found]


def _recorded(
    connection: metadata_store_pb2.ConnectionConfig, execution_id: int, usage: Usage
) -> tuple[bool, dict[str, list[Artifact]]]:
    """Whether an execution was answered from the cache, and its outputs, which the launcher tells for others only.

    What it used is written beside it.
    """
    with metadata.Metadata(connection) as handle:
        (execution,) = handle.store.get_executions_by_id([execution_id])
        execution.custom_properties[PROCESSOR_SECONDS].double_value = usage.processor_seconds
        execution.custom_properties[PEAK_MEMORY].int_value = usage.peak_memory_bytes
        handle.store.put_executions([execution])
        outputs = execution_lib.get_output_artifacts(handle, execution_id)
    return execution.last_known_state == metadata_store_pb2.Execution.CACHED, dict(outputs)


def _one_line(error: BaseException) -> str:
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    text = " ".join(str(cause).split()) or type(cause).__name__
    return text.split(" [while running", 1)[0]  # Beam's trailer
