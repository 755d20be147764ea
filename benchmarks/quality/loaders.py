"""The public protocols, each from the files that the user brings. What each hides and measures is in its function's
docstring."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from benchmarks.quality.splits import Split, Stage, carve, matrix, random_ranks, share_of, time_ranks
from pipeline.sources import lastfm, movielens
from pipeline.sources.summary import SourceError

Tags = tuple[tuple[str, ...], ...]

COLD_SHARE = 0.15
VALIDATION_SHARE = 0.1  # of train, where a protocol brings no validation part
WHAT_TO_GET = (
    "a folder with ml1m/ (train.txt and test.txt of the public UltraGCN split: a user and its items a line), "
    f"lastfm2k/ ({lastfm.WHAT_TO_GET}), and {movielens.WHAT_TO_GET}"
)


def ml1m_u(data_dir: Path) -> list[Split]:
    """ML1M-U: the graph recommenders' split of MovieLens-1M; train is hidden; validation is a tenth of each user's
    train."""
    train_pairs, test_pairs = (_read_lines(data_dir / "ml1m" / f"{name}.txt") for name in ("train", "test"))
    shape = tuple(1 + max(part[axis].max() for part in (train_pairs, test_pairs)) for axis in (0, 1))
    train, truth = (matrix(*pairs, shape) for pairs in (train_pairs, test_pairs))
    return [_with_carved_validation("ML1M-U", train, truth, ("R@20", "NDCG@20"))]


def lfm(data_dir: Path) -> list[Split]:
    """LFM: Last.fm-2K in its own split; train alone is hidden, in validation and in the test; content is the artists'
    embeddings."""
    users, items, parts, content, tags = _read_lastfm(data_dir)
    shape = (users.max() + 1, items.max() + 1)
    train, valid, test = (
        matrix(users[parts == part], items[parts == part], shape) for part in ("train", "valid", "test")
    )
    everything = np.ones(shape[1], bool)
    stages = [Stage(train, train, train, truth, everything, watch=valid) for truth in (valid, test)]
    return [Split("LFM", stages[0], stages[1], ("R@20", "NDCG@20"), content, tags)]


def lfm_cold(data_dir: Path) -> list[Split]:
    """LFM-cold: 15 % of the artists leave training; they alone are ranked, for users with a warm train artist; three
    draws.

    For validation, 15 % of the warm artists leave training in the same way.
    """
    users, items, parts, content, tags = _read_lastfm(data_dir)
    item_ids = [row["item_id"] for row in _read_csv(data_dir / "lastfm2k" / "artists.csv")]
    shape = (users.max() + 1, items.max() + 1)
    return [_cold_split(users, items, parts, item_ids, shape, content, tags, seed) for seed in range(3)]


def ml100k_r(data_dir: Path) -> list[Split]:
    """ML100K-R: each user's ratings at random 8:1:1, all of them positive; train hidden in validation, train and valid
    in the test."""
    users, items, _, _, shape = read_movielens(data_dir)
    ranks, counts = random_ranks(users, seed=0), np.bincount(users)[users]
    tenth = counts // 10
    parts = [ranks >= 2 * tenth, (ranks >= tenth) & (ranks < 2 * tenth), ranks < tenth]
    train, valid, test = (matrix(users[part], items[part], shape) for part in parts)
    everything = np.ones(shape[1], bool)
    return [
        Split(
            "ML100K-R",
            Stage(train, train, train, valid, everything, watch=valid),
            Stage(train, train, sp.csr_matrix(train + valid), test, everything, watch=valid),
            ("NDCG@10",),
        )
    ]


def ml100k_s(data_dir: Path) -> list[Split]:
    """ML100K-S: each user's ratings at random 75:25, all of them positive; train is hidden."""
    users, items, _, _, shape = read_movielens(data_dir)
    ranks, counts = random_ranks(users, seed=0), np.bincount(users)[users]
    is_train = ranks < np.rint(0.75 * counts)
    train, truth = (matrix(users[part], items[part], shape) for part in (is_train, ~is_train))
    return [_with_carved_validation("ML100K-S", train, truth, ("NDCG@10",))]


def ml100k_t(data_dir: Path) -> list[Split]:
    """ML100K-T: the last rating of each user is the test, the one before validation, by time; what came earlier is
    hidden.

    The test's history holds the validation rating, but nobody fits on it: those who stop early need it for that.
    """
    users, items, _, times_s, shape = read_movielens(data_dir)
    last = np.bincount(users)[users] - 1
    ranks = time_ranks(users, times_s)
    parts = [ranks < last - 1, ranks == last - 1, ranks == last]
    train, valid, test = (matrix(users[part], items[part], shape) for part in parts)
    known = sp.csr_matrix(train + valid)
    times = matrix(users, items, shape, times_s)
    everything = np.ones(shape[1], bool)

    def stage(history: sp.csr_matrix, truth: sp.csr_matrix) -> Stage:
        request_s = times.multiply(truth).max(1).toarray().ravel().astype(np.int64)
        return Stage(
            train, history, history, truth, everything, sp.csr_matrix(times.multiply(history)), request_s, valid
        )

    return [Split("ML100K-T", stage(train, valid), stage(known, test), ("NDCG@10", "HR@10"))]


def tfrs_a(data_dir: Path) -> list[Split]:
    """TFRS-A: ratings at random 80:20; the share of test ratings whose film is in the user's top 100; nothing is
    hidden."""
    return [_tfrs("TFRS-A", data_dir, hide_seen=False)]


def tfrs_a_hidden(data_dir: Path) -> list[Split]:
    """TFRS-A-hidden: the same, with the films of train hidden."""
    return [_tfrs("TFRS-A-hidden", data_dir, hide_seen=True)]


CASES: dict[str, Callable[[Path], list[Split]]] = {
    "ML1M-U": ml1m_u,
    "LFM": lfm,
    "LFM-cold": lfm_cold,
    "ML100K-R": ml100k_r,
    "ML100K-S": ml100k_s,
    "ML100K-T": ml100k_t,
    "TFRS-A": tfrs_a,
    "TFRS-A-hidden": tfrs_a_hidden,
}


def _with_carved_validation(case: str, train: sp.csr_matrix, truth: sp.csr_matrix, metrics: tuple[str, ...]) -> Split:
    rest, taken = carve(train, VALIDATION_SHARE, seed=1)
    everything = np.ones(train.shape[1], bool)
    return Split(
        case,
        Stage(rest, rest, rest, taken, everything, watch=taken),
        Stage(train, train, train, truth, everything),
        metrics,
    )


def _tfrs(case: str, data_dir: Path, hide_seen: bool) -> Split:
    users, items, _, _, shape = read_movielens(data_dir)
    order = np.random.default_rng(42).permutation(len(users))
    cut = int(0.8 * len(users))
    train, truth = (matrix(users[part], items[part], shape) for part in (order[:cut], order[cut:]))
    rest, taken = carve(train, VALIDATION_SHARE, seed=1)
    everything, nothing = np.ones(shape[1], bool), sp.csr_matrix(shape)
    stages = [
        Stage(seen, seen, seen if hide_seen else nothing, sought, everything)
        for seen, sought in ((rest, taken), (train, truth))
    ]
    return Split(case, stages[0], stages[1], ("accuracy@100",))


def _cold_split(
    users: np.ndarray,
    items: np.ndarray,
    parts: np.ndarray,
    item_ids: list[str],
    shape: tuple[int, int],
    content: dict[str, np.ndarray],
    tags: Tags,
    seed: int,
) -> Split:
    cold = np.array([share_of(f"{seed}:{item_id}") < COLD_SHARE for item_id in item_ids])
    held_out = ~cold & np.array([share_of(f"validation:{seed}:{item_id}") < COLD_SHARE for item_id in item_ids])

    def stage(sought: np.ndarray, absent: np.ndarray) -> Stage:
        known = (parts == "train") & ~absent[items]
        train = matrix(users[known], items[known], shape)
        has_history = np.asarray(train.sum(1)).ravel() > 0
        wanted = sought[items] & has_history[users]
        truth = matrix(users[wanted], items[wanted], shape)
        return Stage(train, train, sp.csr_matrix(shape), truth, sought)

    return Split(
        "LFM-cold", stage(held_out, cold | held_out), stage(cold, cold), ("R@20", "NDCG@20"), content, tags, seed
    )


def _read_lines(path: Path) -> tuple[np.ndarray, np.ndarray]:
    if not path.is_file():
        raise SourceError(f"{path}: is not there; get {WHAT_TO_GET}")
    users, items = [], []
    for line in path.read_text(encoding="ascii").splitlines():
        user, *its_items = map(int, line.split())
        users += [user] * len(its_items)
        items += its_items
    return np.array(users), np.array(items)


def _read_lastfm(data_dir: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, np.ndarray], Tags]:
    """User numbers, item numbers (the lines of artists.csv), parts, content by name and tags in the order of the
    items."""
    folder = data_dir / "lastfm2k"
    artists, pairs = _read_csv(folder / "artists.csv"), _read_csv(folder / "interactions.csv")
    item_of = {artist["item_id"]: number for number, artist in enumerate(artists)}
    user_of = {user_id: number for number, user_id in enumerate(sorted({pair["user_id"] for pair in pairs}))}
    rows = [int(artist["row"]) for artist in artists]
    content = {name: np.load(folder / file_name)[rows] for name, file_name in lastfm.EMBEDDINGS.items()}
    return (
        np.array([user_of[pair["user_id"]] for pair in pairs]),
        np.array([item_of[pair["item_id"]] for pair in pairs]),
        np.array([pair["split"] for pair in pairs]),
        content,
        tuple(tuple(tag for tag in artist["tags"].split(",") if tag) for artist in artists),
    )


def read_movielens(data_dir: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, tuple[int, int]]:
    """User numbers, item numbers, ratings, times in seconds, and the number of users and items.

    Raises SourceError where there is no MovieLens-100K.
    """
    for source in (data_dir, *sorted(data_dir.glob("recbole-*.whl")), *sorted(data_dir.glob("ml-100k*"))):
        ratings = movielens.read_ratings(source)
        if ratings is not None:
            users, items, values, times_s = (np.array(column, float).astype(np.int64) for column in zip(*ratings))
            return users - 1, items - 1, values, times_s, (int(users.max()), int(items.max()))
    raise SourceError(f"{data_dir}: got no MovieLens-100K in it; get {WHAT_TO_GET}")


def _read_csv(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        raise SourceError(f"{path}: is not there; get {WHAT_TO_GET}")
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
