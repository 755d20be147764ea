"""Training: it learns what can be learnt, twice the same, and never its own answer."""

import dataclasses
import types

import numpy as np
import pytest

from components.datasets.interactions import read_interactions, window
from tests.trainer.draws import note_draws, shares
from trainer.batches import TrainingBatches
from trainer.config.encoder import EncoderConfig
from trainer.config.retrieval import RetrievalConfig
from trainer.data import ItemTable
from trainer.keras import tf
from trainer.retrieval.run import build
from trainer.retrieval.train import fit_interactions, train
from trainer.retrieval.validation import Validation, targets_and_history, user_vectors

LEAN = {"modalities": ("tags", "embedding_given"), "encoder": EncoderConfig(width=8, heads=2, layers=0, dropout=0.0)}
LONG_ENOUGH = {"svd_init": False, "epochs": 15, "patience": 15, "learning_rate": 0.02, "metric": "HR@1"}


def _train(table, train_split, eval_split, tiny, **changes):
    config = dataclasses.replace(tiny.CONFIG, **{**LEAN, **changes})
    model = build(table, train_split, tiny.DATA, config)
    history = train(model, train_split, eval_split, table)
    return model, history.history


WAYS = {
    "profile": {"user_tower": "profile", "loss": "profile_cosine"},
    "profiles_side_by_side": {"loss": "profile_cosine", "num_submodels": 2, "item_scale": True, "history_dropout": 0.5},
    "profile_softmax": {"user_tower": "profile", "loss": "softmax"},
    "profile_sampled_items": {"user_tower": "profile", "loss": "profile_cosine", "items_per_step": 8, "batch_size": 2},
    "sequence_full_softmax": {"user_tower": "sequence", "loss": "full_softmax", "epochs": 40},
    "sequence_hard_negatives": {"user_tower": "sequence", "loss": "softmax", "hard_negatives": 2, "epochs": 60},
    "both_full_softmax": {"user_tower": "both", "loss": "full_softmax", "half_life_days": 30.0},
    "sequence_softmax": {"user_tower": "sequence", "loss": "softmax"},
}


@pytest.mark.parametrize("way", WAYS)
def test_checkerboard_users_get_the_withheld_item(table, train_split, eval_split, tiny, way):
    """Even users took all even items but one: with what they know hidden, that one is first for nearly all of them;
    with hard negatives, which see little of so small a catalogue in a step, for more than half. Chance is one in seven.
    """
    model, history = _train(table, train_split, eval_split, tiny, **{**LONG_ENOUGH, **WAYS[way]})
    validation = Validation(model, eval_split, table, "HR@1")
    assert validation.value(model.item_tower.encode(table)) >= (0.5 if "hard_negatives" in WAYS[way] else 0.9)
    if "items_per_step" not in WAYS[way]:  # with other candidates in each step, losses cannot be compared
        assert np.mean(history["loss"][-3:]) < np.mean(history["loss"][:3])


def test_negatives_are_drawn_from_the_whole_catalogue_whatever_a_step_holds(table, train_split, tiny):
    """Nobody takes odd items, and a step has room for no more than its own two users' even ones."""
    changes = {"loss": "softmax", "items_per_step": 4, "batch_size": 2, "negatives": 60, "svd_init": False}
    config = dataclasses.replace(tiny.CONFIG, **LEAN, **changes)
    takes_even = train_split.items[train_split.splits[:-1]] % 2 == 0
    even, nobody = train_split.select(np.flatnonzero(takes_even)), train_split.select(np.zeros(0, int))
    model = build(table, even, tiny.DATA, config)
    notes = note_draws(model)
    fit_interactions(model, even, nobody, table, epochs=100)
    share, told = shares(notes.numpy())
    np.testing.assert_allclose(told, share, rtol=0.15)
    np.testing.assert_allclose(told[1::2], 60 / 12 / (60 + 10), rtol=1e-5)  # beside 5 targets of each user


def test_a_full_softmax_over_a_sample_is_refused(table, train_split, tiny):
    config = dataclasses.replace(tiny.CONFIG, loss="full_softmax", items_per_step=11)
    with pytest.raises(ValueError, match="all 12 items, and a step has items_per_step 11"):
        build(table, train_split, tiny.DATA, config)


def test_validation_ranks_only_what_is_out_when_a_user_asks(table, train_split, eval_split, tiny):
    """A model that was never trained finds the withheld item where nothing else is out, and has nothing to find where
    that item is the one that is not.
    """
    users = np.arange(len(eval_split))
    targets = eval_split.items[eval_split.splits[users] + eval_split.num_history]
    asked_at_s = eval_split.asked_at_s(users, eval_split.num_history)
    model = build(table, train_split, tiny.DATA, tiny.CONFIG)
    vectors = model.item_tower.encode(table)
    for user in users[:4]:
        alone = Validation(model, eval_split.select(users[[user]]), table, "MRR@1")
        table.available_from_s = np.full(len(table), asked_at_s[user] + 1)
        assert np.isnan(alone.value(vectors))
        table.available_from_s[targets[user]] = asked_at_s[user]
        assert alone.value(vectors) == 1


def test_of_very_many_users_a_fixed_part_is_validated(table, train_split, eval_split, tiny, monkeypatch):
    """The first, the last and what lies evenly between them."""
    model = build(table, train_split, tiny.DATA, dataclasses.replace(tiny.CONFIG, **LEAN))
    vectors = np.random.default_rng(0).normal(size=(len(table), 8)).astype(np.float32)
    everyone = Validation(model, eval_split, table, "MRR@5").value(vectors)
    some = Validation(model, eval_split.select(np.array([0, 11, 23])), table, "MRR@5").value(vectors)
    assert some != everyone
    monkeypatch.setattr("trainer.retrieval.validation.MOST_JUDGED", 3)
    assert Validation(model, eval_split, table, "MRR@5").value(vectors) == some


def test_the_dates_of_items_are_those_of_evaluation(table, eval_split, tiny, tmp_path):
    """Item 3 has a date, which counts; the others have none, and may start at their first event."""
    records = []
    for number, item_id in enumerate(table.item_ids):
        example = tf.train.Example()
        example.features.feature["item_id"].bytes_list.value.append(item_id)
        if number == 3:
            example.features.feature["published_at"].int64_list.value.append(1_600_000_000)
        records.append(example.SerializeToString())
    pattern = tiny.write_records(tmp_path / "dated.gz", records[::-1])
    table.date(pattern, tiny.DATA, [eval_split])
    expected = np.full(len(table), -np.inf)
    expected[3] = 1_600_000_000
    np.testing.assert_array_equal(table.available_from_s, expected)
    table.date(pattern, dataclasses.replace(tiny.DATA, undated_items="from_first_event"), [eval_split])
    expected[:] = eval_split.first_event_s(len(table))
    expected[3] = 1_600_000_000
    np.testing.assert_array_equal(table.available_from_s, expected)


def test_a_cold_item_is_placed_by_its_content(item_file, tiny, tmp_path):
    """Item 10 is even and item 11 odd in content only; no training event names them. Chance would be right for half of
    the users.
    """
    table = ItemTable.build(item_file, tiny.DATA, tmp_path / "table")
    records = tiny.checkerboard_records(num_items=10)
    train_split = read_interactions(
        [tiny.write_records(tmp_path / "train.gz", records)], table.item_ids, tuple(tiny.DATA.event_rules)
    )
    cold = [
        tiny.sequence_example(
            f"user-{user}", [f"item-{i}" for i in range(user % 2, 10, 2)] + [f"item-{10 + user % 2}"], num_history=5
        )
        for user in range(24)
    ]
    eval_split = read_interactions(
        [tiny.write_records(tmp_path / "eval.gz", cold)], table.item_ids, tuple(tiny.DATA.event_rules)
    )
    model, _ = _train(table, train_split, eval_split, tiny, **LONG_ENOUGH)
    validation = Validation(model, eval_split, table, "HR@1")
    assert validation.value(model.item_tower.encode(table), np.arange(12) >= 10) >= 0.9


def test_ratings_of_the_own_kind_are_predicted_higher(table, tiny, tmp_path):
    """Everybody plays six items of the own kind and rates them 5, and skips six of the other and rates them 1."""
    records = []
    for user in range(24):
        own = [f"item-{item}" for item in range(user % 2, 12, 2)]
        other = [f"item-{item}" for item in range(1 - user % 2, 12, 2)]
        example = tf.train.Example.FromString(tiny.sequence_example(f"user-{user}", own + other, ordered=False))
        example.features.feature["events"].bytes_list.value[:] = [b"play"] * 6 + [b"skip"] * 6
        example.features.feature["values"].float_list.value[:] = [5.0] * 6 + [1.0] * 6
        records.append(example.SerializeToString())
    rated = read_interactions(
        [tiny.write_records(tmp_path / "rated.gz", records)], table.item_ids, tuple(tiny.DATA.event_rules)
    )
    nobody = read_interactions(
        [tiny.write_records(tmp_path / "nobody.gz", [])], table.item_ids, tuple(tiny.DATA.event_rules)
    )
    wide = types.SimpleNamespace(**{**vars(tiny), "DATA": dataclasses.replace(tiny.DATA, history_length=12)})
    model, history = _train(table, rated, nobody, wide, loss="rating_mse", epochs=40, learning_rate=0.05)
    assert history["loss"][-1] < 0.5 < 2 < history["loss"][0], (
        "variance of the ratings: 4, of which the start knows some"
    )
    vectors = model.item_tower.encode_ids(table)
    scores = user_vectors(model, rated_history(rated), vectors, np.arange(2)) @ vectors.T
    assert scores[0, 0::2].min() > scores[0, 1::2].max() and scores[1, 1::2].min() > scores[1, 0::2].max()


def rated_history(sequences):
    """The same interactions, all of them history."""
    return dataclasses.replace(sequences, num_history=np.diff(sequences.splits))


def test_same_seed_same_result_other_seed_another(table, train_split, eval_split, tiny):
    vectors = [
        _train(table, train_split, eval_split, tiny, seed=seed)[0].item_tower.encode(table) for seed in (1, 1, 2)
    ]
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-5)
    assert np.abs(vectors[0] - vectors[2]).max() > 1e-2


@pytest.mark.parametrize("changes", [{}, {"num_submodels": 2, "item_scale": True, "half_life_days": 1e-3}])
def test_a_flat_batch_gives_the_loss_and_the_gradients_of_the_padded_one(table, train_split, tiny, changes):
    """Users of unequal length, with items that come twice, and kinds of events of which one is no target."""
    random = np.random.default_rng(0)
    several = np.sort(random.integers(0, len(train_split), 12))  # some users twice
    merged = train_split.select(several)
    splits = np.array([0, 3, 15, 16, 40, len(merged.items)])
    events = random.integers(2, 2 + len(tiny.DATA.event_rules), len(merged.items)).astype(np.int32)
    split = dataclasses.replace(
        merged, user_ids=list("abcde"), splits=splits, num_history=np.zeros(5, np.int64), ordered=np.ones(5, bool),
        events=events, positives=events != 3, weights=random.random(len(events)).astype(np.float32),
    )  # fmt: skip
    config = dataclasses.replace(tiny.CONFIG, **{**LEAN, "history_dropout": 0.0, **changes})
    model = build(table, split, tiny.DATA, config)
    found = []
    for flat in (False, True):
        batch = TrainingBatches(split, table, ("id_row",), 5, len(table), 30, seed=1, flat=flat).at(0, 0)
        with tf.GradientTape() as tape:
            loss = model.compute_loss(tf.nest.map_structure(tf.constant, batch), training=True)
        variables = [model.item_tower.id_embedding.embeddings, model.user_tower.event_weights]
        found.append([loss, *map(tf.convert_to_tensor, tape.gradient(loss, variables))])
    for padded, got in zip(*found):
        np.testing.assert_allclose(got, padded, atol=1e-5)
    assert np.abs(found[0][2]).max() > 1e-3


def test_users_without_padding_are_the_users_with_it(table, train_split, eval_split, tiny):
    model = build(table, train_split, tiny.DATA, dataclasses.replace(tiny.CONFIG, num_submodels=2, item_scale=True))
    vectors, rows = model.item_tower.encode(table), np.array([3, 0, 7])
    history = window(eval_split, rows, np.array([5, 2, 0]), 4)
    cut = dataclasses.replace(eval_split, num_history=np.where(np.arange(len(eval_split)) == 0, 2, 5))
    cut.num_history[7] = 0
    model.history_length = 4
    users = np.zeros(3, np.int32)
    padded = model.encode_users(vectors, history.items, history.events, history.age_s, users)
    np.testing.assert_allclose(user_vectors(model, cut, vectors, rows), padded, atol=1e-6)


def test_the_best_epoch_is_kept(table, train_split, eval_split, tiny):
    model, history = _train(table, train_split, eval_split, tiny, epochs=8, patience=2, learning_rate=0.05)
    validation = Validation(model, eval_split, table, tiny.CONFIG.metric)
    assert validation.value(model.item_tower.encode_ids(table)) == pytest.approx(
        max(history[f"val_{tiny.CONFIG.metric}"]), abs=1e-6
    )


def test_truth_is_what_follows_the_history(eval_split):
    truth, seen = targets_and_history(eval_split, 12)
    assert truth.sum(1).tolist() == [[1.0]] * 24 and seen.sum(1).tolist() == [[5.0]] * 24
    assert not truth.multiply(seen).nnz


def test_nothing_positive_is_nothing_to_learn(table, train_split, tiny):
    with pytest.raises(ValueError, match="no positive interaction"):
        build(
            table,
            dataclasses.replace(train_split, positives=np.zeros_like(train_split.positives)),
            tiny.DATA,
            tiny.CONFIG,
        )


@pytest.mark.parametrize(
    "change",
    [
        {"dropout": 1.0},
        {"metric": "NDCG"},
        {"user_tower": "sequence", "loss": "profile_cosine"},
        {"num_submodels": 3},
        {"hard_negatives": -1},
    ],
)
def test_settings_that_cannot_work_are_refused(change):
    with pytest.raises(ValueError, match=next(iter(change)) if len(change) == 1 else "profile_cosine"):
        RetrievalConfig(**change)
