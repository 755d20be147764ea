"""The entry point of pretraining: transformed items -> weights of the content encoders."""

from __future__ import annotations

import json
import logging
import math
import tempfile
import time
from pathlib import Path

import numpy as np

from components.config import DataConfig
from trainer.config.encoder import EncoderConfig
from trainer.config.pretraining import PretrainingConfig
from trainer.config.retrieval import RetrievalConfig
from trainer.content.pretraining import learn_codebook, pretrain
from trainer.data import ItemTable, vocabulary_sizes
from trainer.encoders.codebook import CODEBOOK
from trainer.encoders.weights import write_weights
from trainer.keras import tf
from trainer.towers.item_tower import ItemTower

_SCALED_ON = 2_000  # items of each modality on which the scales of the inputs are measured


def pretrain_encoders(
    items: str, transform_graph: str, folder: str, data: DataConfig, encoder: EncoderConfig, config: PretrainingConfig
) -> dict[str, dict[str, float | None]]:
    """Pretrains the content encoders on a catalogue and writes `weights.npz` and `report.json` into a folder.

    TensorBoard's logs go below it, into `logs`.

    items: pattern or folder of transformed item examples.
    transform_graph: folder with their vocabularies; "" where there is none.
    folder: where the weights go, for `trainer.retrieval.run`, which must build the same encoders.
    Returns the report: modality -> {"before", "after", "epochs", "items"}, None for an error that was not measured.
    Raises ValueError where there is nothing to pretrain.
    """
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as local:
        sizes = vocabulary_sizes(transform_graph, data) if transform_graph else {}
        table = ItemTable.build(items, data, Path(local), sizes)
        encoders, numbers = pretrained(table, encoder, config, f"{folder}/logs")
    report = {
        modality: {name: value if math.isfinite(value) else None for name, value in of_modality.items()}
        for modality, of_modality in numbers.items()
    }
    tf.io.gfile.makedirs(folder)
    write_weights(encoders, folder)
    with tf.io.gfile.GFile(f"{folder}/report.json", "w") as file:
        file.write(json.dumps(report, indent=1, sort_keys=True))
    logging.info("pretraining: %d items, %s, %.0f s", len(table), json.dumps(report), time.monotonic() - started)
    return report


def pretrained(
    table: ItemTable, encoder: EncoderConfig, config: PretrainingConfig, log_dir: str = ""
) -> tuple[dict[str, tf.keras.layers.Layer], dict[str, dict[str, float]]]:
    """Builds encoders and pretrains them on a table: modality or CODEBOOK -> encoder, and the report of `pretrain`.

    log_dir: as `pretrain` takes it.
    """
    wanted: tuple[str, ...] = config.modalities
    names = tuple(name for name in table.modalities if name in wanted)
    if not names or encoder.layers < 1:
        raise ValueError(
            f"pretraining: nothing to train: the catalogue has {', '.join(table.modalities) or 'no content'}, "
            f"the settings ask for {', '.join(wanted)}, "
            f"and the encoders have {encoder.layers} Transformer blocks (at least 1 is needed)"
        )
    tf.keras.utils.set_random_seed(config.seed)
    tower = ItemTower(table, [], [], RetrievalConfig(modalities=names, use_attributes=False, encoder=encoder))
    tower.prepare(table, np.unique(np.concatenate([_some_with(name, table) for name in names])))
    uses_codebook = config.audio == "codebook" and "audio" in names
    trained = [modality for modality in tower.modalities if not (uses_codebook and modality.name == "audio")]
    report = pretrain(trained, table, encoder, config, log_dir)
    encoders: dict[str, tf.keras.layers.Layer] = {modality.name: modality.encoder for modality in trained}
    if uses_codebook:
        encoders[CODEBOOK], report["audio"] = learn_codebook(table, config.seed)
    return encoders, report


def _some_with(modality: str, table: ItemTable) -> np.ndarray:
    """At most _SCALED_ON rows of items that have a modality, evenly spaced: however rare it is, it is measured."""
    rows = np.flatnonzero(table.arrays[f"has_{modality}"])
    return rows[np.linspace(0, len(rows) - 1, min(len(rows), _SCALED_ON)).astype(int)]
