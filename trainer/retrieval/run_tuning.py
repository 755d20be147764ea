"""The function that the RetrievalTuner node names: sequences and item ids in, better settings of the retrieval model out."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from components import settings
from components.config import DataConfig
from components.datasets.interactions import read_interactions
from trainer.checkpoints import fingerprint
from trainer.config.engine import EngineConfig
from trainer.config.retrieval import RetrievalConfig
from trainer.config.tuning import TuningConfig
from trainer.data import ItemTable
from trainer.keras import tf
from trainer.retrieval.model import fit_behaviour
from trainer.retrieval.run import build
from trainer.retrieval.tuning import tune
from trainer.strategy import strategy_for


def tune_retrieval(
    train_files: Sequence[str], eval_files: Sequence[str], items: str, options: dict[str, str], folder: str, code: str
) -> dict[str, Any]:
    """Search the settings of `options["retrieval"]` for the best metric on the eval split.

    train_files, eval_files: patterns of sequence examples. items: pattern or folder of transformed item examples, of which the ids are
    read. options: `data`, `retrieval`, `tuning`, `engine` as JSON. folder: keeps the search, where a killed one and one for more trials
    go on; none where empty. code: what a search must not outlive.
    A trial trains on behaviour alone: content learns from it afterwards. Returns a `trainer.retrieval.tuning.Tuned` as plain values.
    Raises ValueError where there is nothing to judge by.
    """
    data = settings.from_json(DataConfig, options["data"])
    config = settings.from_json(RetrievalConfig, options["retrieval"])
    tuning = settings.from_json(TuningConfig, options["tuning"])
    strategy = strategy_for(settings.from_json(EngineConfig, options["engine"]))
    storage = None
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        name = fingerprint(
            [*train_files, *eval_files, items],
            options["data"],
            options["retrieval"],
            dataclasses.asdict(tuning)["space"],
            code,
        )
        storage = f"{folder}/{name}.sqlite"
    with tempfile.TemporaryDirectory() as place, strategy.scope():
        table = ItemTable.of_ids(items)
        events = tuple(data.event_rules)
        train_split, eval_split = (
            read_interactions(files, table.item_ids, events, Path(place, split))
            for split, files in (("train", train_files), ("eval", eval_files))
        )
        if not len(eval_split):
            raise ValueError("the eval split has no users to judge by; see data.split")

        def best_value(tried: RetrievalConfig, callbacks: Sequence[tf.keras.callbacks.Callback]) -> float:
            bare = dataclasses.replace(tried, modalities=(), use_attributes=False)
            model = build(table, train_split, data, bare)
            history = fit_behaviour(model, train_split, eval_split, table, callbacks=callbacks)
            return max(history.history[f"val_{tried.metric}"])

        return dataclasses.asdict(tune(best_value, config, tuning, storage))
