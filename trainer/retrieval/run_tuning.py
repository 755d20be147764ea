"""The entry point of hyperparameter tuning: sequences and item ids -> better settings of the retrieval model."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path

from components.config import DataConfig
from components.datasets.interactions import read_interactions
from components.settings import to_json
from trainer.checkpoints import fingerprint
from trainer.config.engine import EngineConfig
from trainer.config.retrieval import RetrievalConfig
from trainer.config.tuning import TuningConfig
from trainer.data import ItemTable
from trainer.keras import tf
from trainer.retrieval.run import build
from trainer.retrieval.train import fit_interactions
from trainer.retrieval.tuning import Tuned, tune
from trainer.strategy import strategy_for


@dataclasses.dataclass(frozen=True)
class TuningRequest:
    """What a search takes: its inputs, where it is kept, and its settings."""

    train_files: Sequence[str]  # patterns of sequence examples
    eval_files: Sequence[str]
    items: str  # pattern or folder of transformed item examples, of which the ids are read
    item_examples: str  # likewise of those that are not transformed, of which the dates are read; none where empty
    folder: str  # keeps the search, where a killed one and one for more trials go on; none where empty
    code: str  # fingerprint of the code, which a search must not outlive
    data: DataConfig
    retrieval: RetrievalConfig  # where the search starts
    tuning: TuningConfig
    engine: EngineConfig


def tune_retrieval(request: TuningRequest) -> Tuned:
    """Searches the settings with the best validation metric on the eval split.

    A trial trains on interactions alone: the content encoders are fitted to the result.
    Raises ValueError where the eval split has no users.
    """
    data = request.data
    with tempfile.TemporaryDirectory() as place, strategy_for(request.engine).scope():
        table = ItemTable.of_ids(request.items)
        events = tuple(data.event_rules)
        train_split, eval_split = (
            read_interactions(files, table.item_ids, events, Path(place, split))
            for split, files in (("train", request.train_files), ("eval", request.eval_files))
        )
        if request.item_examples:
            table.date(request.item_examples, data, (train_split, eval_split))
        if not len(eval_split):
            raise ValueError("the eval split has no users to judge by; see data.split")

        def best_value(tried: RetrievalConfig, callbacks: Sequence[tf.keras.callbacks.Callback]) -> float:
            bare = dataclasses.replace(tried, modalities=(), use_attributes=False)
            model = build(table, train_split, data, bare)
            history = fit_interactions(model, train_split, eval_split, table, callbacks=callbacks)
            return max(history.history[f"val_{tried.metric}"])

        return tune(best_value, request.retrieval, request.tuning, _storage(request))


def _storage(request: TuningRequest) -> str | None:
    """The file of the search: equal inputs, settings, space and code find each other's."""
    if not request.folder:
        return None
    Path(request.folder).mkdir(parents=True, exist_ok=True)
    name = fingerprint(
        [*request.train_files, *request.eval_files, request.items, request.item_examples],
        to_json(request.data),
        to_json(request.retrieval),
        dataclasses.asdict(request.tuning)["space"],
        request.code,
    )
    return f"{request.folder}/{name}.sqlite"
