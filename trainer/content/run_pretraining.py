"""The entry point that the Pretraining node names: transformed items in, the encoders' weights out."""

from __future__ import annotations

import json
import logging
import tempfile
import time
from pathlib import Path

import numpy as np

from components import settings
from components.config import DataConfig
from trainer.config.retrieval import EncoderConfig, PretrainingConfig, RetrievalConfig
from trainer.content.pretraining import pretrain, write_weights
from trainer.data import ItemTable
from trainer.keras import tf
from trainer.retrieval.item_tower import ItemTower
from trainer.retrieval.run import vocabulary_sizes

_SCALED_ON = 2_000  # items on which the scales of the inputs are measured


def pretrain_encoders(
    items: str, transform_graph: str, folder: str, data: str, encoder: str, pretraining: str
) -> dict[str, dict]:
    """Pretrain the encoders on a catalogue and write `weights.npz` and `report.json` into `folder`, for `trainer.retrieval.run`.

    items: pattern or folder of transformed item examples. data, encoder, pretraining: DataConfig, EncoderConfig, PretrainingConfig as JSON;
    the retrieval model must be built with the same encoders.
    Returns the report: modality -> {"before", "after", "epochs", "items"}. Raises ValueError where there is nothing to pretrain.
    """
    config = settings.from_json(PretrainingConfig, pretraining)
    columns = settings.from_json(DataConfig, data)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as local:
        sizes = vocabulary_sizes(transform_graph, columns) if transform_graph else {}
        table = ItemTable.build(items, columns, Path(local), sizes)
        encoders, report = pretrained(table, settings.from_json(EncoderConfig, encoder), config)
    tf.io.gfile.makedirs(folder)
    write_weights(encoders, folder)
    with tf.io.gfile.GFile(f"{folder}/report.json", "w") as file:
        file.write(json.dumps(report, indent=1, sort_keys=True))
    logging.info("pretraining: %d items, %s, %.0f s", len(table), json.dumps(report), time.monotonic() - started)
    return report


def pretrained(
    table: ItemTable, encoder: EncoderConfig, config: PretrainingConfig
) -> tuple[dict[str, tf.keras.layers.Layer], dict[str, dict]]:
    """New encoders, pretrained on a table, and the report."""
    wanted: tuple[str, ...] = config.modalities
    names = tuple(name for name in table.modalities if name in wanted)
    if not names or encoder.layers < 1:
        raise ValueError(
            f"pretraining: nothing to train: the catalogue has {', '.join(table.modalities) or 'no content'}, the settings ask for "
            f"{', '.join(wanted)}, and the encoders have {encoder.layers} Transformer blocks (at least 1 is needed)"
        )
    tf.keras.utils.set_random_seed(config.seed)
    tower = ItemTower(table, [], [], RetrievalConfig(modalities=names, use_attributes=False, encoder=encoder))
    tower.prepare(table, np.linspace(0, len(table) - 1, min(len(table), _SCALED_ON)).astype(int))
    encoders = {name: tower.encoders[name] for name in names}
    return encoders, pretrain(encoders, table, encoder, config)
