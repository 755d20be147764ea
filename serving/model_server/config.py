"""What the server serves and how, as frozen settings; and the reading of TF Serving's text-proto configuration files."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from serving.model_server.errors import invalid

if TYPE_CHECKING:
    from tensorflow_serving.config.model_server_config_pb2 import ModelConfig, ModelServerConfig

PLATFORM = "tensorflow"
Policy = Literal["latest", "all", "specific"]
POLICIES: dict[str, Policy] = {"latest": "latest", "all": "all", "specific": "specific"}


@dataclass(frozen=True)
class ModelSettings:
    """One model: where its versions are and which of them to serve."""

    name: str
    base_path: str  # the folder that holds the version folders
    policy: Policy = "latest"
    num_versions: int = 1  # how many of the newest, with the policy `latest`
    specific_versions: tuple[int, ...] = ()  # with the policy `specific`
    labels: dict[str, int] = field(default_factory=dict)  # version label -> version


@dataclass(frozen=True)
class BatchingConfig:
    """How requests of one signature are run together. Names and defaults are TF Serving's."""

    max_batch_size: int = 1000  # rows of a batch
    batch_timeout_s: float = 0.0  # how long a request may wait for others while a thread is free; 0: only for a thread
    max_enqueued_batches: int = 10  # that wait, of each signature; a request that would need another is refused
    num_batch_threads: int = os.cpu_count() or 1  # batches that run at once


@dataclass(frozen=True)
class ServerConfig:
    """A whole server. Defaults are TF Serving's, except `host`, `max_queued_requests` and `drain_s`, which it does not have."""

    models: tuple[ModelSettings, ...]
    host: str = "127.0.0.1"
    grpc_port: int = 8500  # 0 takes a free port
    rest_port: int | None = None  # None: no REST; 0 takes a free port
    file_system_poll_wait_s: float = 1.0  # between two looks at the base paths; 0 looks once, at the start
    prometheus_path: str | None = None  # on the REST port; None: no metrics
    allow_labels_for_unavailable: bool = False  # a new label may name a version that is not loaded yet
    grpc_max_threads: int = 4 * (os.cpu_count() or 1)
    rest_num_threads: int = 4 * (os.cpu_count() or 1)
    rest_timeout_s: float = 30.0
    batching: BatchingConfig | None = None  # None: every request runs alone
    num_processes: int = 1  # that share the ports, each with all models
    intra_op_threads: int = 0  # of TensorFlow, within one op; 0: a thread a core
    inter_op_threads: int = 0  # of TensorFlow, for ops that do not wait for each other; 0: a thread a core
    max_queued_requests: int = 256  # waiting for a thread, on each of the two ports; more are refused
    max_num_load_retries: int = 5  # with the interval, how long the start waits for every model's newest version
    load_retry_interval_s: float = 60.0
    drain_s: float = 0.0  # after SIGTERM, how long everything is answered but health, which says NOT_SERVING
    shutdown_grace_s: float = 30.0  # and then, how long running requests may finish


def models_from_proto(config: ModelServerConfig) -> tuple[ModelSettings, ...]:
    """The models of a ModelServerConfig.

    Raises ServingError (INVALID_ARGUMENT) naming the model and the field that cannot be used.
    """
    if config.WhichOneof("config") == "custom_model_config":
        raise invalid("custom_model_config is not supported; use model_config_list")
    models = tuple(_model_from_proto(model) for model in config.model_config_list.config)
    names = [model.name for model in models]
    for name in names:
        if names.count(name) > 1:
            raise invalid(f"model {name!r} is configured more than once")
    return models


def read_model_config(path: str) -> tuple[ModelSettings, ...]:
    """The models of a --model_config_file.

    Raises ServingError (INVALID_ARGUMENT) naming the file and what is wrong with it.
    """
    from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

    from serving.model_server.text_protos import read_text

    return models_from_proto(read_text(path, ModelServerConfig()))


def read_prometheus_path(path: str) -> str | None:
    """Where a --monitoring_config_file wants Prometheus metrics; None where it does not enable them.

    Raises ServingError (INVALID_ARGUMENT) naming the file and what is wrong with it.
    """
    from serving.model_server.text_protos import MonitoringConfig, read_text

    prometheus = read_text(path, MonitoringConfig()).prometheus_config
    if not prometheus.enable:
        return None
    return prometheus.path or "/monitoring/prometheus/metrics"


def read_batching_config(path: str) -> BatchingConfig:
    """The four numbers of a --batching_parameters_file; what it leaves out keeps its default.

    Raises ServingError (INVALID_ARGUMENT) naming the file and what is wrong with it.
    """
    from serving.model_server.text_protos import BatchingParameters, read_text

    parameters = read_text(path, BatchingParameters())
    given = {field.name: value.value for field, value in parameters.ListFields()}
    timeout_micros = given.pop("batch_timeout_micros", 0)
    for name, value in given.items():
        if value < 1:
            raise invalid(f"{path}: {name}: got {value}, expected 1 or more")
    if timeout_micros < 0:
        raise invalid(f"{path}: batch_timeout_micros: got {timeout_micros}, expected 0 or more")
    return BatchingConfig(batch_timeout_s=timeout_micros / 1e6, **given)


def _model_from_proto(model: ModelConfig) -> ModelSettings:
    if not model.name:
        raise invalid("a model without a name in model_config_list")
    where = f"model {model.name!r}"
    if (
        model.model_platform != PLATFORM and model.model_type != 1
    ):  # model_type is the old way to say it: 1 is TENSORFLOW
        raise invalid(f"{where}: got model_platform {model.model_platform!r}, expected {PLATFORM!r}")
    if not (model.base_path.startswith("/") or "://" in model.base_path):
        raise invalid(f"{where}: got base_path {model.base_path!r}, expected an absolute path or a URI")
    policy = model.model_version_policy
    choice = policy.WhichOneof("policy_choice") or "latest"
    if choice not in POLICIES:
        raise invalid(f"{where}: version policy {choice!r} is not supported; use one of {', '.join(POLICIES)}")
    if choice == "specific" and not policy.specific.versions:
        raise invalid(f"{where}: the version policy `specific` names no versions")
    return ModelSettings(
        name=model.name,
        base_path=model.base_path,
        policy=POLICIES[choice],
        num_versions=max(1, policy.latest.num_versions),
        specific_versions=tuple(policy.specific.versions),
        labels=dict(model.version_labels),
    )
