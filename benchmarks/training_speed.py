"""What encoders of the content cost to train: seconds and peak memory, with text weights from scratch, frozen and
tuned.

Reads the artifacts of finished runs (./zhiyin demo; ./zhiyin run --config configs/lastfm_2k.yaml). Each case has a
process of its own. What is timed is the content's fit to the items' vectors from behaviour: two epochs on four fifths
of the items, and on all of them as many as helped. `cpu seconds` says the same on a machine that has other work.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import resource
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cold_demo import kept, newest
from benchmarks.goals import row_of
from benchmarks.peak import peak_mb
from benchmarks.pretrained_weights import MINILM, weights
from benchmarks.stored import key_of
from components.pretrained_config import PretrainedConfig, TuneConfig
from pipeline import config as configuration

RUNS = {"demo": "configs/demo.yaml", "lastfm-2k": "configs/lastfm_2k.yaml"}
NAME = "training_speed"
READ = (  # artifacts of a run
    "ItemTransform/transform_graph",
    "ItemTransform/transformed_examples",
    "Interactions/sequences",
    "MediaFeatures/examples",
)
EPOCHS = 2
TOKENS = 32
WAYS = {
    "from scratch": None,
    "frozen": 0,
    "tuned, top block": 1,
    "tuned, all blocks": 99,
}  # blocks of MiniLM that learn
GOALS: list[dict[str, Any]] = []


def run(data_dir: Path | None) -> list[dict[str, Any]]:
    """Rows of each run and way. Raises SettingsError where a run or the weights are not there."""
    words, rows = weights(), []
    for case, path in RUNS.items():
        artifacts = configuration.localised(configuration.load(Path(path))).work_path / "artifacts"
        inputs = key_of(Path(path), words, *(newest(artifacts / part) for part in READ))
        for way in WAYS:
            found = kept(NAME, f"{case} {way}", inputs, lambda: _in_own_process(case, way))  # noqa: B023  (called at once)
            rows += [
                row_of(f"{case}, {way}", "ours", name, value) | {"commit": found.commit}
                for name, value in found.what.items()
            ]
    return rows


def _in_own_process(case: str, way: str) -> dict[str, float]:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measure, case, way).result()


def measure(case: str, way: str) -> dict[str, float]:
    """Seconds to encode the items once, to fit the content, the process's peak memory, and the error on items held out,
    of the linear map's."""
    from components.datasets.interactions import read_interactions
    from trainer.content.fit import fit_content
    from trainer.data import ItemTable, vocabulary_sizes
    from trainer.retrieval.run import build

    config = configuration.localised(configuration.load(Path(RUNS[case])))
    artifacts = config.work_path / "artifacts"
    sizes = vocabulary_sizes(str(newest(artifacts / "ItemTransform" / "transform_graph")), config.data)
    with tempfile.TemporaryDirectory() as folder:
        items = newest(artifacts / "ItemTransform" / "transformed_examples") / "Split-train"
        table = ItemTable.build(str(items), config.data, Path(folder), sizes)
        sequences = newest(artifacts / "Interactions" / "sequences")
        train_split = read_interactions([f"{sequences}/Split-train/*"], table.item_ids, tuple(config.data.event_rules))
        started, encoders = time.monotonic(), []
        blocks = WAYS[way]
        if blocks is not None:
            encoder = PretrainedConfig(
                "words", "text", os.environ[MINILM], 384, tune=TuneConfig(layers=blocks, tokens=TOKENS)
            )
            add_features(
                table,
                encoder,
                newest(artifacts / "MediaFeatures" / "examples") / "Split-train",
                with_pieces=blocks > 0,
            )
            encoders = [encoder]
        encoded = time.monotonic()
        settings = dataclasses.replace(
            config.retrieval, content_epochs=EPOCHS, content_patience=EPOCHS, content_min_items=0
        )
        tower = build(table, train_split, config.data, settings, encoder_configs=encoders).item_tower
        built, used = time.monotonic(), cpu_seconds()
        report = fit_content(tower, table, np.flatnonzero(table.arrays["id_row"]), settings)
    return {
        "seconds": time.monotonic() - built,
        "cpu seconds": cpu_seconds() - used,
        "seconds to encode once": encoded - started,
        "peak_mb": peak_mb(),
        "error with encoders": report.with_encoders / report.linear,
    }


def cpu_seconds() -> float:
    """Of this process, all threads, from its start."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def add_features(table: Any, encoder: PretrainedConfig, items: Path, with_pieces: bool) -> None:
    """What FrozenEncoders would have added to a table of items, from the run's item examples."""
    import tensorflow as tf

    from serving.offline.frozen_embeddings import with_text
    from trainer.encoders.frozen import load

    texts: dict[int, str] = {}
    for record in tf.data.TFRecordDataset([str(path) for path in sorted(items.glob("*"))], "GZIP").as_numpy_iterator():
        item_id = tf.train.Example.FromString(record).features.feature["item_id"].bytes_list.value[0]
        text = with_text(record, encoder.columns)[1]
        if text:
            texts[table.index[item_id]] = text
    encode, rows = load(encoder), np.array(sorted(texts))
    for start in range(0, len(rows), 32):
        part = rows[start : start + 32]
        for name, values in encode([texts[row] for row in part]).items():
            if name not in table.arrays:
                table.arrays[name] = np.zeros((len(table), *values.shape[1:]), values.dtype) - (
                    values.dtype.kind == "i"
                )
                table.arrays[f"has_{name}"] = np.zeros(len(table), np.int64)
            table.arrays[name][part], table.arrays[f"has_{name}"][part] = values, 1
    table.modalities += ("embedding_words", *(("pieces_words",) if with_pieces else ()))
