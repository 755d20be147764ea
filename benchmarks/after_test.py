"""Events after the test as the judge: the model trained again on everything, and the list of new people.

The last tenth of the events is no part of any table: models and lists are made from the rest, split as configured, and
asked at the time of each person's first event of the tenth. `refit` takes the transformed items of finished runs
(`./zhiyin demo`, `./zhiyin run --config configs/movielens_100k.yaml`) and their settings, but for a small content: the
demo's on text and tags for a few epochs, MovieLens-100K's by the linear map alone. `new_people` takes everybody who has
something to find for somebody new.
Cost on two cores: a few minutes.
"""

from __future__ import annotations

import dataclasses
import logging
import tempfile
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.cold_demo import newest
from benchmarks.goals import check_cases
from benchmarks.quality.bench import row_of
from components.events.splits import SPLITS
from components.settings import to_json
from pipeline import config as configuration

if TYPE_CHECKING:
    from components.datasets.interactions import Interactions
    from components.events.interactions import Event

METRIC = "NDCG@10"
HELD_OUT = 0.1  # of the events, the last
LATER = "later"  # what is held out, after all that is known as history
CONFIGS = {"demo": "configs/demo.yaml", "ML100K": "configs/movielens_100k.yaml"}
SMALL: dict[str, dict[str, Any]] = {
    "demo": {"modalities": ("text", "tags"), "content_epochs": 4},
    "ML100K": {"content_epochs": 0},
}
SECOND_WORLD_SEED = 1  # of the demo's world, without media
NOT_AGAIN, RECENT = "ours, not trained again", "recent popularity"
CASES = ("refit", "new_people")
GOALS: list[dict[str, Any]] = [
    *({"case": f"refit {name}", "metric": METRIC, "at_least": 1.0, "of": NOT_AGAIN} for name in CONFIGS),
    *(
        {"case": f"new_people {name}", "metric": METRIC, "at_least": 1.0, "of": "random"}
        for name in (*CONFIGS, "demo, second world")
    ),
]


def run(data_dir: Path | None, cases: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Rows of the two questions, on each data set. data_dir: ignored. Raises SettingsError where no run is finished."""
    check_cases((case.partition(" ")[0] for case in cases), CASES)
    rows = []
    for case in cases or CASES:
        rows += refit_rows() if case == "refit" else new_people_rows()
    return rows


@dataclass(frozen=True)
class HeldOut:
    """The sequences of a data set without its last events, and these as a split of their own after the others."""

    data: Any  # DataConfig
    folder: Path  # Split-<name>/ of SPLITS and LATER

    @classmethod
    def of(cls, config: configuration.Config, folder: Path) -> HeldOut:
        """Splits the accepted rows of the configured events; those that the rules do not name or the catalogue lacks
        are left out, as in a run.
        """
        from components.events.sequences import user_sequences
        from components.events.splits import NEVER, Cuts, quantile_cuts
        from pipeline.table_rows import accepted_rows

        data = config.data
        items = {row["item_id"] for row in accepted_rows(data, "catalogue")}
        events = _events_by_user(data, items)
        times_s = np.sort([event.time_s for of_user in events.values() for event in of_user])
        until_s = int(times_s[int(len(times_s) * (1 - HELD_OUT))])
        known_times, counts = np.unique(times_s[times_s < until_s], return_counts=True)
        cuts = quantile_cuts(list(zip(known_times.tolist(), counts.tolist())), data.split)
        sequences: dict[str, list[bytes]] = {name: [] for name in (*SPLITS, LATER)}
        for user_id, of_user in sorted(events.items()):
            known = [event for event in of_user if event.time_s is not None and event.time_s < until_s]
            for sequence in user_sequences(user_id, known, data.event_rules, data.split, cuts):
                sequences[sequence.split].append(_record(sequence))
            for sequence in user_sequences(user_id, of_user, data.event_rules, data.split, Cuts(until_s, NEVER)):
                if sequence.split == "eval":
                    sequences[LATER].append(_record(sequence))
        for name, records in sequences.items():
            _write(folder / f"Split-{name}" / "part.gz", records)
        return cls(data, folder)

    def read(self, item_ids: Sequence[str]) -> dict[str, Interactions]:
        """The splits and LATER."""
        from components.datasets.interactions import read_interactions

        kinds = tuple(self.data.event_rules)
        return {name: read_interactions(self.files[name], item_ids, kinds) for name in (*SPLITS, LATER)}

    @property
    def files(self) -> dict[str, str]:
        """The folder of each split."""
        return {name: str(self.folder / f"Split-{name}") for name in (*SPLITS, LATER)}


def refit_rows() -> list[dict[str, Any]]:
    """The judged model, the same trained again, and recent popularity, asked about the last tenth."""
    rows = []
    for name, path in CONFIGS.items():
        loaded = configuration.localised(configuration.load(Path(path)))
        config = dataclasses.replace(loaded, retrieval=dataclasses.replace(loaded.retrieval, **SMALL[name]))
        with tempfile.TemporaryDirectory() as folder:
            values = _refit_values(config, Path(folder))
        rows += _rows_of(f"refit {name}", METRIC, values)
    return rows


def _refit_values(config: configuration.Config, folder: Path) -> dict[str, np.ndarray]:
    """Contender -> NDCG@10 of each user that has something to find."""
    from serving.offline.encoding import encode_items
    from trainer.keras import tf
    from trainer.retrieval.refit import refit
    from trainer.retrieval.run import Arguments, run_fn

    artifacts = config.work_path / "artifacts"
    items = str(newest(artifacts / "MediaFeatures" / "examples") / "Split-train")
    held_out = HeldOut.of(config, folder / "sequences")
    fn_args = types.SimpleNamespace(
        train_files=[held_out.files["train"]],
        eval_files=[held_out.files["eval"]],
        transform_graph_path=str(newest(artifacts / "ItemTransform" / "transform_graph")),
        serving_model_dir=str(folder / "judged"),
        model_run_dir=str(folder / "log"),
        hyperparameters=None,
        custom_config={
            "items": str(newest(artifacts / "ItemTransform" / "transformed_examples") / "Split-train"),
            "item_examples": items,
            "data": to_json(config.data),
            "retrieval": to_json(config.retrieval),
            "engine": to_json(config.engine.training),
            "checkpoints": str(folder / "checkpoints"),
        },
    )
    run_fn(fn_args)
    arguments = dataclasses.replace(Arguments.of(fn_args), model_dir=str(folder / "refitted"))
    refitted_ids, views = refit(arguments, held_out.files, fn_args.serving_model_dir)
    item_ids = sorted(refitted_ids)
    judged = tf.saved_model.load(fn_args.serving_model_dir)
    vectors = {
        "ours": views["vector"][[refitted_ids.index(item_id) for item_id in item_ids]],
        NOT_AGAIN: encode_items(judged.signatures["encode_item"], items, item_ids),
    }
    models = {"ours": arguments.model_dir, NOT_AGAIN: fn_args.serving_model_dir}
    return _asked_later(held_out, items, item_ids, {name: (models[name], vectors[name]) for name in models})


def _asked_later(
    held_out: HeldOut, items: str, item_ids: Sequence[str], models: Mapping[str, tuple[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """Full ranking of the catalogue as it is when each user asks."""
    import tensorflow as tf

    from components.datasets.interactions import latest
    from components.datasets.items import available_from_s, read_item_metadata
    from serving.offline.evaluation import RetrievalMethod, TestSet
    from serving.online.cold_start import cold_start_scores
    from trainer.evaluation.baselines import recent_popularity

    splits = held_out.read(item_ids)
    later = splits.pop(LATER)
    metadata = read_item_metadata(items, item_ids)
    questions = TestSet.of(later, available_from_s(metadata, held_out.data, [*splits.values(), later]))
    known = latest(list(splits.values()))
    recent = recent_popularity(known.items[known.positives], known.times_s[known.positives], len(item_ids))
    method = RetrievalMethod(later, held_out.data.history_length, cold_start_scores(recent, metadata.published_at_s))
    scores = {name: method.scores(tf.saved_model.load(path), vectors) for name, (path, vectors) in models.items()}
    scores[RECENT] = lambda rows: np.tile(recent, (len(rows), 1))
    return {name: _values(score, questions) for name, score in scores.items()}


def _values(score: Any, questions: Any) -> np.ndarray:
    """NDCG@10 of each user of a TestSet that has something to find."""
    from trainer.evaluation import metrics

    found = metrics.evaluate(
        score, questions.truth, questions.seen, (10,), questions.exists, unavailable=questions.unavailable
    )
    return found.values[METRIC]


def new_people_rows() -> list[dict[str, Any]]:
    """The list of new people as it is served, beside recent and whole popularity and random, on both made worlds and
    MovieLens-100K.
    """
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, config in _worlds(Path(folder)):
            rows += _rows_of(f"new_people {name}", METRIC, _new_people_values(config, Path(folder) / name))
    return rows


def _worlds(folder: Path) -> Iterator[tuple[str, configuration.Config]]:
    from pipeline.sources.demo.dataset import write_demo
    from pipeline.sources.demo.world import DemoConfig

    for name, path in CONFIGS.items():
        yield name, configuration.localised(configuration.load(Path(path)))
    write_demo(folder / "second", DemoConfig(seed=SECOND_WORLD_SEED, media=False))
    config = configuration.load(Path(CONFIGS["demo"]))
    tables = {
        name: dataclasses.replace(getattr(config.data, name), path=str(folder / "second" / f"{name}.csv"))
        for name in ("catalogue", "events")
    }
    yield "demo, second world", dataclasses.replace(config, data=dataclasses.replace(config.data, **tables))


def _new_people_values(config: configuration.Config, folder: Path) -> dict[str, np.ndarray]:
    """Contender -> NDCG@10 of each user with something to find, all of whom are taken as new."""
    from components.datasets.interactions import latest
    from components.datasets.items import ItemMetadata, available_from_s
    from pipeline.table_rows import accepted_rows
    from serving.offline.evaluation import TestSet
    from serving.online.cold_start import cold_start_scores
    from trainer.evaluation.baselines import Random, recent_popularity
    from trainer.evaluation.metrics import ScoreBlock

    held_out = HeldOut.of(config, folder)
    rows = sorted(accepted_rows(config.data, "catalogue"), key=lambda row: row["item_id"])
    item_ids, nothing = [row["item_id"] for row in rows], np.zeros(len(rows), object)
    published = np.array([row.get("published_at", np.nan) for row in rows], np.float64)
    metadata = ItemMetadata(nothing, nothing, nothing[:, None], np.zeros((len(rows), 1)), published)
    splits = held_out.read(item_ids)
    later = splits.pop(LATER)
    questions = TestSet.of(later, available_from_s(metadata, config.data, [*splits.values(), later]))
    known = latest(list(splits.values()))
    items, times_s = known.items[known.positives], known.times_s[known.positives]
    recent = recent_popularity(items, times_s, len(rows))
    orders = {
        "ours": cold_start_scores(recent, published),
        RECENT: recent,
        "popularity": np.bincount(items, minlength=len(rows)).astype(float),
    }
    scores: dict[str, ScoreBlock] = {name: partial(_same_for_all, order) for name, order in orders.items()}
    scores["random"] = lambda users: Random().scores(questions.seen[users])
    return {name: _values(score, questions) for name, score in scores.items()}


def _same_for_all(order: np.ndarray, users: np.ndarray) -> np.ndarray:
    """Scores of items, a row for each user."""
    return np.tile(order, (len(users), 1))


def _rows_of(case: str, metric: str, values: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """A row for each contender with its interval over users, and for what ours adds to each of the same users."""
    from trainer.evaluation import metrics

    rows = []
    for name, array in values.items():
        interval = metrics.bootstrap(array)
        rows.append(row_of(case, name, metric, interval.value, 1, interval.low, interval.high))
        if name != "ours" and len(array) == len(values["ours"]):
            gain = metrics.paired_bootstrap(values["ours"], array)
            rows.append(row_of(case, f"ours minus {name}", metric, gain.value, 1, gain.low, gain.high))
    logging.info("%s: %s", case, {name: round(float(array.mean()), 4) for name, array in values.items()})
    return rows


def _events_by_user(data: Any, item_ids: set[str]) -> dict[str, list[Event]]:
    from components.events.interactions import Event
    from pipeline.table_rows import accepted_rows

    events: dict[str, list[Event]] = {}
    for row in accepted_rows(data, "events"):
        kind = row.get("event", "play")
        if row["item_id"] in item_ids and kind in data.event_rules:
            event = Event(row["item_id"], kind, row.get("value"), row["timestamp"])
            events.setdefault(row["user_id"], []).append(event)
    return events


def _record(sequence: Any) -> bytes:
    from components.events.sequences import sequence_example

    return sequence_example(sequence).SerializeToString(deterministic=True)


def _write(path: Path, records: Sequence[bytes]) -> None:
    import tensorflow as tf

    path.parent.mkdir(parents=True)
    with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
        for record in records:
            writer.write(record)
