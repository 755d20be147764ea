"""Flags of stock TensorFlow Serving that have nothing to do here: checked, and answered with one line each."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from typing import Any

from serving.model_server.flag_types import boolean

log = logging.getLogger(__name__)

_NO_TFLITE = "TensorFlow Lite models are not served; the SavedModel beside them is"
_NO_XLA = "XLA compiles what the SavedModel says, as TensorFlow does by default"
_ONE_LOADER = "versions are loaded one after another in a thread of their own; requests do not wait for them"

# flag -> (type of its value, why it does nothing)
IDLE_FLAGS: dict[str, tuple[Callable[[str], Any], str]] = {
    "enable_per_model_batching_parameters": (
        boolean,
        "the parameters of --batching_parameters_file hold for every model",
    ),
    "num_load_threads": (int, _ONE_LOADER),
    "num_unload_threads": (int, _ONE_LOADER),
    "flush_filesystem_caches": (boolean, "the operating system keeps its file caches as it sees fit"),
    "platform_config_file": (str, "the only platform is tensorflow, set up by the other flags"),
    "per_process_gpu_memory_fraction": (float, "TensorFlow decides about GPU memory"),
    "remove_unused_fields_from_bundle_metagraph": (
        boolean,
        "the graph's description is kept for GetModelMetadata alone",
    ),
    "prefer_tflite_model": (boolean, _NO_TFLITE),
    "num_tflite_pools": (int, _NO_TFLITE),
    "num_tflite_interpreters_per_pool": (int, _NO_TFLITE),
    "xla_cpu_compilation_enabled": (boolean, _NO_XLA),
    "xla_gpu_compilation_enabled": (boolean, _NO_XLA),
    "enable_profiler": (boolean, "there is no profiler service"),
    "thread_pool_factory_config_file": (str, "TensorFlow's own thread pools are used"),
    "mixed_precision": (str, "models compute in the precision in which they were saved"),
    "skip_initialize_tpu": (boolean, "no TPU is used"),
    "enable_grpc_healthcheck_service": (boolean, "health is always answered"),
}


def add_idle_flags(parser: argparse.ArgumentParser) -> None:
    """Accept the flags; --help shows them in a group of their own."""
    group = parser.add_argument_group("accepted from start lines made for TensorFlow Serving; they do nothing here")
    for name, (kind, reason) in IDLE_FLAGS.items():
        if kind is boolean:
            group.add_argument(f"--{name}", type=kind, nargs="?", const=True, metavar="BOOL", help=reason)
        else:
            group.add_argument(f"--{name}", type=kind, metavar="VALUE", help=reason)


def report_idle_flags(flags: argparse.Namespace) -> None:
    """Log a line for each of the flags that was given."""
    for name, (_, reason) in IDLE_FLAGS.items():
        if getattr(flags, name) is not None:
            log.warning("--%s does nothing here: %s", name, reason)
