"""The model server's command line: TF Serving's flags with their meaning. Imports no TensorFlow, so --help is quick."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from serving.model_server.config import (
    BatchingConfig,
    GrpcTransport,
    ModelSettings,
    RestTransport,
    ServableOptions,
    ServerConfig,
    read_batching_config,
    read_model_config,
    read_prometheus_path,
    read_session_threads,
    read_tls,
)
from serving.model_server.errors import ServingError, invalid
from serving.model_server.flag_types import boolean, channel_arguments, count, port, positive
from serving.model_server.idle_flags import add_idle_flags, report_idle_flags

log = logging.getLogger(__name__)

EXAMPLE = """example:
  python -m serving.model_server --port=8500 --rest_api_port=8501 --model_name=music --model_base_path=/models/music
  curl -d '{"instances": [1.0, 2.0]}' http://127.0.0.1:8501/v1/models/music:predict
"""


def parse_flags(argv: Sequence[str]) -> ServerConfig:
    """The configuration that a command line asks for; exits with code 2 and one line where it cannot be used."""
    parser = _parser()
    flags = parser.parse_args(argv)
    try:
        _check(flags)
        config = _config(flags)
    except ServingError as error:
        parser.error(error.message)
    report_idle_flags(flags)
    for model in config.models:
        if "://" not in model.base_path and not Path(model.base_path).is_dir():
            parser.error(f"model {model.name!r}: the base path {model.base_path} is not a folder")
    return config


def _check(flags: argparse.Namespace) -> None:
    if not (flags.model_base_path or flags.model_config_file):
        raise invalid("give --model_base_path (one model) or --model_config_file (several)")
    if flags.rest_api_port and flags.rest_api_port == flags.port:
        raise invalid(f"--port and --rest_api_port are both {flags.port}; REST and gRPC need a port each")
    if flags.batching_parameters_file and not flags.enable_batching:
        raise invalid("--batching_parameters_file needs --enable_batching")
    if flags.use_alts_credentials and flags.ssl_config_file:
        raise invalid("--use_alts_credentials and --ssl_config_file exclude each other")
    if flags.grpc_socket_path and flags.num_processes > 1:
        raise invalid("--grpc_socket_path belongs to one process; leave --num_processes out")
    threads = (flags.tensorflow_session_parallelism, flags.tensorflow_intra_op_parallelism,
               flags.tensorflow_inter_op_parallelism)  # fmt: skip
    if all(threads):
        raise invalid(
            "give --tensorflow_session_parallelism, or --tensorflow_intra_op_parallelism and "
            "--tensorflow_inter_op_parallelism, not all three"
        )


def _config(flags: argparse.Namespace) -> ServerConfig:
    intra_op_threads, inter_op_threads = _threads(flags)
    return ServerConfig(
        models=_models(flags),
        host=flags.host,
        grpc_port=None if flags.grpc_socket_path and not flags.port else flags.port,
        rest_port=flags.rest_api_port or None,
        file_system_poll_wait_s=flags.file_system_poll_wait_seconds,
        model_config_file=flags.model_config_file or None,
        model_config_poll_wait_s=flags.model_config_file_poll_wait_seconds,
        prometheus_path=read_prometheus_path(flags.monitoring_config_file) if flags.monitoring_config_file else None,
        allow_labels_for_unavailable=flags.allow_version_labels_for_unavailable_models,
        grpc_max_threads=flags.grpc_max_threads,
        rest_num_threads=flags.rest_api_num_threads,
        rest_timeout_s=flags.rest_api_timeout_in_ms / 1000,
        max_queued_requests=flags.max_queued_requests,
        max_num_load_retries=flags.max_num_load_retries,
        load_retry_interval_s=flags.load_retry_interval_micros / 1e6,
        batching=_batching(flags),
        num_processes=flags.num_processes,
        intra_op_threads=intra_op_threads,
        inter_op_threads=inter_op_threads,
        drain_s=flags.drain_seconds,
        grpc=GrpcTransport(
            socket_path=flags.grpc_socket_path or None,
            channel_arguments=flags.grpc_channel_arguments,
            tls=read_tls(flags.ssl_config_file) if flags.ssl_config_file else None,
            alts=flags.use_alts_credentials,
        ),
        rest=RestTransport(flags.rest_api_enable_cors_support, flags.rest_api_max_body_bytes),
        servables=ServableOptions(
            tags=tuple(flags.saved_model_tags.split(",")),
            warm_up_iterations=max(1, flags.num_request_iterations_for_warmup) if flags.enable_model_warmup else 0,
            check_method_names=flags.enable_signature_method_name_check,
            tensor_content=flags.enable_serialization_as_tensor_content,
        ),
    )


def _models(flags: argparse.Namespace) -> tuple[ModelSettings, ...]:
    if not flags.model_config_file:
        return (ModelSettings(flags.model_name, _absolute(flags.model_base_path)),)
    if flags.model_base_path:
        log.warning("--model_base_path and --model_name do nothing beside --model_config_file")
    return read_model_config(flags.model_config_file) or ()


def _threads(flags: argparse.Namespace) -> tuple[int, int]:
    """Intra- and inter-op threads: the flags of one kind, else those of both kinds, else the session's file."""
    one_kind = (flags.tensorflow_intra_op_parallelism, flags.tensorflow_inter_op_parallelism)
    if any(one_kind):
        return one_kind
    if flags.tensorflow_session_parallelism:
        return flags.tensorflow_session_parallelism, flags.tensorflow_session_parallelism
    return (
        read_session_threads(flags.tensorflow_session_config_file) if flags.tensorflow_session_config_file else (0, 0)
    )


def _batching(flags: argparse.Namespace) -> BatchingConfig | None:
    if not flags.enable_batching:
        return None
    return read_batching_config(flags.batching_parameters_file) if flags.batching_parameters_file else BatchingConfig()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m serving.model_server",
        description="Serve SavedModels over TF Serving's gRPC and REST interfaces.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _add_version(parser)
    _add_models(parser.add_argument_group("models"))
    _add_ports(parser.add_argument_group("ports"))
    _add_work(parser.add_argument_group("work"))
    add_idle_flags(parser)
    return parser


def _add_version(parser: argparse.ArgumentParser) -> None:
    about = f"TensorFlow ModelServer: zhiyin, as 2.16\nTensorFlow Library: {metadata.version('tensorflow')}"
    parser.add_argument("--version", action="version", version=about, help="print the version and exit")


def _add_models(group: argparse._ArgumentGroup) -> None:
    default = ServerConfig(models=())
    add, switch = group.add_argument, _switches(group)
    add("--model_name", default="default", help="name of the model at --model_base_path (default %(default)s)")
    add("--model_base_path", default="", help="folder with the model's version folders (1, 2, ...)")
    add("--model_config_file", default="", help="ModelServerConfig in text form: several models, policies, labels")
    add("--model_config_file_poll_wait_seconds", type=count, default=0,
        help="between two looks at that file; 0 reads it once (default)")  # fmt: skip
    add("--file_system_poll_wait_seconds", type=count, default=1,
        help="between two looks for new versions; 0 looks only at the start (default %(default)s)")  # fmt: skip
    add("--saved_model_tags", default="serve", help="tags of the graph to load, with commas (default %(default)s)")
    switch("--allow_version_labels_for_unavailable_models", help="let a new label name a version that is not loaded")
    switch("--enable_model_warmup", default=True,
           help="run a version's recorded requests before it is available; without, added and withdrawn items that are "
           "recorded there are not applied either (default true)")  # fmt: skip
    add("--num_request_iterations_for_warmup", type=int, default=0, help="how often each runs (default once)")
    add("--max_num_load_retries", type=int, default=default.max_num_load_retries,
        help="retries before the start gives up on a model (default %(default)s)")  # fmt: skip
    add("--load_retry_interval_micros", type=int, default=60_000_000,
        help="between two tries to load a version (default %(default)s)")  # fmt: skip
    switch("--enable_signature_method_name_check",
           help="Classify and Regress want signatures that were saved for them")  # fmt: skip


def _add_ports(group: argparse._ArgumentGroup) -> None:
    default = ServerConfig(models=())
    add, switch = group.add_argument, _switches(group)
    add("--port", type=port, default=8500,
        help="gRPC port; 0 takes a free one, or none where there is a socket (default %(default)s)")  # fmt: skip
    add("--rest_api_port", type=port, default=0, help="HTTP/REST port; 0 means no REST (default)")
    add("--host", default=default.host,
        help="address to listen on, IPv4 or IPv6, or a name; 0.0.0.0 for all of IPv4, as stock TF Serving does, :: for "
        "all (default %(default)s)")  # fmt: skip
    add("--grpc_socket_path", default="", help="UNIX socket for gRPC, besides the port")
    add("--grpc_channel_arguments", type=channel_arguments, default=(), metavar="NAME=VALUE,...",
        help="gRPC's own settings, such as grpc.max_connection_age_ms=2000")  # fmt: skip
    add("--ssl_config_file", default="", help="SSLConfig in text form: key and certificates of the gRPC port")
    switch("--use_alts_credentials", help="Google's ALTS on the gRPC port")
    switch("--rest_api_enable_cors_support", help="let pages of other origins read REST's answers")
    add("--rest_api_max_body_bytes", type=positive, default=default.rest.max_body_bytes,
        help="a larger request gets 413 (default %(default)s)")  # fmt: skip
    add("--monitoring_config_file", default="",
        help="MonitoringConfig in text form: where Prometheus metrics are, on the REST port")  # fmt: skip
    switch("--enable_serialization_as_tensor_content", help="Predict answers in tensor_content, not in typed fields")


def _add_work(group: argparse._ArgumentGroup) -> None:
    default = ServerConfig(models=())
    add, switch = group.add_argument, _switches(group)
    add("--grpc_max_threads", type=positive, default=default.grpc_max_threads,
        help="gRPC requests at work at once (default %(default)s)")  # fmt: skip
    add("--rest_api_num_threads", type=positive, default=default.rest_num_threads,
        help="the same over REST (default %(default)s)")  # fmt: skip
    add("--rest_api_timeout_in_ms", type=positive, default=30_000,
        help="a REST request answers 504 after this (default %(default)s)")  # fmt: skip
    add("--max_queued_requests", type=positive, default=default.max_queued_requests,
        help="requests waiting for a thread, on each port; more get RESOURCE_EXHAUSTED or 503 "
        "(default %(default)s)")  # fmt: skip
    switch("--enable_batching", help="run waiting requests of one signature together")
    add("--batching_parameters_file", default="",
        help="BatchingParameters in text form: how many rows, how long to wait, how many batches")  # fmt: skip
    add("--num_processes", type=positive, default=default.num_processes,
        help="processes that share the ports (default %(default)s)")  # fmt: skip
    add("--tensorflow_session_parallelism", type=count, default=0,
        help="threads of both kinds below; 0 means one a core (default)")  # fmt: skip
    add("--tensorflow_intra_op_parallelism", type=count, default=0,
        help="threads within one op; 0 means one a core (default)")  # fmt: skip
    add("--tensorflow_inter_op_parallelism", type=count, default=0,
        help="threads for independent ops; 0 means one a core (default)")  # fmt: skip
    add("--tensorflow_session_config_file", default="",
        help="ConfigProto in text form, for its two numbers of threads")  # fmt: skip
    add("--drain_seconds", type=count, default=0,
        help="after SIGTERM, how long everything is still answered while health says NOT_SERVING "
        "(default %(default)s)")  # fmt: skip


def _switches(group: argparse._ArgumentGroup):
    options = {"type": boolean, "nargs": "?", "const": True, "default": False, "metavar": "BOOL"}
    return lambda name, **more: group.add_argument(name, **{**options, **more})


def _absolute(path: str) -> str:
    return path if "://" in path else str(Path(path).absolute())
