"""What is known of users beside histories: read as the table has it, and enough to serve somebody without a history."""

import dataclasses

import numpy as np
import pytest

from trainer.config.encoder import EncoderConfig
from trainer.keras import tf
from trainer.retrieval.run import build
from trainer.retrieval.train import train
from trainer.retrieval.validation import user_vectors
from trainer.towers.user_features import ABSENT, UNKNOWN, UNKNOWN_USER, UserEmbedding, read_user_features

LEAN = {"modalities": ("tags",), "encoder": EncoderConfig(width=8, heads=2, layers=0, dropout=0.0), "content_epochs": 0}


@pytest.fixture(scope="module")
def data(tiny):
    return dataclasses.replace(tiny.DATA, user_categorical=("camp",), user_numeric=("age",))


def _user(user_id, camp=None, age=None):
    example = tf.train.Example()
    example.features.feature["user_id"].bytes_list.value.append(user_id.encode())
    if camp is not None:
        example.features.feature["camp"].bytes_list.value.append(camp.encode())
    if age is not None:
        example.features.feature["age"].float_list.value.append(age)
    return example.SerializeToString()


@pytest.fixture(scope="module")
def user_file(tiny, tmp_path_factory):
    """The 24 users of the checkerboard with the camp that they belong to, two whom no event names, and one with an odd
    camp.
    """
    camps = ["even", "odd"]
    records = [_user(f"user-{user}", camps[user % 2], 20 + user) for user in range(24)]
    records += [
        _user("new-even", "even"),
        _user("new-odd", "odd"),
        _user("rare", "third", float("nan")),
        _user("silent"),
    ]
    return tiny.write_records(tmp_path_factory.mktemp("users") / "users.gz", records)


def test_columns_become_codes_and_z_scores(user_file, data, train_split, tiny):
    users = read_user_features(user_file, data, train_split, dataclasses.replace(tiny.CONFIG, use_user_features=True))
    even, odd, rare, silent, nobody = users.rows_of(["new-even", "new-odd", "rare", "silent", "never heard of"])
    assert users.sizes == (4,)
    assert users.categories[[even, odd, rare, silent, nobody], 0].tolist() == [2, 3, UNKNOWN, ABSENT, ABSENT]
    ages = 20 + np.arange(24)
    np.testing.assert_allclose(
        users.numbers[users.rows_of(["user-0"])[0]], [(20 - ages.mean()) / ages.std()], atol=1e-5
    )
    assert (nobody, users.present[even].tolist(), users.numbers[rare].tolist()) == (UNKNOWN_USER, [0.0], [0.0])
    assert not users.id_rows.any(), "ids were not asked for"


def test_nothing_asked_for_is_nothing_known(user_file, data, train_split, tiny):
    assert read_user_features(user_file, data, train_split, tiny.CONFIG) is None


@pytest.mark.parametrize("way", [{"user_tower": "profile"}, {"user_tower": "both", "loss": "full_softmax"}])
def test_somebody_without_a_history_is_served_by_what_is_known(
    table, train_split, eval_split, user_file, data, tiny, way
):
    """The camp says which items: the items of a new user's camp score higher than the others, by far on average over
    three seeds and both camps.
    """
    config = dataclasses.replace(
        tiny.CONFIG, **LEAN, use_user_features=True, epochs=20, learning_rate=0.05, history_dropout=0.9, **way
    )
    users = read_user_features(user_file, data, train_split, config)
    known = dataclasses.replace(train_split, user_feature_rows=users.rows_of(train_split.user_ids))
    newcomers = dataclasses.replace(
        _nobody(eval_split),
        user_ids=["new-even", "new-odd"],
        splits=np.zeros(3, np.int64),
        num_history=np.zeros(2, np.int64),
        ordered=np.ones(2, bool),
        user_feature_rows=users.rows_of(["new-even", "new-odd"]),
    )
    gaps = []
    for seed in (7, 8, 9):
        model = build(table, train_split, data, dataclasses.replace(config, seed=seed), users)
        train(model, known, _nobody(eval_split), table)
        vectors = model.item_tower.encode_ids(table)
        even, odd = user_vectors(model, newcomers, vectors, np.arange(2)) @ vectors.T
        gaps += [even[0::2].mean() - even[1::2].mean(), odd[1::2].mean() - odd[0::2].mean()]
    assert np.mean(gaps) > 0.2, "cosines; chance would give 0"


def _nobody(split):
    names = ("items", "events", "times_s", "weights", "positives", "values", "num_history", "ordered")
    empty = {name: getattr(split, name)[:0] for name in names}
    return dataclasses.replace(split, user_ids=[], splits=np.zeros(1, np.int64), **empty)


def test_an_unknown_id_has_a_trained_row_and_the_last_known_one_is_inside(data, train_split, tiny):
    """C30: rows = known ids and one for all others; both give finite vectors, different from each other."""
    config = dataclasses.replace(tiny.CONFIG, use_user_id=True, user_id_dropout=0.5)
    users = read_user_features(None, data, train_split, config)
    assert len(users.user_ids) == 24 and users.id_rows.max() == 24
    embedding = UserEmbedding(users, 8, config)
    assert embedding.id_embedding.shape == (25, 8)
    rows = tf.constant(users.rows_of(["user-23", "never heard of"]))
    assert rows.numpy().tolist() == embedding.row_of_id(tf.constant(["user-23", "never heard of"])).numpy().tolist()
    with tf.GradientTape() as tape:
        total = sum(tf.reduce_sum(embedding(rows[:1], training=True)) for _ in range(20))
    gradient = tf.convert_to_tensor(tape.gradient(total, embedding.id_embedding)).numpy()
    assert gradient[0].all() and gradient[users.id_rows[rows[0]]].all(), "hidden in some steps, shown in others"
    embedding.id_embedding.assign_add(tf.random.stateless_normal(embedding.id_embedding.shape, [1, 2]))
    known, unknown = embedding(rows).numpy()
    assert np.isfinite([known, unknown]).all() and np.abs(known - unknown).max() > 1e-3


def test_a_user_may_be_called_like_keras_token_for_the_unknown(data, train_split, tiny):
    config = dataclasses.replace(tiny.CONFIG, use_user_id=True)
    users = read_user_features(None, data, train_split, config)
    users = dataclasses.replace(users, user_ids=["[UNK]", *users.user_ids[1:]])
    ids = ["[UNK]", users.user_ids[1], "never heard of"]
    rows = tf.function(UserEmbedding(users, 8, config).row_of_id)(tf.constant(ids)).numpy()
    assert rows.tolist() == users.rows_of(ids).tolist() == [1, 2, UNKNOWN_USER]
