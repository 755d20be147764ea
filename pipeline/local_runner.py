"""Runs a DAG of TFX nodes on this machine, some side by side. TFX is imported here, so import this module late."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from ml_metadata.proto import metadata_store_pb2
from tensorflow.python.eager import context
from tfx.dsl.components.base.base_node import BaseNode
from tfx.orchestration import metadata
from tfx.orchestration.local import runner_utils
from tfx.orchestration.pipeline import Pipeline
from tfx.orchestration.portable import launcher, runtime_parameter_utils
from tfx.orchestration.portable.mlmd import execution_lib
from tfx.orchestration.portable.tfx_runner import IrBasedRunner
from tfx.proto.orchestration import pipeline_pb2
from tfx.types import Artifact

from pipeline import cache_validity, side_by_side
from pipeline.run_history import PEAK_MEMORY, PROCESSOR_SECONDS
from pipeline.usage import Usage, give_back, measured

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
    number: int  # from 1, in the order in which nodes ended
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
    at_once: int = 1,
) -> dict[str, Stage]:
    """Run the nodes, with caching, metadata in SQLite under `work_path`, which nobody else may use meanwhile; returns
    the stages by node id.

    nodes: in an order in which they can run. name: of the pipeline.
    on_start: is told a node's id, the number that it would have if it ended next, and the count of all.
    on_done: is told the finished Stage.
    up_to: a node's id; it and what must come before it are run, and nothing else; everything where empty.
    beam_arguments: Beam's options for every Beam node; none for the direct runner.
    at_once: so many nodes may run side by side, the others than one in forks of this process; where TensorFlow has
    started in it, they run one after the other, since it does not survive a fork.
    Raises StageFailed at the first node that fails, once those beside it have ended; a later call goes on from the
    cache.
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
    runner = _LocalRunner(on_start, on_done, up_to, 1 if context.context_safe() else at_once)
    runner.run(pipeline)
    return runner.stages


class _Executed(NamedTuple):
    """How a node was executed."""

    execution_id: int
    seconds: float
    usage: Usage


class _LocalRunner(IrBasedRunner):
    """TFX's LocalDagRunner with an account of each node, and with several at once."""

    def __init__(
        self,
        on_start: Callable[[str, int, int], None],
        on_done: Callable[[Stage], None],
        up_to: str,
        at_once: int,
    ):
        self.stages: dict[str, Stage] = {}
        self._on_start, self._on_done, self._up_to, self._at_once = on_start, on_done, up_to, at_once

    def run_with_ir(self, pipeline: pipeline_pb2.Pipeline, run_options: pipeline_pb2.RunOptions | None = None) -> None:
        runtime_parameter_utils.substitute_runtime_parameter(
            pipeline, {"pipeline-run-id": datetime.datetime.now().isoformat()}
        )
        nodes = _Nodes(pipeline)
        needs = nodes.leading_to(self._up_to)

        def start(node_id: str) -> None:
            self._on_start(node_id, len(self.stages) + 1, len(needs))

        def end(node_id: str, executed: _Executed) -> None:
            cached, outputs = nodes.recorded(executed)
            stage = Stage(node_id, len(self.stages) + 1, len(needs), executed.seconds, cached, outputs)
            self.stages[node_id] = stage
            self._on_done(stage)

        with side_by_side.forks(self._at_once - 1, nodes.execute, _one_line) as forks:
            lanes: list[Callable[[str], _Executed]] = [nodes.execute, *forks]
            side_by_side.run(needs, [_named(lane) for lane in lanes], start, end)


def _named(lane: Callable[[str], _Executed]) -> Callable[[str], _Executed]:
    """The lane, whose errors say the node."""

    def execute(node_id: str) -> _Executed:
        try:
            return lane(node_id)
        except Exception as error:
            raise StageFailed(node_id, error) from error

    return execute


class _Nodes:
    """The nodes of a compiled pipeline."""

    def __init__(self, pipeline: pipeline_pb2.Pipeline):
        self._pipeline = pipeline
        self._nodes = {node.pipeline_node.node_info.id: node.pipeline_node for node in pipeline.nodes}
        self._deployment = runner_utils.extract_local_deployment_config(pipeline)
        connection = self._deployment.metadata_connection_config
        self._connection = getattr(connection, connection.WhichOneof("connection_config"))

    def leading_to(self, node_id: str) -> Mapping[str, Sequence[str]]:
        """The node and every other that must have run before it, of all nodes where it is empty, with what each needs;
        in an order in which they can run."""
        needs = {each: list(node.upstream_nodes) for each, node in self._nodes.items()}
        found: set[str] = set()
        waiting = [node_id] if node_id else [*needs]
        while waiting:
            found.add(node := waiting.pop())
            waiting += needs[node]
        return {each: needs[each] for each in needs if each in found}

    def execute(self, node_id: str) -> _Executed:
        """Run one node, or find that its outputs are there already and still hold."""
        started = time.monotonic()
        node = pipeline_pb2.PipelineNode()
        node.CopyFrom(self._nodes[node_id])
        if not cache_validity.holds(node, self._connection):
            node.execution_options.caching_options.enable_cache = False
        with measured() as usage:
            execution = launcher.Launcher(
                pipeline_node=node,
                mlmd_connection=metadata.Metadata(self._connection),
                pipeline_info=self._pipeline.pipeline_info,
                pipeline_runtime_spec=self._pipeline.runtime_spec,
                executor_spec=runner_utils.extract_executor_spec(self._deployment, node_id),
                custom_driver_spec=runner_utils.extract_custom_driver_spec(self._deployment, node_id),
            ).launch()
        give_back()
        return _Executed(execution.execution_id, time.monotonic() - started, usage)

    def recorded(self, executed: _Executed) -> tuple[bool, dict[str, list[Artifact]]]:
        """Whether an execution was answered from the cache, and its outputs, which the launcher tells for others only.

        What it used is written beside it.
        """
        with metadata.Metadata(self._connection) as handle:
            (execution,) = handle.store.get_executions_by_id([executed.execution_id])
            execution.custom_properties[PROCESSOR_SECONDS].double_value = executed.usage.processor_seconds
            execution.custom_properties[PEAK_MEMORY].int_value = executed.usage.peak_memory_bytes
            handle.store.put_executions([execution])
            outputs = execution_lib.get_output_artifacts(handle, executed.execution_id)
        return execution.last_known_state == metadata_store_pb2.Execution.CACHED, dict(outputs)


def _one_line(error: BaseException) -> str:
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    text = " ".join(str(cause).split()) or type(cause).__name__
    return text.split(" [while running", 1)[0]  # Beam's trailer
