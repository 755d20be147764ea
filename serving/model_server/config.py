"""Settings of the model server, and the reading of TF Serving's configuration files (protocol buffers in text form)."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from serving.model_server.errors import invalid

if TYPE_CHECKING:
    from tensorflow_serving.config.model_server_config_pb2 import ModelConfig, ModelServerConfig

log = logging.getLogger(__name__)

PLATFORM = "tensorflow"
MAX_MESSAGE_BYTES = 2**31 - 1  # of a gRPC message: gRPC's own limit of 4 MiB is too small for tensors
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
class ServableOptions:
    """How every version of every model is loaded, and what its answers look like. Defaults are TF Serving's."""

    tags: tuple[str, ...] = ("serve",)  # of the graph to load from a SavedModel
    warm_up_iterations: int = 1  # how often each recorded request runs before a version is available; 0: not at all
    check_method_names: bool = False  # Classify and Regress want signatures that were saved for them
    tensor_content: bool = False  # Predict answers in `tensor_content` (little-endian bytes) instead of typed fields


@dataclass(frozen=True)
class Tls:
    """Key and certificates of the gRPC port, as PEM text."""

    server_key: str
    server_cert: str
    custom_ca: str = ""  # whose client certificates are trusted
    client_verify: bool = False  # whether a client must show one


@dataclass(frozen=True)
class GrpcTransport:
    """How gRPC connections are made. Defaults are TF Serving's."""

    socket_path: str | None = None  # a UNIX socket to listen on, besides the port
    channel_arguments: tuple[tuple[str, int | str], ...] = ()  # gRPC's own settings, over the server's
    tls: Tls | None = None  # None: plain text
    alts: bool = False  # Google's ALTS between its own machines


@dataclass(frozen=True)
class RestTransport:
    """How HTTP connections are made. Defaults are TF Serving's, except the limit of a body, which it does not have."""

    cors: bool = False  # whether pages of other origins may read the answers
    max_body_bytes: int = 1 << 28  # of a request, after decompression; a larger one is 413


@dataclass(frozen=True)
class ServerConfig:
    """A whole server.

    Defaults are TF Serving's, except `host`, `max_queued_requests` and `drain_s`, which it does not have.
    """

    models: tuple[ModelSettings, ...]
    host: str = "127.0.0.1"  # an address of either family or a name, for both ports
    grpc_port: int | None = 8500  # 0 takes a free port; None: only the socket
    rest_port: int | None = None  # None: no REST; 0 takes a free port
    file_system_poll_wait_s: float = 1.0  # between two looks at the base paths; 0 looks once, at the start
    model_config_file: str | None = None  # where `models` were read; read again every `model_config_poll_wait_s`
    model_config_poll_wait_s: float = 0.0  # 0: the file is read once
    prometheus_path: str | None = None  # on the REST port; None: no metrics
    allow_labels_for_unavailable: bool = False  # a new label may name a version that is not loaded yet
    grpc_max_threads: int = 4 * (os.cpu_count() or 1)
    rest_num_threads: int = 4 * (os.cpu_count() or 1)
    rest_timeout_s: float = 30.0  # of an answer, and between two parts of a request's body
    batching: BatchingConfig | None = None  # None: every request runs alone
    num_processes: int = 1  # that share the ports, each with all models
    intra_op_threads: int = 0  # of TensorFlow, within one op; 0: a thread a core
    inter_op_threads: int = 0  # of TensorFlow, for ops that do not wait for each other; 0: a thread a core
    max_queued_requests: int = 256  # waiting for a thread, on each of the two ports; more are refused
    max_num_load_retries: int = 5  # with the interval, how long the start waits for a model's first version
    load_retry_interval_s: float = 60.0
    drain_s: float = 0.0  # after SIGTERM, how long everything is answered but health, which says NOT_SERVING
    shutdown_grace_s: float = 30.0  # and then, how long running requests may finish, and versions that are being loaded
    grpc: GrpcTransport = GrpcTransport()
    rest: RestTransport = RestTransport()
    servables: ServableOptions = ServableOptions()


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


def read_model_config(path: str) -> tuple[ModelSettings, ...] | None:
    """The models of a --model_config_file; None where it says nothing, as while it is being written.

    Raises ServingError (INVALID_ARGUMENT) naming the file and what is wrong with it.
    """
    from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

    from serving.model_server.text_protos import read_text

    config = read_text(path, ModelServerConfig())
    return models_from_proto(config) if config.WhichOneof("config") else None


def read_prometheus_path(path: str) -> str | None:
    """Where a --monitoring_config_file wants Prometheus metrics; None where it does not enable them.

    Raises ServingError (INVALID_ARGUMENT) naming the file and what is wrong with it.
    """
    from serving.model_server.text_protos import MonitoringConfig, read_text

    prometheus = read_text(path, MonitoringConfig()).prometheus_config
    if not prometheus.enable:
        return None
    return prometheus.path or "/monitoring/prometheus/metrics"


def read_tls(path: str) -> Tls:
    """Key and certificates of an --ssl_config_file.

    Raises ServingError (INVALID_ARGUMENT) naming the file and what is wrong with it.
    """
    from serving.model_server.text_protos import SslConfig, read_text

    config = read_text(path, SslConfig())
    if not (config.server_key and config.server_cert):
        raise invalid(f"{path}: server_key and server_cert are needed, as PEM text")
    if config.client_verify and not config.custom_ca:
        raise invalid(f"{path}: client_verify needs custom_ca, the authority whose certificates are trusted")
    return Tls(config.server_key, config.server_cert, config.custom_ca, config.client_verify)


def read_session_threads(path: str) -> tuple[int, int]:
    """Intra- and inter-op threads of a --tensorflow_session_config_file (a ConfigProto), whose other fields do nothing.

    Raises ServingError (INVALID_ARGUMENT) naming the file and what is wrong with it.
    """
    from tensorflow.core.protobuf.config_pb2 import ConfigProto

    from serving.model_server.text_protos import read_text

    config = read_text(path, ConfigProto())
    used = {"intra_op_parallelism_threads", "inter_op_parallelism_threads"}
    for name in sorted({one.name for one, _ in config.ListFields()} - used):
        log.warning("%s: %s does nothing here", path, name)
    return config.intra_op_parallelism_threads, config.inter_op_parallelism_threads


def read_batching_config(path: str) -> BatchingConfig:
    """The four numbers of a --batching_parameters_file, each its default where it is left out; other fields do nothing.

    Raises ServingError (INVALID_ARGUMENT) naming the file and what is wrong with it.
    """
    from serving.model_server.text_protos import BatchingParameters, read_text

    parameters = read_text(path, BatchingParameters())
    given = {field.name: value for field, value in parameters.ListFields()}
    for name, reason in _IDLE_BATCHING_PARAMETERS.items():
        if given.pop(name, None) is not None:
            log.warning("%s: %s does nothing here: %s", path, name, reason)
    numbers = {name: wrapped.value for name, wrapped in given.items()}
    timeout_micros = numbers.pop("batch_timeout_micros", 0)
    for name, value in numbers.items():
        if value < 1:
            raise invalid(f"{path}: {name}: got {value}, expected 1 or more")
    if timeout_micros < 0:
        raise invalid(f"{path}: batch_timeout_micros: got {timeout_micros}, expected 0 or more")
    return BatchingConfig(batch_timeout_s=timeout_micros / 1e6, **numbers)


_IDLE_BATCHING_PARAMETERS = {
    "thread_pool_name": "the threads have names of their own",
    "allowed_batch_sizes": "batches are not padded",
    "pad_variable_length_inputs": "only requests of equal inner shapes share a batch",
    "enable_large_batch_splitting": "a request with more rows than a batch is a batch of its own",
    "max_execution_batch_size": "a request with more rows than a batch is a batch of its own",
}


def _model_from_proto(model: ModelConfig) -> ModelSettings:
    if not model.name:
        raise invalid("a model without a name in model_config_list")
    where = f"model {model.name!r}"
    is_tensorflow = model.model_platform == PLATFORM or model.model_type == 1  # the old way to say it: TENSORFLOW
    if not is_tensorflow:
        raise invalid(f"{where}: got model_platform {model.model_platform!r}, expected {PLATFORM!r}")
    if not (model.base_path.startswith("/") or "://" in model.base_path):
        raise invalid(f"{where}: got base_path {model.base_path!r}, expected an absolute path or a URI")
    policy = model.model_version_policy
    choice = policy.WhichOneof("policy_choice") or "latest"
    if choice not in POLICIES:
        raise invalid(f"{where}: version policy {choice!r} is not supported; use one of {', '.join(POLICIES)}")
    if choice == "specific" and not policy.specific.versions:
        raise invalid(f"{where}: the version policy `specific` names no versions")
    if model.HasField("logging_config"):
        log.warning("%s: logging_config does nothing here", where)
    return ModelSettings(
        name=model.name,
        base_path=model.base_path,
        policy=POLICIES[choice],
        num_versions=max(1, policy.latest.num_versions),
        specific_versions=tuple(policy.specific.versions),
        labels=dict(model.version_labels),
    )
