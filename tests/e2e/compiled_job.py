"""Runs a compiled KFP v2 job on this machine: each container's command as a process, in topological order.

What a cluster does around a container is done as its launcher does it: the executor input in JSON takes the place of
`{{$}}` in the arguments, the outputs' folders are there, and the output file's artifacts are what later tasks get. A
bucket is a folder here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from tests.documented import ROOT

EXECUTOR_INPUT = "{{$}}"
TASK_LIMIT_S = 600


class TaskFailed(RuntimeError):
    """A container's process ended with an error: which, and the end of what it said."""


@dataclass(frozen=True)
class Task:
    """A task of the job as its launcher sees it."""

    name: str
    spec: dict[str, Any]  # PipelineTaskSpec
    component: dict[str, Any]  # ComponentSpec
    container: dict[str, Any]  # PipelineContainerSpec

    @property
    def producers(self) -> dict[str, tuple[str, str]]:
        """Input's name -> task and output that it comes from."""
        return {
            name: (source["taskOutputArtifact"]["producerTask"], source["taskOutputArtifact"]["outputArtifactKey"])
            for name, source in self.spec.get("inputs", {}).get("artifacts", {}).items()
        }

    @property
    def upstream(self) -> set[str]:
        """The tasks that must have ended."""
        return {*self.spec.get("dependentTasks", []), *(producer for producer, _ in self.producers.values())}

    def executor_input(self, folder: Path, done: dict[str, dict[str, Any]]) -> dict[str, Any]:
        """The ExecutorInput message.

        folder: of this task's outputs. done: task -> the artifacts of its ExecutorOutput.
        """
        outputs = self.component.get("outputDefinitions", {}).get("artifacts", {})
        parameters = self.spec.get("inputs", {}).get("parameters", {})
        return {
            "inputs": {
                "parameterValues": {name: _constant(value) for name, value in parameters.items()},
                "artifacts": {name: done[task][key] for name, (task, key) in self.producers.items()},
            },
            "outputs": {
                "artifacts": {
                    name: {"artifacts": [_artifact(f"{self.name}/{name}", definition, folder / name)]}
                    for name, definition in outputs.items()
                },
                "outputFile": str(folder / "executor_output.json"),
            },
        }


def in_folder(job: dict[str, Any], bucket: str, folder: Path) -> dict[str, Any]:
    """The job with every address in the bucket (gs://name) replaced by a path in the folder."""
    return json.loads(json.dumps(job).replace(f"{bucket}/", f"{folder}/"))


def tasks_in_order(job: dict[str, Any]) -> list[Task]:
    """The job's tasks, each after those that it waits for."""
    spec = job["pipelineSpec"]
    executors = spec["deploymentSpec"]["executors"]
    tasks = {}
    for name, task in spec["root"]["dag"]["tasks"].items():
        component = spec["components"][task["componentRef"]["name"]]
        tasks[name] = Task(name, task, component, executors[component["executorLabel"]]["container"])
    return [
        tasks[name]
        for name in TopologicalSorter({task.name: sorted(task.upstream) for task in tasks.values()}).static_order()
    ]


def run(job: dict[str, Any], work_folder: Path) -> dict[str, dict[str, Any]]:
    """Run every task's container as a process of this project's environment.

    work_folder: of the processes and their logs. Returns task -> the artifacts of its ExecutorOutput.
    Raises TaskFailed for the first process that ends with an error.
    """
    root = Path(job["runtimeConfig"]["gcsOutputDirectory"]) / "job"
    done: dict[str, dict[str, Any]] = {}
    for task in tasks_in_order(job):
        folder = root / task.name
        given = task.executor_input(folder, done)
        for output in given["outputs"]["artifacts"]:
            (folder / output).mkdir(parents=True, exist_ok=True)  # as a launcher does; an object store needs none
        _run_container(task, given, work_folder)
        written = json.loads(Path(given["outputs"]["outputFile"]).read_text(encoding="utf-8"))
        done[task.name] = _recorded(given["outputs"]["artifacts"], written.get("artifacts", {}))
    return done


def _run_container(task: Task, executor_input: dict[str, Any], work_folder: Path) -> None:
    """The container's command and arguments, with what the image has in its environment."""
    words = [*task.container["command"], *task.container["args"]]
    command = [word.replace(EXECUTOR_INPUT, json.dumps(executor_input)) for word in words]
    environment = {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), "/usr/bin", "/bin"]),
        "PYTHONPATH": str(ROOT),
        "HOME": str(work_folder),
        **{name: value for name, value in os.environ.items() if name.startswith(("OMP_", "OPENBLAS_", "TF_NUM_"))},
    }
    log = work_folder / f"{task.name}.log"
    with log.open("wb") as output:
        ended = subprocess.run(
            command, cwd=work_folder, env=environment, stdout=output, stderr=output, check=False, timeout=TASK_LIMIT_S
        )
    if ended.returncode:
        raise TaskFailed(f"{task.name} ended with {ended.returncode}: {log.read_text(errors='replace')[-3000:]}")


def _recorded(expected: dict[str, Any], written: dict[str, Any]) -> dict[str, Any]:
    """The task's artifacts with the metadata and the address that its process wrote; the type stays the job's."""
    return {
        name: {"artifacts": [{**artifacts["artifacts"][0], **written.get(name, {}).get("artifacts", [{}])[0]}]}
        for name, artifacts in expected.items()
    }


def _artifact(name: str, definition: dict[str, Any], folder: Path) -> dict[str, Any]:
    """A RuntimeArtifact. name: a resource name, as a metadata store would give it."""
    return {
        "name": name,
        "type": definition["artifactType"],
        "uri": str(folder),
        "metadata": definition.get("metadata", {}),
    }


def _constant(parameter: dict[str, Any]) -> Any:
    """A parameter's value; those of this project's jobs are constants, frozen when it was compiled."""
    return parameter["runtimeValue"]["constant"]
