"""Content fitted to the id embeddings: the ridge in closed form, and what it does for cold items."""

import dataclasses

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from trainer.config.adversary import AdversaryConfig
from trainer.content.fit import fit_content
from trainer.data import ItemTable
from trainer.encoders.linear import LinearContent
from trainer.encoders.modality import Block
from trainer.encoders.ridge import PENALTIES, choose_ridge, fit_ridge
from trainer.retrieval.run import build


def test_the_map_is_the_ridge_regression_of_the_chosen_penalty(table, train_split, tiny):
    """Against scikit-learn on the same columns, whose intercept column is penalised like the others."""
    tower = build(table, train_split, tiny.DATA, tiny.CONFIG).item_tower
    rows = np.arange(len(table))
    features = table.take(rows, tower.inputs)
    targets = np.random.default_rng(0).normal(size=(len(rows), tiny.CONFIG.embedding_dim))
    tower.linear.solve(tower.linear.designs(features), targets)
    designs = [block.numpy().astype(np.float64) for block in tower.linear.design(features)]
    weights, penalty = choose_ridge(designs, targets)
    columns = np.concatenate([*(block * weight for block, weight in zip(designs, weights)), np.ones((len(rows), 1))], 1)
    expected = Ridge(penalty, fit_intercept=False).fit(columns, targets).predict(columns)
    np.testing.assert_allclose(tower.linear(features).numpy(), expected, atol=1e-3)


def test_the_search_finds_the_block_that_tells_something():
    """One block holds the answer, the other is noise of the same size: the noise loses its weight, and the penalty is
    one of the grid.
    """
    random = np.random.default_rng(1)
    telling, noise = random.normal(size=(60, 3)), random.normal(size=(60, 30))
    targets = telling @ random.normal(size=(3, 4))
    weights, penalty = choose_ridge([telling, noise], targets)
    assert weights[0] > 0 and weights[1] == 0 and penalty in PENALTIES


@pytest.mark.parametrize("seed", [48, 96])
def test_blocks_together_are_no_worse_than_the_best_of_them(seed):
    """Of items left out; four noisy views of the same, of which a search that begins with all alike alone loses the
    best one."""
    random = np.random.default_rng(seed)
    hidden = random.normal(size=(12 + seed % 3 * 8, 2))
    targets = hidden @ random.normal(size=(2, 3)) + 0.3 * random.normal(size=(len(hidden), 3))
    designs = [
        hidden @ random.normal(size=(2, 2)) * telling + random.normal(size=(len(hidden), 2)) * noise
        for telling, noise in zip((1, 1, 1, 0.2), random.uniform(0.2, 3, 4))
    ]
    errors = [
        ((fit_ridge(blocks, targets, True).left_out - targets) ** 2).mean() for blocks in (designs, *zip(designs))
    ]
    assert errors[0] <= min(errors[1:])


def test_the_left_out_error_is_that_of_fits_without_the_item():
    """The choice equals the one by explicit refits, item by item."""
    random = np.random.default_rng(2)
    block, targets = random.normal(size=(12, 4)), random.normal(size=(12, 2))
    design = np.concatenate([block, np.ones((12, 1))], 1)

    def error(penalty: float) -> float:
        squares = []
        for row in range(12):
            rest = np.arange(12) != row
            fitted = Ridge(penalty, fit_intercept=False).fit(design[rest], targets[rest]).predict(design[[row]])
            squares.append(((fitted - targets[row]) ** 2).mean())
        return float(np.mean(squares))

    weights, penalty = choose_ridge([block], targets)
    design[:, :-1] *= weights[0]
    assert penalty == min(PENALTIES, key=error)


def test_encoders_stay_out_where_the_catalogue_is_too_small(table, train_split, tiny):
    config = dataclasses.replace(tiny.CONFIG, content_epochs=3)
    tower = build(table, train_split, tiny.DATA, config).item_tower
    report = fit_content(tower, table, np.arange(len(table)), config)
    assert report.epochs == 0 and np.isnan(report.linear)
    assert report.decision.startswith(f"not trained, {len(table)} items")


def test_encoders_are_trained_no_further_where_the_map_leaves_nothing_to_them(table, train_split, tiny, monkeypatch):
    """The id embeddings are a linear map of the content, so no epoch of the trial can do better."""
    monkeypatch.setattr("trainer.content.fit._MIN_ITEMS", 1)
    monkeypatch.setattr("trainer.content.fit._solve", lambda *_: None)
    config = dataclasses.replace(
        tiny.CONFIG, content_epochs=3, content_min_items=0, content_patience=2, modalities=("tags",)
    )
    tower = build(table, train_split, tiny.DATA, config).item_tower
    rows = np.arange(len(table))
    tower.linear.kernel.assign(np.random.default_rng(5).normal(size=tower.linear.kernel.shape))
    exact = tower.linear(table.take(rows, tower.inputs)).numpy()
    monkeypatch.setattr(tower, "id_embeddings", lambda table, warm: exact[warm])
    before = [variable.numpy() for variable, _ in tower.content_rates]
    report = fit_content(tower, table, rows, config)
    assert report.epochs == 0 and report.with_encoders == report.linear == pytest.approx(0, abs=1e-9)
    assert report.decision == "not trained, 2 epochs did not lower the linear map's error on held-out items"
    for (variable, _), value in zip(tower.content_rates, before):
        np.testing.assert_array_equal(variable.numpy(), value)


def test_media_are_read_some_items_at_a_time(table, train_split, tiny, monkeypatch):
    """While scales are measured, vectors start, and what has a closed form is fitted, with an adversary too."""
    monkeypatch.setattr("trainer.encoders.audio._ITEMS_AT_ONCE", 5)
    for name in ("towers.item_tower._ENCODE_BATCH", "retrieval.content_init._AT_ONCE", "content.adversarial._BATCH"):
        monkeypatch.setattr(f"trainer.{name}", 5)
    taken, take = [], ItemTable.take

    def counted(self, indices, names=None):
        if {"audio_log_mel", "video_frames"} & set(names or self.arrays):
            taken.append(len(indices))
        return take(self, indices, names)

    monkeypatch.setattr(ItemTable, "take", counted)
    lean = dataclasses.replace(tiny.SMALL, layers=0, fusion_layers=0)
    config = dataclasses.replace(
        tiny.CONFIG, encoder=lean, content_epochs=0, adversary=AdversaryConfig(method="fgsm", audio=0.3)
    )
    tower = build(table, train_split, tiny.DATA, config).item_tower
    fit_content(tower, table, np.arange(len(table)), config)
    assert max(taken) == 5


@pytest.mark.parametrize("shrinkage, nearer", [(0.0, "id"), (1e6, "content")])
def test_shrinkage_moves_an_item_from_its_id_embedding_to_its_content(table, train_split, tiny, shrinkage, nearer):
    tower = build(table, train_split, tiny.DATA, tiny.CONFIG).item_tower
    fit_content(tower, table, np.arange(len(table)), tiny.CONFIG)
    tower.shrinkage.assign(shrinkage)
    ids = tower.id_embeddings(table, np.arange(len(table)))
    content = tower.content(table.take(np.arange(len(table)), tower.inputs))[0].numpy()
    np.testing.assert_allclose(tower.encode(table), {"id": ids, "content": content}[nearer], atol=1e-3)


def test_a_missing_modality_is_imputed_from_another():
    """Audio decides where an item belongs and video tells what the audio is like: items without audio are placed by
    their video.
    """
    random = np.random.default_rng(3)
    sound = random.normal(size=(80, 2))
    features = {
        "sound": sound.astype(np.float32),
        "picture": (sound @ [[1.0, 0.5], [-0.5, 1.0]]).astype(np.float32),
        "has_sound": np.repeat([1, 0], 40),
        "has_picture": np.ones(80, np.int64),
    }
    features["sound"] *= features["has_sound"][:, None]
    linear = LinearContent([Block(name, name, name, flag=f"has_{name}") for name in ("sound", "picture")], 2)
    linear.fit_scale(features)
    assert set(linear.imputed) == {"sound"}
    linear.solve(
        linear.designs(features), np.where(features["has_sound"][:, None] > 0, sound, 0.0)
    )  # says nothing of items without sound
    got = linear(features).numpy()[40:]
    assert np.corrcoef(got.ravel(), sound[40:].ravel())[0, 1] > 0.9
    np.testing.assert_allclose(linear.parts(features).numpy().sum(1), linear(features), atol=1e-5)


def test_of_an_embedding_the_direction_counts():
    features = {"given": np.array([[1.0, 2.0], [3.0, -1.0], [0.5, 0.5]], np.float32), "has_given": np.ones(3, np.int64)}
    linear = LinearContent([Block("given", "given", "given", flag="has_given", is_direction=True)], 2)
    linear.fit_scale(features)
    longer = features | {"given": features["given"] * 7}
    np.testing.assert_allclose(linear.design(features)[0], linear.design(longer)[0], atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(linear.design(features)[0][:, :-1], axis=1), 1, atol=1e-5)


def test_left_out_predictions_are_those_of_fits_without_the_item():
    """In both shapes, more items than columns and fewer."""
    random = np.random.default_rng(4)
    for columns in (3, 30):
        block, targets = random.normal(size=(14, columns)), random.normal(size=(14, 2))
        fit = fit_ridge([block], targets, with_left_out=True)
        design = np.concatenate([block * fit.weights[0], np.ones((14, 1))], 1)
        for row in (0, 9):
            rest = np.arange(14) != row
            expected = (
                Ridge(fit.penalty, fit_intercept=False).fit(design[rest], targets[rest]).predict(design[[row]])[0]
            )
            np.testing.assert_allclose(fit.left_out[row], expected, atol=1e-6)
        np.testing.assert_allclose(
            block @ fit.kernels[0] + fit.bias,
            Ridge(fit.penalty, fit_intercept=False).fit(design, targets).predict(design),
        )


def test_a_regression_some_rows_at_a_time_is_that_of_all_at_once(monkeypatch):
    random = np.random.default_rng(6)
    blocks, targets = (
        [random.normal(size=(40, size)).astype(np.float32) for size in (3, 5)],
        random.normal(size=(40, 2)),
    )
    whole = fit_ridge(blocks, targets, with_left_out=True)
    monkeypatch.setattr("trainer.encoders.ridge._ROWS_AT_ONCE", 7)
    parts = fit_ridge(blocks, targets, with_left_out=True)
    assert (parts.weights, parts.penalty) == (whole.weights, whole.penalty)
    for one, other in zip([*parts.kernels, parts.bias, parts.left_out], [*whole.kernels, whole.bias, whole.left_out]):
        np.testing.assert_allclose(one, other, atol=1e-10)


def test_ids_are_measured_as_the_columns_that_they_are(monkeypatch):
    """As the whole multi-hot matrix in numpy, though some items at a time: ids that repeat, rare ones beyond the
    columns, items without any."""
    monkeypatch.setattr("trainer.encoders.linear._ROWS_AT_ONCE", 7)
    monkeypatch.setattr("trainer.encoders.linear.MOST_IDS", 12)
    ids = np.random.default_rng(5).integers(0, 20, (50, 6)) * (np.arange(50) % 9 > 0)[:, None]
    whole = np.zeros((50, 20))
    np.put_along_axis(whole, ids, 1, 1)
    whole, there = whole[:, 1:12], ids.any(1)
    linear = LinearContent([Block("words", "words", "words", vocabulary_size=20)], 2)
    linear.fit_scale({"words": ids})
    scale = 1 / whole[there].std(0)
    np.testing.assert_allclose(linear.mean["words"], whole[there].mean(0), rtol=1e-6)
    np.testing.assert_allclose(linear.scale["words"], scale, rtol=1e-6)
    expected = (whole - whole[there].mean(0)) * scale / np.sqrt(11) * there[:, None]
    np.testing.assert_allclose(linear.design({"words": ids})[0][:, :-1], expected, atol=1e-6)
