"""A judged model trained again on everything: what is kept of it, what it learns besides, and that both speak of one
space.
"""

import dataclasses
import types
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import ortho_group

from components.datasets.interactions import read_interactions
from components.settings import to_json
from trainer.data import ItemTable
from trainer.keras import tf
from trainer.retrieval.export import item_request, user_request
from trainer.retrieval.fitted import Fitted, read_fitted, read_measured
from trainer.retrieval.refit import refit, rotations_onto
from trainer.retrieval.run import Arguments, build, run_fn

WAYS = {
    "profile": {"user_tower": "profile", "loss": "profile_cosine"},
    "submodels": {"user_tower": "profile", "loss": "profile_cosine", "num_submodels": 2, "item_scale": True},
    "sequence": {"user_tower": "sequence", "loss": "full_softmax"},
}


@pytest.mark.parametrize("num_submodels", [1, 2])
def test_a_rotation_of_each_submodel_is_found_and_undone(num_submodels):
    random = np.random.default_rng(0)
    targets = random.normal(size=(20, 6))
    size = 6 // num_submodels
    turns = [ortho_group.rvs(size, random_state=seed) for seed in range(num_submodels)]
    vectors = np.concatenate([part @ turn for part, turn in zip(np.split(targets, num_submodels, 1), turns)], 1)
    found = rotations_onto(targets, vectors, num_submodels)
    back = np.concatenate([part @ turn for part, turn in zip(np.split(vectors, num_submodels, 1), found)], 1)
    np.testing.assert_allclose(back, targets, atol=1e-9)


def test_the_epochs_are_those_of_the_best_validation_and_all_without_one(tiny):
    logs = {"loss": [3, 2, 1], f"val_{tiny.CONFIG.metric}": [0.1, 0.3, 0.2]}
    assert Fitted.of(tiny.CONFIG, logs).epochs == 2
    assert Fitted.of(tiny.CONFIG, {"loss": [3, 2, 1]}).epochs == 3


@pytest.fixture(scope="module", params=WAYS)
def both(request, run_arguments, sequence_files, item_file, tiny, tmp_path_factory):
    """A model judged on items 0 to 9, and the same trained again with people who also took 10 and 11."""
    folder = tmp_path_factory.mktemp("models")
    config = dataclasses.replace(tiny.CONFIG, **WAYS[request.param], epochs=3, patience=3)
    without = tiny.write_records(folder / "train" / "part.gz", tiny.checkerboard_records(num_items=10))
    with_all = tiny.write_records(folder / "test" / "part.gz", tiny.checkerboard_records())
    arguments = run_arguments(folder, folder / "checkpoints", config) | {"train_files": [without], "eval_files": []}
    judged = str(folder / "judged")
    run_fn(types.SimpleNamespace(**arguments | {"serving_model_dir": judged}))
    args = Arguments.of(types.SimpleNamespace(**arguments | {"serving_model_dir": str(folder / "refitted")}))
    args = dataclasses.replace(args, retrieval=tiny.CONFIG)
    sequences = {"train": without, "eval": sequence_files["eval"], "test": with_all}
    ids, views = refit(args, sequences, judged)
    table = ItemTable.build(str(Path(item_file).parent), tiny.DATA, folder / "table")
    assert set(views) == {"vector", "content", "behaviour"} and not np.isnan(np.stack([*views.values()])).any()
    return judged, args.model_dir, dict(zip(ids, views["vector"])), table, config


@pytest.fixture(scope="module")
def served(both):
    """The signatures of both models, read back once."""
    return [tf.saved_model.load(folder).signatures for folder in both[:2]]


def test_the_settings_are_those_of_the_judged_model(both):
    judged, refitted, _, _, config = both
    assert to_json(read_fitted(refitted).retrieval) == to_json(config)
    assert read_fitted(refitted) == read_fitted(judged) and read_fitted(judged).epochs == 3


def test_what_was_measured_of_the_content_is_kept_and_not_measured_again(both, sequence_files, tiny):
    judged, refitted, _, table, config = both
    interactions = read_interactions([sequence_files["train"]], table.item_ids, tuple(tiny.DATA.event_rules))
    tower = build(table, interactions, tiny.DATA, config).item_tower
    kept = read_measured(judged)
    assert set(kept) == set(tower.measured) != set()
    for name, values in kept.items():
        np.testing.assert_allclose(values, table.arrays[name], rtol=1e-4, atol=1e-6)
    table.arrays |= kept
    tower.prepare(table, np.arange(10))
    assert all(table.arrays[name] is values for name, values in kept.items())
    assert read_measured(refitted) == {}, "who is not refitted again needs none"


def test_the_exported_towers_give_the_vectors_that_are_told_and_users_score_items_in_their_space(both, served, tiny):
    _, _, vectors, table, _ = both
    _, signatures = served
    items = item_request(table, np.arange(len(table)), tiny.DATA)
    encoded = signatures["item_tower"](**items)["vector"].numpy()
    np.testing.assert_allclose(encoded, np.stack([vectors[item.decode()] for item in table.item_ids]), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(encoded, axis=1), 1, atol=1e-5)
    history = encoded[[0, 2, 4, 6]]
    user = signatures["user_tower"](**user_request(history, ("play",)))["vector"].numpy()[:1]
    even, odd = (float((user @ encoded[start::2].T).mean()) for start in (0, 1))
    assert even > odd, "somebody who took even items is nearer to even ones"
    explained = signatures["explain_user"](
        **user_request(history, ("play",)), item_vectors=tf.repeat(tf.constant(encoded)[None], 2, 0)
    )
    total = explained["parts"].numpy()[0].sum(1) + explained["rest"].numpy()[0]
    np.testing.assert_allclose(total, (user @ encoded.T)[0], atol=2e-3)


def test_many_users_at_once_have_the_vectors_that_each_has_alone(both, served, tiny):
    """Also where a batch is split over several threads: there an einsum with an ellipsis lost half of the rows."""
    _, _, vectors, _, _ = both
    random, known = np.random.default_rng(0), np.stack([*vectors.values()])
    histories = known[random.integers(len(known), size=(300, 5))]
    kinds = random.choice([*tiny.DATA.event_rules], (300, 5))

    def users(rows):
        told = served[1]["user_tower"](
            user_id=tf.fill([len(rows)], "x"),
            history_vectors=tf.constant(histories[rows], tf.float32),
            history_events=tf.constant(kinds[rows]),
            history_age_s=tf.zeros([len(rows), 5]),
        )
        return told["vector"].numpy()

    alone = np.concatenate([users([row]) for row in range(0, 300, 15)])
    np.testing.assert_allclose(users(np.arange(300))[::15], alone, atol=1e-5)


def test_new_vectors_lie_where_the_judged_ones_do(both, served, tiny):
    """Nearer to their own old vectors than to others', in the dimensions as they stand."""
    _, _, vectors, table, _ = both
    judged, _ = served
    items = item_request(table, np.arange(10), tiny.DATA)
    before = judged["item_tower"](**items)["vector"].numpy()
    after = np.stack([vectors[table.item_ids[row].decode()] for row in range(10)])
    likeness = after @ before.T
    assert np.diag(likeness).mean() > likeness[~np.eye(10, dtype=bool)].mean() + 0.1
    assert np.diag(likeness).mean() > 0.7


def test_the_learned_similarity_is_kept(both, served):
    vectors = both[2]
    one = np.stack(list(vectors.values()))
    inputs = {"query": one[:2], "candidates": one[None, 2:5].repeat(2, 0), "history": one[None, 5:8].repeat(2, 0)}
    inputs = {name: tf.constant(value) for name, value in inputs.items()}
    old, new = (signatures["learned_similarity"](**inputs) for signatures in served)
    np.testing.assert_allclose(new["similarity"], old["similarity"], atol=1e-6)


def test_items_that_only_later_people_took_have_id_embeddings_now(both, tiny):
    """Ten items and the row of all others before, twelve and that row after."""
    judged, refitted, _, _, config = both
    dim = config.embedding_dim - config.item_scale * config.num_submodels
    files = [f"{folder}/variables/variables" for folder in (judged, refitted)]
    shapes = [[shape for _, shape in tf.train.list_variables(file)] for file in files]
    assert [11, dim] in shapes[0] and [13, dim] not in shapes[0]
    assert [13, dim] in shapes[1] and [11, dim] not in shapes[1]
