"""The command line: TF Serving's own flags with their meaning. Imports no TensorFlow, so --help is quick."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Sequence
from pathlib import Path

from serving.model_server.config import (
    BatchingConfig,
    ModelSettings,
    ServerConfig,
    read_batching_config,
    read_model_config,
    read_prometheus_path,
)
from serving.model_server.errors import ServingError, invalid

EXAMPLE = """example:
  python -m serving.model_server --port=8500 --rest_api_port=8501 --model_name=music --model_base_path=/models/music
  curl -d '{"instances": [1.0, 2.0]}' http://127.0.0.1:8501/v1/models/music:predict
"""


def parse_flags(argv: Sequence[str]) -> ServerConfig:
    """The configuration that a command line asks for; exits with code 2 and one line where it cannot be used."""
    parser = _parser()
    flags = parser.parse_args(argv)
    if bool(flags.model_base_path) == bool(flags.model_config_file):
        parser.error("give either --model_base_path (one model) or --model_config_file (several)")
    if flags.rest_api_port and flags.rest_api_port == flags.port:
        parser.error(f"--port and --rest_api_port are both {flags.port}; REST and gRPC need a port each")
    try:
        if flags.model_config_file:
            models = read_model_config(flags.model_config_file)
        else:
            models = (ModelSettings(flags.model_name, _absolute(flags.model_base_path)),)
        prometheus_path = read_prometheus_path(flags.monitoring_config_file) if flags.monitoring_config_file else None
        batching = _batching(flags.enable_batching, flags.batching_parameters_file)
    except ServingError as error:
        parser.error(error.message)
    for model in models:
        if "://" not in model.base_path and not Path(model.base_path).is_dir():
            parser.error(f"model {model.name!r}: the base path {model.base_path} is not a folder")
    return ServerConfig(
        models=models,
        host=flags.host,
        grpc_port=flags.port,
        rest_port=flags.rest_api_port or None,
        file_system_poll_wait_s=flags.file_system_poll_wait_seconds,
        prometheus_path=prometheus_path,
        allow_labels_for_unavailable=flags.allow_version_labels_for_unavailable_models,
        grpc_max_threads=flags.grpc_max_threads,
        rest_num_threads=flags.rest_api_num_threads,
        rest_timeout_s=flags.rest_api_timeout_in_ms / 1000,
        max_queued_requests=flags.max_queued_requests,
        max_num_load_retries=flags.max_num_load_retries,
        load_retry_interval_s=flags.load_retry_interval_micros / 1e6,
        batching=batching,
        num_processes=flags.num_processes,
        intra_op_threads=flags.tensorflow_intra_op_parallelism,
        inter_op_threads=flags.tensorflow_inter_op_parallelism,
        drain_s=flags.drain_seconds,
    )


def _parser() -> argparse.ArgumentParser:
    default = ServerConfig(models=())
    parser = argparse.ArgumentParser(
        prog="python -m serving.model_server",
        description="Serve SavedModels over TF Serving's gRPC and REST interfaces.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--port", type=int, default=8500, help="gRPC port; 0 takes a free one (default %(default)s)")
    add("--rest_api_port", type=int, default=0, help="HTTP/REST port; 0 means no REST (default)")
    add(
        "--host",
        default=default.host,
        help="address to listen on; 0.0.0.0 for all, as stock TF Serving does (default %(default)s)",
    )
    add("--model_name", default="default", help="name of the model at --model_base_path (default %(default)s)")
    add("--model_base_path", default="", help="folder with the model's version folders (1, 2, ...)")
    add(
        "--model_config_file",
        default="",
        help="ModelServerConfig in text form: several models, version policies, labels",
    )
    add(
        "--file_system_poll_wait_seconds",
        type=int,
        default=1,
        help="between two looks for new versions; 0 looks only at the start",
    )
    add(
        "--monitoring_config_file",
        default="",
        help="MonitoringConfig in text form: where Prometheus metrics are, on the REST port",
    )
    switch = functools.partial(add, type=_boolean, nargs="?", const=True, default=False, metavar="BOOL")
    switch(
        "--allow_version_labels_for_unavailable_models", help="let a new label name a version that is not loaded yet"
    )
    add(
        "--grpc_max_threads",
        type=_positive,
        default=default.grpc_max_threads,
        help="gRPC requests at work at once (default %(default)s)",
    )
    add(
        "--rest_api_num_threads",
        type=_positive,
        default=default.rest_num_threads,
        help="the same over REST (default %(default)s)",
    )
    add(
        "--rest_api_timeout_in_ms",
        type=_positive,
        default=30_000,
        help="a REST request answers 504 after this (default %(default)s)",
    )
    add(
        "--max_queued_requests",
        type=_positive,
        default=default.max_queued_requests,
        help="requests waiting for a thread, on each port; more get RESOURCE_EXHAUSTED or 503 (default %(default)s)",
    )
    add(
        "--max_num_load_retries",
        type=int,
        default=default.max_num_load_retries,
        help="retries at the start (default %(default)s)",
    )
    add(
        "--load_retry_interval_micros",
        type=int,
        default=60_000_000,
        help="between two tries to load a version (default %(default)s)",
    )
    switch("--enable_batching", help="run waiting requests of one signature together")
    add(
        "--batching_parameters_file",
        default="",
        help="BatchingParameters in text form: how many rows, how long to wait, how many batches",
    )
    add(
        "--num_processes",
        type=_positive,
        default=default.num_processes,
        help="processes that share the ports (default %(default)s)",
    )
    add(
        "--tensorflow_intra_op_parallelism",
        type=_count,
        default=0,
        help="threads within one op; 0 means one a core (default)",
    )
    add(
        "--tensorflow_inter_op_parallelism",
        type=_count,
        default=0,
        help="threads for independent ops; 0 means one a core (default)",
    )
    add(
        "--drain_seconds",
        type=_count,
        default=0,
        help="after SIGTERM, how long everything is still answered while health says NOT_SERVING (default %(default)s)",
    )
    return parser


def _batching(enabled: bool, file: str) -> BatchingConfig | None:
    if not enabled:
        if file:
            raise invalid("--batching_parameters_file needs --enable_batching")
        return None
    return read_batching_config(file) if file else BatchingConfig()


def _absolute(path: str) -> str:
    return path if "://" in path else str(Path(path).absolute())


def _boolean(text: str) -> bool:
    if text.lower() in ("true", "1"):
        return True
    if text.lower() in ("false", "0"):
        return False
    raise argparse.ArgumentTypeError(f"got {text!r}, expected true or false")


def _positive(text: str) -> int:
    return _at_least(1, text)


def _count(text: str) -> int:
    return _at_least(0, text)


def _at_least(least: int, text: str) -> int:
    value = int(text)
    if value < least:
        raise argparse.ArgumentTypeError(f"got {value}, expected {least} or more")
    return value
