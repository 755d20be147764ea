"""The node that trains a judged model again: whom it leaves alone, and what it does not let through."""

from pathlib import Path

import numpy as np
import pytest
from tfx.components.evaluator import constants
from tfx.types import artifact_utils, standard_artifacts
from tfx.utils import path_utils

import zhiyin_artifacts
from components.config import DataConfig, TableConfig
from components.pretrained_config import Encoders
from components.settings import to_json
from pipeline.nodes.retrieval_refit import RetrievalRefit
from pipeline.run_history import REFIT_FILE
from serving.config import EvaluationConfig, ServingConfig
from serving.index import ExactIndex, load_index, save_index
from serving.offline.evaluation import JudgedModel
from serving.offline.refit import RefitCheck, check_refitted
from tests.serving import world
from trainer.config.engine import EngineConfig

DATA = DataConfig(TableConfig(""), TableConfig(""), history_length=5)
EVALUATION = EvaluationConfig(cutoffs=(5, 10), min_gain_over_popularity=0.0, max_loss_to_last=0.01)


def vectors_of(model) -> np.ndarray:
    return model.vector(world.content()).numpy()


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """A good model with its index, and what it is judged on, as artifacts."""
    folder = tmp_path_factory.mktemp("judged")
    index = world.artifact(zhiyin_artifacts.ItemIndex, folder / "index")
    save_index(ExactIndex(vectors_of(world.GoodModel())), index.uri, world.ITEM_IDS, {})
    return {
        "model": world.save_model(world.GoodModel(), folder / "good"),
        "index": index,
        "item_examples": world.items(folder / "items"),
        "items": world.transformed(folder / "transformed"),
        "sequences": world.sequences(folder / "sequences"),
    }


def test_a_model_that_is_not_blessed_goes_through_as_it_is(judged, tmp_path):
    blessing = world.artifact(standard_artifacts.ModelBlessing, tmp_path / "blessing")
    blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_BLESSED_KEY, 0)
    Path(blessing.uri, constants.NOT_BLESSED_FILE_NAME).touch()
    model = world.artifact(standard_artifacts.Model, tmp_path / "model")
    index = world.artifact(zhiyin_artifacts.ItemIndex, tmp_path / "index")
    RetrievalRefit.test_call(
        **judged,
        blessing=blessing,
        transform_graph=world.artifact(standard_artifacts.TransformGraph, tmp_path / "graph"),
        served_model=model,
        served_index=index,
        data=to_json(DATA),
        engine=to_json(EngineConfig()),
        serving=to_json(ServingConfig()),
        evaluation=to_json(EVALUATION),
        encoders=to_json(Encoders()),
        code="",
    )
    account = Path(model.uri, REFIT_FILE)
    assert account.read_text() == "not trained again, since it is not blessed"
    account.unlink()
    for before, after in ((judged["model"], model), (judged["index"], index)):
        files = {path.relative_to(before.uri): path.read_bytes() for path in _files(before.uri)}
        assert files == {path.relative_to(after.uri): path.read_bytes() for path in _files(after.uri)}
    assert load_index(index.uri)[1] == world.ITEM_IDS


def _files(folder: str) -> list[Path]:
    return [path for path in Path(folder).rglob("*") if path.is_file()]


def check(judged, kind, folder, vectors=None) -> RefitCheck:
    """What is found of a refitted model of some kind."""
    splits = {split: artifact_utils.get_split_uri([judged["sequences"]], split) for split in ("train", "eval", "test")}
    known = JudgedModel(
        path_utils.serving_model_path(judged["model"].uri),
        judged["index"].uri,
        splits,
        artifact_utils.get_split_uri([judged["item_examples"]], "train"),
    )
    by_id = dict(zip(world.ITEM_IDS, vectors_of(kind) if vectors is None else vectors))
    model = path_utils.serving_model_path(world.save_model(kind, folder).uri)
    return check_refitted(known, model, by_id, EVALUATION, DATA)


def test_a_refitted_model_that_finds_as_much_is_served_and_one_that_finds_less_is_not(judged, tmp_path):
    same, worse = (
        check(judged, kind, tmp_path / type(kind).__name__) for kind in (world.GoodModel(), world.BadModel())
    )
    assert same.refitted == same.judged > 0.5 and same.holds
    assert worse.refitted < worse.judged == same.judged and not worse.holds
    assert same.account.startswith("judged on a model trained on events to 1970-01-01; served: the same trained again")
    assert worse.account.startswith("judged and served: the model trained on events to 1970-01-01")
    assert f"{worse.refitted:.4f} after, {worse.judged:.4f} before" in worse.account


def test_vectors_that_are_not_finite_are_named(judged, tmp_path):
    vectors = vectors_of(world.GoodModel())
    vectors[3, 1] = np.inf
    with pytest.raises(ValueError, match=f"1 item vectors are not finite: {world.ITEM_IDS[3]}"):
        check(judged, world.GoodModel(), tmp_path, vectors)
