"""The search: it finds what is better, begins with what is configured, stops what falls behind, and goes on after a
kill.
"""

import dataclasses
import json
import types
from pathlib import Path

import pytest

from components import settings
from components.settings import SettingsError
from trainer.config.engine import EngineConfig
from trainer.config.retrieval import RetrievalConfig
from trainer.config.tuning import Range, TuningConfig, default_space
from trainer.retrieval.run import run_fn
from trainer.retrieval.run_tuning import TuningRequest, tune_retrieval
from trainer.retrieval.tuning import tune

CONFIG = RetrievalConfig(metric="NDCG@10", history_dropout=0.3, batch_size=100)
SPACE = {"history_dropout": Range(low=0.1, high=0.9), "batch_size": Range(choices=(50, 100))}


class Parabola:
    """A training whose value is best at a dropout of 0.7 and shows in its first epoch; counts how often it is asked."""

    def __init__(self, fail_at: int = -1):
        self.asked, self.epochs, self.fail_at = [], [], fail_at

    def __call__(self, config, callbacks):
        if len(self.asked) == self.fail_at:
            raise KeyboardInterrupt
        self.asked.append(config)
        self.epochs.append(0)
        value = 1 - (config.history_dropout - 0.7) ** 2
        for epoch in range(5):
            self.epochs[-1] += 1
            for callback in callbacks:
                callback.on_epoch_end(epoch, {"val_NDCG@10": value})
        return value


def test_it_begins_with_the_configured_settings_and_ends_nearer_to_the_best():
    train = Parabola()
    found = tune(train, CONFIG, TuningConfig(trials=15, space=SPACE))
    assert train.asked[0] == CONFIG and found.start_value == pytest.approx(1 - 0.4**2)
    assert found.value > 0.99 and abs(found.best["history_dropout"] - 0.7) < 0.1
    assert len(found.trials) == len(train.asked) == 15


def test_what_falls_behind_the_median_is_stopped_early():
    train = Parabola()
    found = tune(train, CONFIG, TuningConfig(trials=15, space=SPACE))
    assert set(train.epochs) == {3, 5}, "three epochs before anything is stopped, five to the end"
    stopped = [row for row in found.trials if row["state"] == "PRUNED"]
    assert stopped and all(row["number"] >= 4 for row in stopped)


def test_a_killed_search_goes_on_with_what_it_knows(tmp_path):
    """The sixth training is interrupted: its settings are tried again, the five before it are not."""
    storage = str(tmp_path / "search.sqlite")
    first, second = Parabola(fail_at=5), Parabola()
    with pytest.raises(KeyboardInterrupt):
        tune(first, CONFIG, TuningConfig(trials=8, space=SPACE), storage)
    found = tune(second, CONFIG, TuningConfig(trials=8, space=SPACE), storage)
    assert len(first.asked) == 5 and len(second.asked) == 3 and len(found.trials) == 8
    more = Parabola()
    assert len(tune(more, CONFIG, TuningConfig(trials=9, space=SPACE), storage).trials) == 9 and len(more.asked) == 1


def test_settings_that_end_the_search_twice_are_not_tried_a_third_time(tmp_path):
    """Those that are configured need more memory than there is."""
    storage, tuning = str(tmp_path / "search.sqlite"), TuningConfig(trials=4, space=SPACE)
    train = Parabola()

    def too_large(config, callbacks):
        if config == CONFIG:
            raise MemoryError
        return train(config, callbacks)

    for _ in range(2):
        with pytest.raises(MemoryError):
            tune(too_large, CONFIG, tuning, storage)
    found = tune(too_large, CONFIG, tuning, storage)
    assert len(found.trials) == len(train.asked) == 4 and found.start_value is None


def test_the_configured_settings_are_the_start_though_they_were_interrupted(tmp_path):
    storage, tuning = str(tmp_path / "search.sqlite"), TuningConfig(trials=3, space=SPACE)
    with pytest.raises(KeyboardInterrupt):
        tune(Parabola(fail_at=0), CONFIG, tuning, storage)
    assert tune(Parabola(), CONFIG, tuning, storage).start_value == pytest.approx(1 - 0.4**2)


def test_a_search_in_which_nobody_has_anything_to_find_ends():
    values = iter([float("nan")] * 3)
    with pytest.raises(ValueError, match="NDCG@10: no user of the eval split has an item to find"):
        tune(lambda config, callbacks: next(values), CONFIG, TuningConfig(trials=3, space=SPACE))


def test_seconds_end_a_search_but_never_its_first_trial():
    train = Parabola()
    found = tune(train, CONFIG, TuningConfig(trials=15, seconds=1e-6, space=SPACE))
    assert len(train.asked) == 1 and found.value == found.start_value


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"learning_rat": Range(low=0.1, high=1.0)}, "did you mean 'learning_rate'"),
        ({"history_dropout": Range(low=0.1, high=1.5)}, "history_dropout: got 1.5"),
        ({"content_epochs": Range(low=1, high=5)}, "content_epochs cannot be tuned"),
        ({"seed": Range(low=1, high=5)}, "seed cannot be tuned"),
        ({"tag_loss_weight": Range(low=0.1, high=1.0)}, "tag_loss_weight cannot be tuned"),
        ({"user_id_dropout": Range(low=0.1, high=0.5)}, "user_id_dropout cannot be tuned"),
        ({"embedding_dim": Range(choices=("many",))}, "embedding_dim: got 'many'"),
    ],
)
def test_a_space_that_cannot_be_is_refused_before_anything_runs(space, message):
    with pytest.raises(ValueError, match=message):
        TuningConfig(space=space).space_of(CONFIG)


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"low": 1.0},
        {"low": 2.0, "high": 1.0},
        {"low": 0.0, "high": 1.0, "log": True},
        {"low": 0.0, "high": 1.0, "choices": (1,)},
    ],
)
def test_a_range_is_two_numbers_or_choices(wrong):
    with pytest.raises(ValueError):
        Range(**wrong)


@pytest.mark.parametrize(
    "config", [RetrievalConfig(), RetrievalConfig(user_tower="sequence", loss="full_softmax"), CONFIG]
)
def test_the_default_space_fits_and_holds_the_configured_values(config):
    space = TuningConfig().space_of(config)
    assert space.keys() == default_space(config).keys()
    for name, found in space.items():
        assert (
            getattr(config, name) in found.choices
            if found.choices
            else found.low <= getattr(config, name) <= found.high
        )


def test_yaml_reads_as_a_space():
    text = {
        "trials": 5,
        "space": {"learning_rate": {"low": 0.001, "high": 0.1, "log": True}, "embedding_dim": {"choices": [8, 16]}},
    }
    tuning = settings.from_mapping(TuningConfig, text)
    assert (
        tuning.space["embedding_dim"].choices == (8, 16)
        and settings.from_json(TuningConfig, settings.to_json(tuning)) == tuning
    )
    with pytest.raises(SettingsError, match="space.learning_rate: got low"):
        settings.from_mapping(TuningConfig, {"space": {"learning_rate": {"low": 1.0, "high": 0.1}}})


def test_real_trainings_are_searched_and_the_trainer_takes_what_is_found(
    item_file, sequence_files, tiny, tmp_path, capsys
):
    """A rate of almost nothing against one that learns; the table has no features, and the next trainer reads the found
    settings.
    """
    config = dataclasses.replace(tiny.CONFIG, svd_init=False, metric="HR@1", epochs=6, patience=6, learning_rate=1e-6)
    tuning = TuningConfig(trials=4, space={"learning_rate": Range(choices=(0.05,))})
    items = str(Path(item_file).parent)
    request = TuningRequest(
        train_files=[sequence_files["train"]],
        eval_files=[sequence_files["eval"]],
        items=items,
        item_examples="",
        folder=str(tmp_path / "search"),
        code="code",
        data=tiny.DATA,
        retrieval=config,
        tuning=tuning,
        engine=EngineConfig(),
    )
    found = tune_retrieval(request)
    json.dumps(dataclasses.asdict(found))
    assert found.best == {"learning_rate": 0.05} and found.value > found.start_value
    assert capsys.readouterr().err.count("  trial ") == 4
    again = tune_retrieval(request)
    assert again == found and "  trial " not in capsys.readouterr().err

    custom_config = {
        "data": settings.to_json(tiny.DATA),
        "retrieval": settings.to_json(config),
        "engine": settings.to_json(EngineConfig()),
        "items": items,
        "checkpoints": str(tmp_path / "checkpoints"),
    }
    arguments = {
        "train_files": [sequence_files["train"]],
        "eval_files": [sequence_files["eval"]],
        "transform_graph_path": None,
    }
    places = {"serving_model_dir": str(tmp_path / "model"), "model_run_dir": str(tmp_path / "run")}
    with pytest.raises(SettingsError, match="did you mean 'learning_rate'"):
        run_fn(
            types.SimpleNamespace(
                **arguments, **places, custom_config=custom_config, hyperparameters={"learning_rat": 1}
            )
        )
