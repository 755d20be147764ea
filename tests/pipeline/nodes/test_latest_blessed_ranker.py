"""The ranker before: whose features, by name, are those of today's examples."""

from dataclasses import replace

import numpy as np
import pytest
from tfx.components.evaluator import constants
from tfx.types import standard_artifacts

from components.config import DEFAULT_EVENTS, DataConfig, TableConfig
from components.contract import Feature
from pipeline.nodes.latest_blessed_ranker import LatestBlessedRanker
from tests.serving import world
from trainer.config.ranking import RankingConfig
from trainer.ranking.deepfm import LogisticRegression
from trainer.ranking.features import Encoder, ranking_features
from trainer.ranking.run import Ranker, export

DATA = DataConfig(TableConfig(""), TableConfig(""), numeric=("year", "length"), categorical=("mood",))
OTHER_EVENTS = {"finish" if name == "complete" else name: rule for name, rule in DEFAULT_EVENTS.items()}
DIM, ROWS = 4, 3


def exported(folder, data: DataConfig, number: int):
    """The artifact of a ranker that has learned nothing."""
    features = {one.name: _some(one) for one in ranking_features(data, DIM)}
    encoder = Encoder(features, 1, list(data.event_rules), data.numeric)
    model = LogisticRegression(encoder, np.full(len(data.event_rules), 0.5), RankingConfig())
    artifact = world.artifact(standard_artifacts.Model, folder)
    artifact.id = number
    platt = np.repeat([[1.0], [0.0]], len(data.event_rules), 1).astype(np.float32)
    ranker = Ranker(encoder, model, platt, data, DIM)
    export(ranker, features, f"{artifact.uri}/Format-Serving")
    return artifact


def _some(feature: Feature) -> np.ndarray:
    shape = (ROWS, *feature.shape)
    return np.full(shape, b"a", object) if feature.dtype == "string" else np.ones(shape, feature.dtype)


def blessing_of(folder, model):
    blessing = world.artifact(standard_artifacts.ModelBlessing, folder)
    blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_BLESSED_KEY, 1)
    blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_CURRENT_MODEL_ID_KEY, model.id)
    return blessing


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, True),
        ({"event_rules": OTHER_EVENTS}, False),
        ({"categorical": ("genre",)}, False),
        ({"numeric": ("length", "year")}, False),
    ],
    ids=["the same", "another kind of event", "another category", "numbers in another order"],
)
def test_the_ranker_before_is_one_that_reads_the_same_by_name(tmp_path, changes, found):
    """With another name in the same place the numbers are as many and mean something else."""
    before = exported(tmp_path / "before", DATA, 1)
    current = exported(tmp_path / "current", replace(DATA, **changes), 2)
    blessing = blessing_of(tmp_path / "blessing", before)
    resolved = LatestBlessedRanker().resolve_artifacts(
        None, {"model": [before, current], "model_blessing": [blessing], "current": [current]}
    )
    assert resolved["model"] == [before] * found and resolved["model_blessing"] == [blessing] * found
    assert resolved["current"] == [current]
