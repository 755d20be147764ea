"""Trains the tiny model in this process on so many logical devices, and leaves what it learned: arguments JSON,
devices, output.
"""

import json
import sys
from pathlib import Path

import numpy as np

from components import settings
from components.config import DataConfig
from components.datasets.interactions import read_interactions
from tests.trainer.draws import note_draws
from trainer.config.engine import EngineConfig
from trainer.config.retrieval import RetrievalConfig
from trainer.data import ItemTable
from trainer.keras import tf
from trainer.retrieval.run import build
from trainer.retrieval.train import train
from trainer.strategy import strategy_for


def main(arguments: dict, devices: int, output: str) -> None:
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * devices)
    data = settings.from_json(DataConfig, arguments["data"])
    config = settings.from_json(RetrievalConfig, arguments["retrieval"])
    table = ItemTable.open(Path(arguments["table"]))
    splits = [
        read_interactions([path], table.item_ids, tuple(data.event_rules))
        for path in (arguments["train"], arguments["eval"])
    ]
    strategy = strategy_for(EngineConfig())
    with strategy.scope():
        model = build(table, splits[0], data, config)
        notes = [note_draws(model)] if config.loss == "softmax" else []
        history = train(model, *splits, table)
        vectors = model.item_tower.encode(table)
    np.savez(
        output,
        kind=type(strategy).__name__,
        replicas=strategy.num_replicas_in_sync,
        vectors=vectors,
        loss=history.history["loss"],
        notes=[each.numpy() for each in notes],
        **{f"weight_{number}": weight for number, weight in enumerate(model.get_weights())},
    )


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
