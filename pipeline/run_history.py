"""Reads from ML Metadata the runs of a work folder: what each node did, how long it took, and where its outputs lie."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from ml_metadata import errors
from ml_metadata.metadata_store.metadata_store import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as pb

from components.settings import SettingsError
from pipeline.lineage import PUSHER, STORE, located, open_store

PROCESSOR_SECONDS, PEAK_MEMORY = "processor_seconds", "peak_memory_bytes"  # custom properties of an execution
REFIT_FILE = "refit.txt"  # beside the served model: what it and the judged one were trained on, in a line
TRAINED_BEFORE = "TrainedRetrieval"  # id of the importer that every refresh begins with
ENDED = ("done", "cached")
_STATES = {pb.Execution.COMPLETE: "done", pb.Execution.CACHED: "cached", pb.Execution.FAILED: "failed"}


@dataclass(frozen=True)
class NodeRecord:
    """One node of one run."""

    name: str
    started_s: float  # seconds since 1970
    seconds: float
    state: str  # done, cached, failed, or running where it has not ended
    processor_seconds: float | None = None  # of all threads and of ended child processes; None where not recorded
    peak_memory_bytes: int | None = None  # of this process while the node ran; None where not recorded
    outputs: dict[str, Path] = field(default_factory=dict)  # of each output its first artifact, there or not
    properties: dict[str, Any] = field(default_factory=dict)  # custom properties of those artifacts, by name
    parameters: tuple[str, ...] = ()  # what it was given that is text, its settings as JSON among it


@dataclass(frozen=True)
class RunRecord:
    """One run of a pipeline."""

    run_id: str  # yyyymmdd-hhmmss, local time, when it started
    started_at: datetime
    nodes: dict[str, NodeRecord]  # in the order in which they ran

    def output(self, node: str, name: str) -> Path | None:
        """The folder of a node's output; None where the run has no such node, it did not end, or the folder is gone."""
        has_ended = node in self.nodes and self.nodes[node].state in ENDED
        path = self.nodes[node].outputs.get(name) if has_ended else None
        return path if path is not None and path.is_dir() else None

    @property
    def trains(self) -> bool:
        """Whether it was to train, rather than to refresh what was trained before."""
        return TRAINED_BEFORE not in self.nodes

    @property
    def failed(self) -> str:
        """The node that failed; empty where none did."""
        return next((node.name for node in self.nodes.values() if node.state == "failed"), "")

    @property
    def version(self) -> str:
        """The name of the version that it pushed; empty where it pushed none."""
        return str(self.nodes[PUSHER].properties.get("pushed_version", "")) if PUSHER in self.nodes else ""

    @property
    def seconds(self) -> float:
        """From the first node's start to the last one's end."""
        ends = [node.started_s + node.seconds for node in self.nodes.values()]
        return max(ends) - min(node.started_s for node in self.nodes.values()) if ends else 0.0

    def evaluation(self) -> dict[str, Any] | None:
        """What the RetrievalEvaluator wrote (docs/artifacts.md); None after a refresh, and where it is gone."""
        folder = self.output("RetrievalEvaluator", "evaluation")
        path = folder / "metrics.json" if folder else None
        return json.loads(path.read_text(encoding="utf-8")) if path and path.is_file() else None

    @property
    def is_blessed(self) -> bool | None:
        """Whether its model was blessed; None where it judged none, as a refresh."""
        evaluator = self.nodes.get("RetrievalEvaluator")
        blessed = evaluator.properties.get("blessed") if evaluator else None
        return None if blessed is None else bool(blessed)


def read_runs(work_path: Path) -> list[RunRecord]:
    """The runs of a work folder, the oldest first; none where nothing ran yet.

    Raises RuntimeError where the store of the runs cannot be read.
    """
    if not (work_path / STORE).is_file():
        return []
    try:
        return _read(open_store(work_path), work_path)
    except (errors.StatusError, RuntimeError) as error:
        raise RuntimeError(f"{work_path / STORE} cannot be read: {error}") from error


def find_run(runs: list[RunRecord], name: str) -> RunRecord:
    """The run whose id begins with a name; the newest where the name is empty.

    Raises SettingsError where there is none or more than one.
    """
    if not runs:
        raise SettingsError("nothing has run yet in this work folder; run the pipeline first")
    if not name:
        return runs[-1]
    found = [run for run in runs if run.run_id.startswith(name)]
    if len(found) != 1:
        known = ", ".join(run.run_id for run in runs[-5:])
        raise SettingsError(f"run {name!r}: {len(found)} runs have such an id; the latest are {known}")
    return found[0]


def last_blessed(runs: list[RunRecord]) -> RunRecord | None:
    """The newest run whose model was blessed."""
    return next((run for run in reversed(runs) if run.is_blessed), None)


def _read(store: MetadataStore, work_path: Path) -> list[RunRecord]:
    node_names = {
        execution.id: context.name.partition(".")[2]
        for context in store.get_contexts_by_type("node")
        for execution in store.get_executions_by_context(context.id)
    }
    runs = []
    for context in store.get_contexts_by_type("pipeline_run"):
        executions = sorted(store.get_executions_by_context(context.id), key=lambda execution: execution.id)
        outputs = _outputs(store, [execution.id for execution in executions])
        started_at = datetime.fromisoformat(context.name)
        nodes = {
            node_names[execution.id]: _node(execution, node_names[execution.id], outputs[execution.id], work_path)
            for execution in executions
        }
        runs.append(RunRecord(started_at.strftime("%Y%m%d-%H%M%S"), started_at, nodes))
    return sorted(runs, key=lambda run: run.started_at)


def _outputs(store: MetadataStore, executions: list[int]) -> dict[int, dict[str, pb.Artifact]]:
    """By execution and output name the first artifact."""
    kinds = (pb.Event.OUTPUT, pb.Event.PENDING_OUTPUT)
    events = [event for event in store.get_events_by_execution_ids(executions) if event.type in kinds]
    artifacts = {one.id: one for one in store.get_artifacts_by_id([event.artifact_id for event in events])}
    found: dict[int, dict[str, pb.Artifact]] = defaultdict(dict)
    for event in events:
        found[event.execution_id].setdefault(event.path.steps[0].key, artifacts[event.artifact_id])
    return found


def _node(execution: pb.Execution, name: str, outputs: dict[str, pb.Artifact], work_path: Path) -> NodeRecord:
    said = execution.custom_properties
    given = [*execution.properties.values(), *said.values()]
    properties = {
        key: getattr(value, value.WhichOneof("value"))
        for artifact in outputs.values()
        for key, value in artifact.custom_properties.items()
    }
    start_ms, end_ms = execution.create_time_since_epoch, execution.last_update_time_since_epoch
    return NodeRecord(
        name=name,
        started_s=start_ms / 1000,
        seconds=(end_ms - start_ms) / 1000,
        state=_STATES.get(execution.last_known_state, "running"),
        processor_seconds=said[PROCESSOR_SECONDS].double_value if PROCESSOR_SECONDS in said else None,
        peak_memory_bytes=said[PEAK_MEMORY].int_value if PEAK_MEMORY in said else None,
        outputs={key: located(work_path, artifact.uri) for key, artifact in outputs.items()},
        properties=properties,
        parameters=tuple(value.string_value for value in given if value.HasField("string_value")),
    )
