"""`zhiyin tags`: the tags that an item's sound, pictures and words let expect, beside those that the catalogue gives it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from components.settings import SettingsError
from pipeline import config as configuration
from pipeline.commands.arguments import (
    DEMO_CONFIG,
    Commands,
    add_command,
    add_config,
    add_ids,
    add_top_k,
    check_top_k,
)
from pipeline.records import record_of


def add_parser(commands: Commands) -> None:
    """`tags --item ID [--k N]`."""
    command = add_command(
        commands, "tags", "tags that an item's content lets expect", "./zhiyin tags --item i0007", run
    )
    add_config(command, DEMO_CONFIG)
    add_ids(command, "--item", required=True)
    add_top_k(command, "tags")


def run(arguments: argparse.Namespace) -> int:
    """Ask the newest trained retrieval model about one item of the newest transformed catalogue."""
    check_top_k(arguments)
    config = configuration.localised(configuration.load(arguments.config))
    artifacts = config.work_path / "artifacts"
    from pipeline import local_model

    for item_id in arguments.items:
        found = predicted(artifacts, item_id)
        print(f"{item_id}  {local_model.titles(config, {item_id})[item_id]}")
        print(f"given: {', '.join(given(artifacts, item_id)) or 'no tags'}\n")
        for name, probability in found[: arguments.k]:
            print(f"  {probability:.3f}  {name}")
    return 0


def predicted(artifacts: Path, item_id: str) -> list[tuple[str, float]]:
    """Tags and their probabilities, likeliest first; the item's own tags are not looked at.

    Raises SettingsError where there is no trained model, where it has no tags to tell, and for an unknown item.
    """
    import tensorflow as tf

    model = tf.saved_model.load(str(_newest(artifacts / "RetrievalTrainer" / "model") / "Format-Serving"))
    if "tags" not in model.signatures:
        raise SettingsError("the trained model tells no tags: too few items of its catalogue have any")
    signature = model.signatures["tags"]
    items = _newest(artifacts / "ItemTransform" / "transformed_examples") / "Split-train"
    answer = signature(**_request(signature, record_of(items, item_id)))
    names, probabilities = answer["tags"].numpy()[0], answer["probabilities"].numpy()[0]
    return [(name.decode(), float(probability)) for name, probability in zip(names, probabilities)]


def given(artifacts: Path, item_id: str) -> list[str]:
    """The tags that the catalogue gives the item."""
    import tensorflow as tf

    record = record_of(_newest(artifacts / "CatalogGen" / "examples") / "Split-train", item_id)
    return [tag.decode() for tag in tf.train.Example.FromString(record).features.feature["tags"].bytes_list.value]


def _request(signature: Any, record: bytes) -> dict[str, Any]:
    """One transformed item as the signature takes it; media that it lacks are empty bytes."""
    import tensorflow as tf

    specs = signature.structured_input_signature[1]
    absent = {name: "" if spec.dtype == tf.string else None for name, spec in specs.items()}
    return tf.io.parse_example(
        [record],
        {name: tf.io.FixedLenFeature(spec.shape[1:], spec.dtype, absent[name]) for name, spec in specs.items()},
    )


def _newest(folder: Path) -> Path:
    runs = [path for path in folder.glob("*") if path.name.isdigit()]
    if not runs:
        raise SettingsError(f"there is no finished run: {folder} is empty; run the pipeline first")
    return max(runs, key=lambda path: int(path.name))
