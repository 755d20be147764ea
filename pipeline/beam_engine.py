"""The engine that the Beam nodes run on: its settings, Beam's options of them, and whether it can be reached.

Flink and Spark are reached through Beam's job server, which takes a pipeline in Beam's own format and hands it to the
cluster; Dataflow through its service.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Literal

from components.settings import SettingsError

Runner = Literal["direct", "flink", "spark", "dataflow"]
LOOPBACK = "loopback"
_REACHED_WITHIN_S = 5.0


@dataclass(frozen=True)
class BeamConfig:
    """What runs the Beam nodes, TFX's own included; docs/cluster.md says what was tried."""

    runner: Runner = "direct"  # direct: in the process of the run
    job_server: str = ""  # flink, spark: host:port of Beam's job server
    # flink, spark: host:port of the pool of Python workers beside each task manager; loopback: in the run's process
    workers: str = LOOPBACK
    parallelism: int = 0  # flink: of each step; 0: the cluster's default
    project: str = ""  # dataflow
    region: str = ""  # dataflow
    temp_location: str = ""  # dataflow: gs://bucket/folder
    options: tuple[str, ...] = ()  # further options of Beam's, as --name=value

    def __post_init__(self) -> None:
        for option in self.options:
            if not option.startswith("--") or option.startswith("--runner"):
                raise ValueError(f"options: got {option!r}, expected --name=value; the runner is chosen by `runner`")
        if self.is_portable:
            _host_and_port("job_server", self.job_server)
            if self.workers != LOOPBACK:
                _host_and_port("workers", self.workers)
        if not self.parallelism >= 0:
            raise ValueError(f"parallelism: got {self.parallelism}, expected a number of tasks, or 0")
        if self.parallelism and self.runner != "flink":
            raise ValueError(f"parallelism: a setting of flink; the runner is {self.runner}")
        if self.runner == "dataflow":
            missing = [name for name in ("project", "region", "temp_location") if not getattr(self, name)]
            if missing:
                raise ValueError(f"dataflow needs {', '.join(missing)}")

    @property
    def is_portable(self) -> bool:
        """Whether Beam's job server is in front of the engine."""
        return self.runner in ("flink", "spark")

    @property
    def arguments(self) -> list[str]:
        """Beam's options as words of a command line; none for the direct runner without options."""
        if self.is_portable:
            return [*_portable(self), *self.options]
        if self.runner == "dataflow":
            own = [f"--{name}={getattr(self, name)}" for name in ("project", "region", "temp_location")]
            return ["--runner=DataflowRunner", *own, *self.options]
        return [*self.options]


def _portable(config: BeamConfig) -> list[str]:
    """Options for a job server. Workers hold this project: nothing of it is sent to them."""
    workers = ["--environment_type=LOOPBACK"]
    if config.workers != LOOPBACK:
        workers = ["--environment_type=EXTERNAL", f"--environment_config={config.workers}"]
    parallelism = [f"--parallelism={config.parallelism}"] if config.parallelism else []
    # Else Beam asks pip for a list of this environment's packages, for a log of the workers'; there is no pip in it.
    quiet = "--experiments=disable_logging_submission_environment"
    return ["--runner=PortableRunner", f"--job_endpoint={config.job_server}", *workers, *parallelism, quiet]


def check(config: BeamConfig) -> None:
    """Refuse what a run on this machine cannot use, before it computes anything.

    Raises SettingsError where Beam finds a fault in the options, where nothing answers at the job server's address, and
    for Dataflow, whose workers cannot see this machine's files.
    """
    check_options(config.arguments)
    if config.runner == "dataflow":
        raise SettingsError(
            "engine.beam.runner: dataflow cannot see the files of a run on this machine; `zhiyin compile` writes the "
            "pipeline for it"
        )
    if config.is_portable:
        address = _host_and_port("job_server", config.job_server)
        try:
            socket.create_connection(address, timeout=_REACHED_WITHIN_S).close()
        except OSError as error:
            raise SettingsError(
                f"engine.beam.job_server: no job server of Beam's answers at {config.job_server} ({error}); "
                f"the runner is {config.runner}"
            ) from error


def check_options(arguments: list[str]) -> None:
    """Raises SettingsError with every fault that Beam's own validator finds in options."""
    if not arguments:
        return
    from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions, StandardOptions  # seconds
    from apache_beam.options.pipeline_options_validator import PipelineOptionsValidator
    from apache_beam.runners import create_runner

    try:
        options = PipelineOptions([*arguments, "--dry_run=True"])  # else the validator asks Google about buckets
        options.get_all_options()  # reads the values
        runner = create_runner(options.view_as(StandardOptions).runner or "DirectRunner")
        validator = PipelineOptionsValidator(options, runner)
        faults = []
        if validator.is_service_runner():  # with no folder that can be used, the validator would make a bucket
            faults = validator.validate_gcs_path(options.view_as(GoogleCloudOptions), "temp_location")
        faults = faults or validator.validate()
    except SystemExit as error:  # how argparse refuses a value, after its message
        raise SettingsError(f"Beam does not take the options {' '.join(arguments)}") from error
    if faults:
        raise SettingsError(f"Beam's options: {' '.join(' '.join(fault.split()) for fault in faults)}")


def _host_and_port(setting: str, address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")  # around an IPv6 address, which sockets take without
    if not host or not (port.isascii() and port.isdecimal()) or not 0 < int(port) < 65536:
        raise ValueError(f"{setting}: got {address!r}, expected host:port")
    return host, int(port)
