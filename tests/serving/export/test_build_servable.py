"""A servable with a ranker: the ranker tells what it reads by place, so the names have to be those of its training."""

from dataclasses import replace

import numpy as np
import pytest

from components.config import DataConfig, EventRule, TableConfig
from components.settings import SettingsError
from serving.config import IndexConfig, ServingConfig
from serving.export.build_servable import ServableParts, build_servables
from serving.index import ExactIndex, save_index
from tests.serving import ranked, tiny, world
from trainer.config.ranking import RankingConfig

KINDS = {"like": EventRule(3.0), "play": EventRule(1.0), "skip": EventRule(0.5, positive=False)}
OTHERS = {"dislike": EventRule(0.5, positive=False), "like": EventRule(3.0), "play": EventRule(1.0)}
DATA = DataConfig(
    TableConfig(""), TableConfig(""), event_rules=KINDS, categorical=("mood", "genre"), numeric=("year", "length")
)
SERVING = ServingConfig(IndexConfig(kind="exact", candidates=10, insert_capacity=2))


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parts")
    numbers = world.content()
    index = ExactIndex(numbers / np.linalg.norm(numbers, axis=1, keepdims=True))
    (folder / "index").mkdir()
    save_index(index, str(folder / "index"), world.ITEM_IDS, {})
    world.save_model(world.GoodModel(), folder / "retrieval")
    world.items(folder / "items")
    world.sequences(folder / "sequences")
    splits = {split: str(folder / "sequences" / f"Split-{split}") for split in ("train", "eval", "test")}
    ranker = ranked.save_untaught(folder / "ranker", DATA, tiny.DIM)
    return ServableParts(
        str(folder / "retrieval" / "Format-Serving"),
        str(folder / "index"),
        splits,
        str(folder / "items" / "Split-train"),
        ranker,
    )


def build(parts, folder, data):
    return build_servables(parts, f"{folder}/exact", f"{folder}/scann", SERVING, data, RankingConfig())


@pytest.mark.slow
def test_the_order_in_which_kinds_of_events_are_listed_is_nothing(parts, tmp_path):
    counts = build(parts, tmp_path, replace(DATA, event_rules=dict(reversed(KINDS.items()))))
    assert counts["ranked"] and counts["items"] == world.NUM_ITEMS


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"event_rules": OTHERS}, "event_rules: the ranker reads like, play, skip by .* has dislike, like, play;"),
        ({"event_rules": {"play": EventRule()}}, "event_rules: the ranker reads like, play, skip by .* has play;"),
        ({"categorical": ("genre", "mood")}, "categorical: the ranker reads mood, genre by .* has genre, mood;"),
        ({"numeric": ("length", "year")}, "numeric: the ranker reads year, length by .* has length, year;"),
        ({"numeric": ()}, "numeric: the ranker reads year, length by .* has none;"),
    ],
    ids=["another kind of event", "fewer kinds", "categories in another order", "numbers in another order", "none"],
)
def test_names_that_the_ranker_was_not_trained_with_are_refused(parts, tmp_path, changes, said):
    """With another name in the same place the shapes agree, and the probabilities would be taken for others."""
    with pytest.raises(SettingsError, match=f"data.{said}.*zhiyin run"):
        build(parts, tmp_path, replace(DATA, **changes))
