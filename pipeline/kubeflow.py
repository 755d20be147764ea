"""Compiles the training DAG for Kubeflow Pipelines v2 and Vertex AI Pipelines; refuses what could only fail there."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Literal

import yaml

from components.settings import SettingsError
from pipeline import beam_engine
from pipeline.config import STORE_SOURCE, Config, is_remote

Target = Literal["kubeflow", "vertex"]
ENDINGS = (".json", ".yaml", ".yml")
CONTAINER_COMMAND = (
    "env",
    "TF_USE_LEGACY_KERAS=1",
    "python",
    "-m",
    "tfx.orchestration.kubeflow.v2.container.kubeflow_v2_run_executor",
)


def check(config: Config, output: Path) -> None:
    """Refuse what cannot run in a cluster: an output of another kind, no image, a path on this machine's disk.

    Raises SettingsError that names every setting to mend.
    """
    if output.suffix not in ENDINGS:
        raise SettingsError(f"output {output}: the ending must be one of {', '.join(ENDINGS)}")
    faults = (
        []
        if config.deploy.image
        else ["deploy.image is not set: the container image that holds this project (docs/deploy.md)"]
    )
    places = {
        "data.catalogue.path": config.data.catalogue.path,
        "data.events.path": config.data.events.path,
        "deploy.pipeline_root": config.deploy.pipeline_root,
        "deploy.serving_root": config.deploy.serving_root,
    }
    if config.data.users and config.retrieval.use_user_features:
        places["data.users.path"] = config.data.users.path
    if config.data.exposures:
        places["data.exposures"] = config.data.exposures
    if config.data.media_root:
        places["data.media_root"] = config.data.media_root
    places |= {f"data.media_roots[{number}]": root for number, root in enumerate(config.data.media_roots)}
    for setting, place in places.items():
        if not place:
            faults.append(f"{setting} is not set")
        elif place.startswith(STORE_SOURCE):  # its address may hold a password
            faults.append(f"{setting}: only a run on this machine reads a store; give the gs:// address of a table")
        elif not is_remote(place):
            faults.append(
                f"{setting}: {place!r} is a path on this machine; a container cannot see it, give a gs:// address"
            )
    faults += [
        f"encoders: {encoder.name}: {encoder.path!r} is a relative path; give a gs:// address or a folder of the image"
        for encoder in config.encoders
        if not is_remote(encoder.path) and not encoder.path.startswith("/")
    ]
    beam = config.engine.beam
    if beam.runner != "direct" and any(argument.startswith("--runner") for argument in config.deploy.beam_args):
        faults.append(f"deploy.beam_args choose a runner, and engine.beam.runner is {beam.runner}; set one of them")
    if beam.is_portable and beam.workers == beam_engine.LOOPBACK:
        faults.append("engine.beam.workers: loopback needs a run on this machine; give host:port of a worker pool")
    if faults:
        raise SettingsError("; ".join(faults))
    beam_engine.check_options(_beam_arguments(config))


def compile_pipeline(config: Config, output: Path, fingerprint: str, target: Target = "vertex") -> dict[str, Any]:
    """Write the training DAG for a cluster to `output` (.json or .yaml), and return it as a KFP v2 pipeline job.

    fingerprint: stands for the remote tables and media in the cache keys, which are frozen at compile time.
    target: what reads the file. Vertex takes a whole job as JSON; Kubeflow, and either as YAML, the job's pipeline
    specification alone.
    """
    check(config, output)
    from tfx.orchestration.kubeflow.v2 import kubeflow_v2_dag_runner as kubeflow
    from tfx.orchestration.pipeline import Pipeline

    from pipeline import catalog_updates, dags
    from pipeline.ingest import RunPaths

    paths = RunPaths(
        serving=config.deploy.serving_root.rstrip("/"),
        blessed=f"{config.deploy.pipeline_root.rstrip('/')}/blessed",
        checkpoints=f"{config.deploy.pipeline_root.rstrip('/')}/checkpoints",
        tuning="",
        catalogue_fingerprint=fingerprint,
        events_fingerprint=fingerprint,
        users_fingerprint=fingerprint,
        exposures_fingerprint=fingerprint if config.data.exposures else "",
        media_fingerprint=fingerprint,
        knows_last_ranker=False,
        encoders_fingerprint=fingerprint,
        withdrawn=tuple(catalog_updates.withdrawn(config)),
    )
    nodes = dags.train(config, paths)
    dags.resolve_functions(nodes)
    resources = _resources(config)
    for node in nodes:
        if node.id in ("Pretraining", "RetrievalTrainer", "RetrievalRefit", "RetrievalTuner"):
            node.with_platform_config(resources)
    pipeline = Pipeline(
        pipeline_name=config.name,
        pipeline_root=config.deploy.pipeline_root,
        components=nodes,
        enable_cache=True,
        beam_pipeline_args=[*_beam_arguments(config), f"--sdk_container_image={config.deploy.image}"],
    )
    runner = kubeflow.KubeflowV2DagRunner(
        config=kubeflow.KubeflowV2DagRunnerConfig(
            display_name=config.name,
            default_image=config.deploy.image,
            default_commands=list(CONTAINER_COMMAND),
            use_pipeline_spec_2_1=True,  # the only one that Kubeflow takes; Vertex takes it, too
        )
    )
    job = runner.run(pipeline, write_out=False)
    job["pipelineSpec"]["defaultPipelineRoot"] = config.deploy.pipeline_root
    _refuse_local_paths(job)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(_text(job, output.suffix, target), encoding="utf-8")
    return job


def _text(job: dict[str, Any], ending: str, target: Target) -> str:
    """A job as its reader takes it."""
    if ending != ".json":
        return yaml.safe_dump(job["pipelineSpec"])
    return json.dumps(job if target == "vertex" else job["pipelineSpec"], sort_keys=True)


def summary(job: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(node, image, entry point) of each node of a compiled job, read back from the job itself."""
    spec = job["pipelineSpec"]
    executors = spec["deploymentSpec"]["executors"]
    tasks = spec["root"]["dag"]["tasks"]
    rows = []
    for task in tasks.values():
        executor = executors[spec["components"][task["componentRef"]["name"]]["executorLabel"]]
        if "container" in executor:
            arguments = executor["container"].get("args", [])
            entry = (
                arguments[arguments.index("--executor_class_path") + 1]
                if "--executor_class_path" in arguments
                else " ".join(arguments)
            )
            rows.append((task["taskInfo"]["name"], executor["container"]["image"], entry))
        else:
            rows.append((task["taskInfo"]["name"], "-", next(iter(executor))))
    return rows


def _beam_arguments(config: Config) -> list[str]:
    """Of the engine that is configured, and those of `deploy` alone."""
    return [*config.engine.beam.arguments, *config.deploy.beam_args]


def _resources(config: Config) -> Any:
    from kfp.pipeline_spec import pipeline_spec_pb2

    spec = pipeline_spec_pb2.PipelineDeploymentConfig.PipelineContainerSpec.ResourceSpec
    accelerator = (
        spec.AcceleratorConfig(type=config.deploy.accelerator, count=config.deploy.accelerator_count)
        if config.deploy.accelerator
        else None
    )
    return spec(
        cpu_limit=config.deploy.machine_cpus, memory_limit=config.deploy.machine_memory_gib, accelerator=accelerator
    )


def _refuse_local_paths(job: dict[str, Any]) -> None:
    """A last look at the whole text: nothing under this user's home or this checkout may stand in it."""
    text = json.dumps(job)
    for folder in {str(Path.home()), str(Path(__file__).resolve().parents[1])} - {"/"}:
        if re.search(rf"(?<![\w./-]){re.escape(folder)}/", text):  # as a path's beginning, not within an address
            raise SettingsError(f"the compiled pipeline names {folder}, a folder of this machine")
