"""The protocols of the quality benchmark: what is hidden, what is sought, and that nothing sought is known."""

import csv
import hashlib

import numpy as np
import pytest

from benchmarks.quality import loaders
from benchmarks.quality.splits import carve, matrix, random_ranks, share_of, time_ranks
from pipeline.sources.summary import SourceError

NUM_USERS, NUM_ITEMS = 30, 40


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """A tiny copy of every data set's form."""
    folder, draw = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    taken = {user: draw.permutation(NUM_ITEMS)[:20] for user in range(NUM_USERS)}

    (folder / "ml1m").mkdir()
    for name, part in (("train", slice(0, 15)), ("test", slice(15, 20))):
        lines = [" ".join(map(str, [user, *items[part]])) for user, items in taken.items()]
        (folder / "ml1m" / f"{name}.txt").write_text("\n".join(lines) + "\n")

    (folder / "lastfm2k").mkdir()
    with (folder / "lastfm2k" / "interactions.csv").open("w", newline="") as file:
        rows = [
            (f"u{user}", f"a{item}", "train" if place < 14 else "valid" if place < 16 else "test")
            for user, items in taken.items()
            for place, item in enumerate(items)
        ]
        csv.writer(file).writerows([("user_id", "item_id", "split"), *rows])
    with (folder / "lastfm2k" / "artists.csv").open("w", newline="") as file:
        rows = [
            (f"a{item}", f"Artist {item}", f"tag{item % 3},live", NUM_ITEMS - 1 - item) for item in range(NUM_ITEMS)
        ]
        csv.writer(file).writerows([("item_id", "name", "tags", "row"), *rows])
    for name in ("vggish", "whisper", "all-MiniLM-L6-v2"):
        np.save(
            folder / "lastfm2k" / f"{name}.npy",
            np.arange(NUM_ITEMS, dtype=np.float32)[:, None] * np.ones(2, np.float32),
        )

    (folder / "ml-100k").mkdir()
    ratings = [
        (user + 1, item + 1, 3, 1000 + place // 2) for user, items in taken.items() for place, item in enumerate(items)
    ]
    (folder / "ml-100k" / "u.data").write_text("".join("\t".join(map(str, row)) + "\n" for row in ratings))
    flags = "|".join(["0"] * 19)
    (folder / "ml-100k" / "u.item").write_text(
        "".join(f"{item + 1}|Film (1990)|01-Jan-1990|||{flags}\n" for item in range(NUM_ITEMS))
    )
    (folder / "ml-100k" / "u.user").write_text("".join(f"{user + 1}|30|F|writer|0\n" for user in range(NUM_USERS)))
    return folder


def pairs(table):
    return set(zip(*table.nonzero()))


@pytest.mark.parametrize("case", loaders.CASES)
def test_nothing_sought_is_known_or_hidden(data_dir, case):
    """C29: the stages share no pair between what is known and what is sought."""
    for split in loaders.CASES[case](data_dir):
        for stage in (split.validation, split.test):
            assert stage.truth.nnz > 0
            assert not pairs(stage.truth) & (pairs(stage.train) | pairs(stage.history) | pairs(stage.hidden))
            assert set(stage.truth.nonzero()[1]) <= set(np.flatnonzero(stage.candidates))
        assert not pairs(split.validation.train) & pairs(split.test.truth)
        assert not pairs(split.validation.truth) & pairs(split.test.truth)


def test_ml1m_is_as_in_the_files(data_dir):
    (split,) = loaders.ml1m_u(data_dir)
    assert split.test.train.nnz == NUM_USERS * 15
    assert split.test.truth.nnz == NUM_USERS * 5
    assert pairs(split.test.hidden) == pairs(split.test.train)
    assert split.validation.truth.nnz == NUM_USERS, "a tenth of 15, rounded down"
    first = [int(item) for item in (data_dir / "ml1m" / "test.txt").read_text().splitlines()[0].split()[1:]]
    assert {(0, item) for item in first} == {pair for pair in pairs(split.test.truth) if pair[0] == 0}


def test_lastfm_hides_train_alone_and_joins_content(data_dir):
    (split,) = loaders.lfm(data_dir)
    assert (split.test.train.nnz, split.validation.truth.nnz, split.test.truth.nnz) == (
        NUM_USERS * 14,
        NUM_USERS * 2,
        NUM_USERS * 4,
    )
    assert pairs(split.test.hidden) == pairs(split.validation.hidden) == pairs(split.test.train)
    assert split.content["vggish"][0, 0] == NUM_ITEMS - 1, "item 0 stands in the last line of the arrays"
    assert split.tags[4] == ("tag1", "live")


def test_cold_artists_leave_training_altogether(data_dir):
    for seed, split in enumerate(loaders.lfm_cold(data_dir)):
        cold = {
            item
            for item in range(NUM_ITEMS)
            if int.from_bytes(hashlib.blake2b(f"{seed}:a{item}".encode(), digest_size=8).digest(), "big") / 2**64 < 0.15
        }
        assert set(np.flatnonzero(split.test.candidates)) == cold
        for stage in (split.validation, split.test):
            assert not stage.train[:, stage.candidates].nnz
            assert not stage.train[:, sorted(cold)].nnz
        assert split.test.truth.nnz == sum(
            row["item_id"] in {f"a{item}" for item in cold}
            for row in loaders._read_csv(data_dir / "lastfm2k" / "interactions.csv")
        )
        assert not split.validation.candidates[sorted(cold)].any()


def test_movielens_shares(data_dir):
    (random,), (stratified,) = loaders.ml100k_r(data_dir), loaders.ml100k_s(data_dir)
    assert (random.test.train.nnz, random.validation.truth.nnz, random.test.truth.nnz) == (
        NUM_USERS * 16,
        NUM_USERS * 2,
        NUM_USERS * 2,
    )
    assert pairs(random.test.hidden) == pairs(random.test.train) | pairs(random.validation.truth)
    assert (stratified.test.train.getnnz(1) == 15).all()


def test_the_last_rating_is_the_test_and_the_one_before_validation(data_dir):
    (split,) = loaders.ml100k_t(data_dir)
    lines = [tuple(map(int, line.split("\t"))) for line in (data_dir / "ml-100k" / "u.data").read_text().splitlines()]
    for user in range(NUM_USERS):
        in_order = [
            item - 1
            for _, item, _, _ in sorted((line for line in lines if line[0] == user + 1), key=lambda line: line[3])
        ]
        assert set(split.test.truth[user].indices) == {in_order[-1]}
        assert set(split.validation.truth[user].indices) == {in_order[-2]}
        assert set(split.validation.history[user].indices) == set(in_order[:-2])
        assert set(split.test.history[user].indices) == set(in_order[:-1])
        assert set(split.test.train[user].indices) == set(in_order[:-2])
        assert split.test.times_s[user].max() <= 1000 + 9


def test_tfrs_hides_nothing_or_train(data_dir):
    (plain,), (hidden,) = loaders.tfrs_a(data_dir), loaders.tfrs_a_hidden(data_dir)
    assert plain.test.truth.nnz == NUM_USERS * 20 // 5
    assert plain.test.hidden.nnz == 0
    assert pairs(hidden.test.hidden) == pairs(hidden.test.train)
    assert pairs(plain.test.truth) == pairs(hidden.test.truth)


@pytest.mark.parametrize("case", loaders.CASES)
def test_absent_data_say_what_to_get(tmp_path, case):
    with pytest.raises(SourceError, match="get a folder with ml1m/"):
        loaders.CASES[case](tmp_path)


def test_share_of_is_the_documented_hash():
    """blake2b of "0:80" in 8 bytes, big-endian, over 2 ** 64."""
    assert share_of("0:80") == int(hashlib.blake2b(b"0:80", digest_size=8).hexdigest(), 16) / 2**64
    shares = [share_of(f"1:{item}") for item in range(2000)]
    assert abs(np.mean(np.array(shares) < 0.15) - 0.15) < 0.03


def test_ranks_carving_and_repeated_pairs():
    users, times = np.array([1, 0, 1, 1, 0]), np.array([5, 9, 3, 5, 1])
    assert time_ranks(users, times).tolist() == [1, 1, 0, 2, 0], "equal times in the order of the file"
    ranks = random_ranks(users, seed=0)
    assert sorted(ranks[users == 1]) == [0, 1, 2]
    assert np.array_equal(ranks, random_ranks(users, seed=0))
    table = matrix(np.array([0, 0, 1]), np.array([2, 2, 0]), (2, 3), np.array([7.0, 8.0, 9.0]))
    assert table.toarray().tolist() == [[0, 0, 8.0], [9.0, 0, 0]]
    train = matrix(np.repeat(np.arange(4), 10), np.tile(np.arange(10), 4), (4, 12))
    rest, taken = carve(train, 0.25, seed=0)
    assert (taken.getnnz(1) == 2).all()
    assert pairs(rest) | pairs(taken) == pairs(train)
    assert not pairs(rest) & pairs(taken)
