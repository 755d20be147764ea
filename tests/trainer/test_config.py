"""Settings that were renamed are read under their old names."""

import dataclasses

from components.settings import from_mapping, with_new_names
from trainer.config.retrieval import RetrievalConfig

RENAMED = {
    "activity_power": ("user_weight_exponent", 0.5),
    "item_gain": ("item_scale", True),
    "sharpness": ("score_exponent", 2.0),
    "side_by_side": ("num_submodels", 2),
    "spectral_start": ("svd_init", False),
    "tag_objective": ("tag_loss_weight", 0.3),
}


def test_a_configuration_with_the_old_names_of_retrieval_is_the_one_with_the_new_and_says_each():
    old, notices = with_new_names({"retrieval": {name: value for name, (_, value) in RENAMED.items()}})
    assert from_mapping(RetrievalConfig, old["retrieval"]) == RetrievalConfig(**dict(RENAMED.values()))
    assert len(notices) == len(RENAMED)
    for name, (new, _) in RENAMED.items():
        assert sum(f"retrieval.{name} " in line and f"retrieval.{new};" in line for line in notices) == 1


def test_no_setting_has_one_of_the_old_names():
    assert not set(RENAMED) & {field.name for field in dataclasses.fields(RetrievalConfig)}
