"""The ranker before: whose features, by name, are those of today's examples."""

from dataclasses import replace

import pytest
from tfx.components.evaluator import constants
from tfx.types import standard_artifacts

from components.config import DEFAULT_EVENTS, DataConfig, TableConfig
from pipeline.nodes.latest_blessed_ranker import LatestBlessedRanker
from tests.serving import ranked, world

DATA = DataConfig(TableConfig(""), TableConfig(""), numeric=("year", "length"), categorical=("mood",))
OTHER_EVENTS = {"finish" if name == "complete" else name: rule for name, rule in DEFAULT_EVENTS.items()}
DIM = 4


def exported(folder, data: DataConfig, number: int):
    """The artifact of a ranker that has learned nothing."""
    artifact = world.artifact(standard_artifacts.Model, folder)
    artifact.id = number
    ranked.save_untaught(f"{artifact.uri}/Format-Serving", data, DIM)
    return artifact


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
