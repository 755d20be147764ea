"""Where people take what chance gives, no example tells taken from not taken, and no ranker is better than chance.

Everything is real but the retrieval model, whose vectors are as random as the events.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf

from components.config import DataConfig, TableConfig
from components.settings import to_json
from pipeline.ranking_evaluation import CHANCE
from pipeline.ranking_metrics import AUC, AUC_LOWER_END, auc_with_error, binary_metrics
from serving.offline.ranking_examples import write_ranking_examples
from tests.serving import tiny, world
from trainer.config.ranking import RankingConfig
from trainer.ranking.deepfm import DeepFM
from trainer.ranking.features import PAIR_NUMBERS, read_examples
from trainer.ranking.run import build_ranker

DATA = DataConfig(TableConfig(""), TableConfig(""))
CONFIG = RankingConfig(max_train_examples=5000, epochs=3, batch_size=256, learning_rate=3e-3)
PLAY = list(DATA.event_rules).index("play")
SPLITS = ("train", "eval", "test")
NUM_PEOPLE, LIST_LENGTH = 120, 40
NOISE = 4.0  # standard errors: chance goes beyond once in 16,000 features


class Chance(NamedTuple):
    """A world in which each person takes so many items, drawn evenly."""

    num_items: int
    num_taken: int
    is_timed: bool = True
    undated_items: str = "always"


WORLDS = {
    "most items are beyond the list": Chance(200, 15),
    "most is taken again": Chance(50, 45),
    "nothing has a time": Chance(200, 15, is_timed=False),
    "items come with their first event": Chance(1000, 20, undated_items="from_first_event"),
}


def sequences(chance):
    """split -> the people's sequences: three fifths to train on, a fifth each to stop and to judge by."""
    random, splits = np.random.default_rng(0), {split: [] for split in SPLITS}
    bounds = [0, *(chance.num_taken * part // 5 for part in (3, 4, 5))]
    for person in range(NUM_PEOPLE):
        steps = random.integers(1, chance.num_items, chance.num_taken)  # to another item: twice in a row is one visit
        items = [f"i{item:04}" for item in np.cumsum(steps) % chance.num_items]
        times_s = np.sort(random.integers(0, 10**7, chance.num_taken)) + 1_700_000_000
        for split, start, stop in zip(SPLITS, bounds, bounds[1:]):
            splits[split].append(
                {
                    "user_id": [f"u{person:03}"],
                    "item_ids": items[:stop],
                    "events": ["play"] * stop,
                    "timestamps_s": [int(time_s) for time_s in times_s[:stop]] if chance.is_timed else [],
                    "values": [float("nan")] * stop,
                    "weights": [1.0] * stop,
                    "positives": [1] * stop,
                    "num_history": [start],
                    "ordered": [1],
                }
            )
    return splits


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    """Makes the examples of a world: split -> RankingExamples."""
    model = tiny.save_model(tmp_path_factory.mktemp("model"))

    def make(chance):
        folder = tmp_path_factory.mktemp("chance")
        item_ids = [f"i{item:04}" for item in range(chance.num_items)]
        (folder / "index").mkdir()
        np.save(folder / "index" / "vectors.npy", tiny.vectors_of(chance.num_items))
        (folder / "index" / "item_ids.json").write_text(json.dumps(item_ids))
        (folder / "index" / "report.json").write_text(json.dumps({"kind": "exact", "parameters": {}}))
        taken = world.examples(folder / "sequences", sequences(chance))
        items = world.examples(folder / "items", {"train": [{"item_id": [item_id]} for item_id in item_ids]})
        write_ranking_examples(
            model, str(folder / "index"), {split: f"{taken.uri}/Split-{split}" for split in SPLITS},
            f"{items.uri}/Split-train", {split: str(folder / split) for split in SPLITS},
            to_json(replace(DATA, undated_items=chance.undated_items)), to_json(CONFIG), LIST_LENGTH,
        )  # fmt: skip
        return {split: read_examples([str(file) for file in Path(folder / split).glob("*")], DATA) for split in SPLITS}

    return make


@pytest.mark.parametrize("name", WORLDS)
def test_no_feature_tells_what_is_taken(examples, name):
    """The AUC of each number by itself is .5 within noise, where retrieval knows the targets and where it does not."""
    for split, (features, labels, _) in examples(WORLDS[name]).items():
        numbers = {name: features[name] for name in (*PAIR_NUMBERS, "popularity", "position")}
        numbers["towers"] = (features["user_vector"] * features["item_vector"]).sum(1)
        assert labels[:, PLAY].sum() > 20, split
        for feature, values in numbers.items():
            area, error = auc_with_error(labels[:, PLAY], values.astype(float))
            assert abs(area - CHANCE) < NOISE * error + 1e-9, (split, feature, area, error)


def test_a_ranker_is_no_better_than_chance_and_not_blessed(examples):
    """In the world in which most targets are beyond the list: there .86 was reached by that alone."""
    made = examples(WORLDS["most items are beyond the list"])
    ranker = build_ranker(DeepFM, made["train"], made["eval"], DATA, CONFIG)
    features, labels, _ = made["test"]
    told = ranker.probabilities({name: tf.constant(values) for name, values in features.items()}).numpy()[:, PLAY]
    area, error = auc_with_error(labels[:, PLAY], told.astype(float))
    assert abs(area - CHANCE) < NOISE * error < 0.1
    judged = binary_metrics(labels[:, PLAY], told)
    assert judged[AUC] < CONFIG.min_auc and judged[AUC_LOWER_END] < CHANCE
