"""`zhiyin tags`: predicts an item's tags from its sound, pictures and words, beside those of the catalogue."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from components.settings import SettingsError
from pipeline import config as configuration
from pipeline.commands.arguments import (
    DEMO_CONFIG,
    Commands,
    add_command,
    add_config,
    add_ids,
    add_json,
    add_top_k,
    check_top_k,
)
from pipeline.ranked_lists import printable
from pipeline.records import record_of

if TYPE_CHECKING:
    from pipeline.local_model import CurrentModel


def add_parser(commands: Commands) -> None:
    """`tags --item ID ... [--k N] [--json]`."""
    command = add_command(
        commands, "tags", "tags that an item's content lets expect", "./zhiyin tags --item i0007", run
    )
    add_config(command, DEMO_CONFIG)
    add_ids(command, "--item", required=True)
    add_top_k(command, "tags")
    add_json(command)


def run(arguments: argparse.Namespace) -> int:
    """Ask the retrieval model that is current about items of the catalogue that it was trained on."""
    check_top_k(arguments)
    config = configuration.load(arguments.config)
    from pipeline.local_model import CurrentModel

    model = CurrentModel(config)
    titles = model.titles(set(arguments.items))
    for item_id in arguments.items:
        found = predicted(model, item_id)[: arguments.k]
        if arguments.json:
            tags = [{"tag": name, "probability": probability} for name, probability in found]
            print(json.dumps({"item_id": item_id, "given": given(model, item_id), "tags": tags}, ensure_ascii=False))
            continue
        print(printable(f"{item_id}  {titles[item_id]}"))
        print(printable(f"given: {', '.join(given(model, item_id)) or 'no tags'}") + "\n")
        for name, probability in found:
            print(f"  {probability:.3f}  {printable(name)}")
    return 0


def predicted(model: CurrentModel, item_id: str) -> list[tuple[str, float]]:
    """Tags and their probabilities, likeliest first; the item's own tags are not looked at.

    Raises SettingsError where the model has no tags to tell, and for an item that it was not trained on.
    """
    signatures = model.retrieval_signatures
    if "tags" not in signatures:
        raise SettingsError("the trained model tells no tags: too few items of its catalogue have any")
    signature = signatures["tags"]
    record = record_of(model.part("transformed_items").path / "Split-train", item_id)
    answer = signature(**_request(signature, record))
    names, probabilities = answer["tags"].numpy()[0], answer["probabilities"].numpy()[0]
    return [(name.decode(), float(probability)) for name, probability in zip(names, probabilities)]


def given(model: CurrentModel, item_id: str) -> list[str]:
    """The tags that the catalogue gives the item."""
    import tensorflow as tf

    record = record_of(model.part("catalogue").path / "Split-train", item_id)
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
