"""Ours as a contender: the product's trainer on a stage's pairs finds what is withheld, with and without order and
content."""

import json

import numpy as np
import pytest
import scipy.sparse as sp

from benchmarks import ablations, quality
from benchmarks.quality import bench, loaders, neural, ours, stored
from benchmarks.quality.splits import Split, Stage, matrix
from components.datasets.interactions import window
from components.settings import from_mapping
from trainer.config.retrieval import RetrievalConfig

NUM_USERS, NUM_ITEMS = 24, 16
SMALL = {
    "embedding_dim": 8,
    "epochs": 12,
    "learning_rate": 0.02,
    "batch_size": 8,
    "use_attributes": False,
    "history_length": 8,
}


def checkerboard(missing, times=False):
    """Even people took all even items but one, odd people the odd ones; what is missing is to be found. With times:
    everybody goes round in the order of the items, and what is missing comes next.
    """
    users, items = np.array(
        [(user, item) for user in range(NUM_USERS) for item in range(NUM_ITEMS) if (user + item) % 2 == 0]
    ).T
    sought = items // 2 == (users + missing) % (NUM_ITEMS // 2)
    shape = (NUM_USERS, NUM_ITEMS)
    train, truth = matrix(users[~sought], items[~sought], shape), matrix(users[sought], items[sought], shape)
    steps = (items // 2 - users - missing - 1) % (NUM_ITEMS // 2)  # after the missing one
    when = matrix(users[~sought], items[~sought], shape, 1000.0 + steps[~sought]) if times else None
    return Stage(
        train,
        train,
        train,
        truth,
        np.ones(NUM_ITEMS, bool),
        when,
        np.full(NUM_USERS, 2000) if times else None,
        watch=truth,
    )


@pytest.mark.parametrize(
    ("way", "times"),
    [
        ({"item_scale": True, "num_submodels": 2}, False),
        ({"user_tower": "both", "loss": "full_softmax"}, True),
        ({"use_user_id": True}, False),
    ],
    ids=["profiles side by side", "both towers in order", "a vector for each user"],
)
def test_our_trainer_finds_the_missing_square(way, times):
    stage = checkerboard(1, times)
    scored = ours.score({}, (), "", stage, SMALL | way, seed=0)
    split = Split("checkerboard", stage, stage, ("R@1",))
    assert bench.per_user(split, stage, scored.scores)["R@1"].mean() >= 0.9
    assert scored.parameters >= (NUM_ITEMS + (NUM_USERS if "use_user_id" in way else 0)) * 8


def test_a_trace_tells_every_epoch_and_changes_nothing():
    stage = checkerboard(1)
    traced, plain = (ours.score({}, (), metric, stage, SMALL, seed=0) for metric in ("R@1", ""))
    seconds, epochs, values = zip(*traced.trace)
    assert epochs == tuple(range(1, 13))
    assert list(seconds) == sorted(seconds) and seconds[0] > 0
    assert values[-1] > 0.9
    assert plain.trace == ()
    assert np.array_equal(traced.scores, plain.scores)


def test_values_are_the_ratings_of_the_pairs():
    known, ratings = sp.csr_matrix([[1, 0, 1]]), sp.csr_matrix([[5.0, 0, 2.0]])
    times = sp.csr_matrix([[20.0, 0, 10.0]])
    assert ours.sequences(known, times, ratings=ratings).values.tolist() == [2, 5], "in the order of the times"
    assert np.isnan(ours.sequences(known, times).values).all()


def test_histories_are_in_the_order_of_their_times():
    known = sp.csr_matrix(np.array([[1, 1, 1], [0, 1, 0]]))
    times = sp.csr_matrix(np.array([[30.0, 10.0, 20.0], [0, 5.0, 0]]))
    read = ours.sequences(known, times, request_s=np.array([50, 5]))
    found = window(read, np.array([0, 1]), read.num_history, 100)
    assert found.items.tolist() == [[1, 2, 0], [1, -1, -1]]
    assert found.age_s.tolist() == [[40, 30, 20], [0, 0, 0]], "before the request"
    assert read.ordered.all()


def test_what_is_sought_follows_the_history():
    read = ours.sequences(sp.csr_matrix([[1, 0, 1]]), None, sp.csr_matrix([[0, 1, 0]]))
    assert (read.items.tolist(), read.num_history.tolist(), read.ordered.tolist()) == ([0, 2, 1], [2], [False])


def test_tags_become_ids_by_use():
    table = ours.item_table(3, {}, (("rock", "live"), ("rock",), ()))
    assert table.arrays["tag_ids"][:, :2].tolist() == [[2, 3], [2, 0], [0, 0]]
    assert table.arrays["has_tags"].tolist() == [1, 1, 0]
    assert table.vocabulary_sizes == {"tags": 4}


@pytest.mark.parametrize("case", loaders.CASES)
def test_the_settings_of_every_case_are_valid(case):
    stage = checkerboard(1)
    contender = ours.ours(Split(case, stage, stage, ("R@1",)))
    for settings in contender.trials():
        RetrievalConfig(**ours.retrieval_settings(settings))
    assert contender.runs == 3


def test_a_case_in_which_ours_tries_one_setting_is_listed_as_such():
    stage = checkerboard(1)
    one = {case for case in loaders.CASES if len(ours.ours(Split(case, stage, stage, ("R@1",))).trials()) == 1}
    assert one == {*quality.RESERVATIONS[quality.ONE_SETTING]}


def test_what_was_chosen_before_is_valid_today():
    """Other benchmarks build on the stored settings of ours."""
    for row in json.loads(stored.RESULT.read_text(encoding="utf-8"))["rows"]:
        if row["contender"] == "ours":
            for settings in row.get("settings", []):
                from_mapping(RetrievalConfig, ours.retrieval_settings(settings))


@pytest.mark.parametrize("case", ablations.VARIANTS)
def test_every_ablation_changes_the_case_in_a_valid_way(case, tmp_path, monkeypatch):
    stage = checkerboard(1)
    split = Split(case, stage, stage, ("R@1",))
    chosen = ours.ours(split).trials()[0]
    row = {"case": case, "contender": "ours", "metric": "R@1", "settings": [chosen]}
    (tmp_path / "quality.json").write_text(json.dumps({"commit": "aaaaaaa", "rows": [row]}))
    monkeypatch.setattr(stored, "RESULT", tmp_path / "quality.json")
    ratings = stage.train.tocoo()
    table = (ratings.row, ratings.col, ratings.data, ratings.data, stage.train.shape)
    monkeypatch.setattr(ablations, "read_movielens", lambda data_dir: table)
    whole, variants = ablations.whole(split), ablations.variants_of(split, tmp_path)
    assert whole.trials() == [chosen]
    assert stored.rows_of_ours(case)["R@1"]["commit"] == "aaaaaaa"
    assert len({variant.name for variant in variants} | {whole.name}) == len(variants) + 1
    for variant in variants:
        (settings,) = variant.trials()
        RetrievalConfig(**ours.retrieval_settings(settings))
        assert settings != whole.trials()[0] or variant.score is not whole.score


def test_models_of_sequences_stand_where_there_is_an_order():
    names = [
        {peer.name.partition(" ")[0] for peer in neural.neural_peers(Split("x", stage, stage, ("NDCG@10",)))}
        for stage in (checkerboard(1), checkerboard(1, times=True))
    ]
    assert names == [{"BPR", "LightGCN", "SimpleX"}, {"SASRec", "BERT4Rec", "GRU4Rec"}]
