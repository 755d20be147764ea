"""`zhiyin serve`: starts our model server, or tensorflow_model_server, on the pushed models with TF Serving's flags."""

from __future__ import annotations

import argparse
import os
import shutil
from pathlib import Path

from components.settings import SettingsError
from pipeline import config as configuration
from pipeline.commands.arguments import DEMO_CONFIG, Commands, add_command, add_config


def add_parser(commands: Commands) -> None:
    """`serve [--config FILE] [--backend python|tf-serving] [TF Serving's flags]`."""
    command = add_command(
        commands,
        "serve",
        "answer over TF Serving's gRPC and REST; takes TF Serving's own flags too",
        "./zhiyin serve --port 8500 --rest_api_port 8501",
        run,
    )
    command.set_defaults(takes_further_arguments=True)
    add_config(command, DEMO_CONFIG)
    command.add_argument(
        "--backend",
        choices=["python", "tf-serving"],
        default="python",
        help="tf-serving starts tensorflow_model_server",
    )


def run(arguments: argparse.Namespace) -> int:
    """Serve until stopped: the models of the configuration, unless the flags name others."""
    flags = list(arguments.rest)
    names = {flag.lstrip("-").split("=", 1)[0] for flag in flags}
    if not names & {"model_base_path", "model_config_file"}:
        config = configuration.load(arguments.config)
        models = [folder for folder in sorted(config.serving_path.glob("*")) if folder.is_dir()]
        if not models:
            raise SettingsError(
                f"nothing is served yet under {config.serving_path}; run ./zhiyin run --config {arguments.config} first"
            )
        flags.append(f"--model_config_file={_file_in_memory(_model_config(models, arguments.backend))}")
    if "port" not in names:
        flags.append("--port=8500")
    if "rest_api_port" not in names:
        flags.append("--rest_api_port=8501")
    if arguments.backend == "tf-serving":
        binary = shutil.which("tensorflow_model_server")
        if not binary:
            raise SettingsError("tensorflow_model_server is not on the PATH; install it, or leave --backend out")
        os.execv(binary, [binary, *flags])
    from serving.model_server import server

    return server.main(flags)


def _model_config(models: list[Path], backend: str) -> str:
    """TF Serving's own text format; the stock server has no ScaNN op, so it gets the exact model alone."""
    from google.protobuf import text_format
    from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

    config = ModelServerConfig()
    for model in models:
        if backend == "python" or not model.name.endswith("-scann"):
            config.model_config_list.config.add(name=model.name, base_path=str(model), model_platform="tensorflow")
    return text_format.MessageToString(config)


def _file_in_memory(text: str) -> str:
    """The path of a file that only this process, or what it becomes, reads: the folder of models may be read-only."""
    descriptor = os.memfd_create("models.config", flags=0)
    os.write(descriptor, text.encode())
    return f"/proc/self/fd/{descriptor}"
