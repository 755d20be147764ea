"""Retrieval of tracks with the same label by the cosine of their vectors: precision, balanced over labels.

N tracks, Q queries, L labels.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

METRICS = ("P@1", "P@5", "mAP")
MIN_TRACKS, MAX_TRACKS = 6, 20  # of a label: five others can be found, and no label is most of the gallery
_DRAWS = 2000  # of the bootstrap


@dataclass(frozen=True)
class Gallery:
    """The tracks of one half of the labels, each a query against all others."""

    rows: np.ndarray  # int64 [Q], tracks
    labels: np.ndarray  # int64 [Q]
    names: tuple[str, ...]  # of the labels


def galleries(ids: Sequence[str], labels: Sequence[str]) -> dict[str, Gallery]:
    """The half of the labels for choosing and the half for testing, by a hash of their names.

    A label needs MIN_TRACKS; of more than MAX_TRACKS, those with the least hash of their ids are taken.
    ids, labels: [N]; a track with an empty label is in neither.
    """
    counts = Counter(labels)
    known = sorted(
        (name for name in counts if name and counts[name] >= MIN_TRACKS), key=lambda name: _hash("label", name)
    )
    halves = {"choosing": known[::2], "test": known[1::2]}
    found = {}
    for half, names in halves.items():
        taken = [
            sorted(np.flatnonzero(np.array(labels) == name), key=lambda row: _hash("track", ids[row])) for name in names
        ]
        rows = [row for of_label in taken for row in of_label[:MAX_TRACKS]]
        places = np.repeat(np.arange(len(names)), [min(len(of_label), MAX_TRACKS) for of_label in taken])
        found[half] = Gallery(np.array(rows, np.int64), places, tuple(names))
    return found


def precision(vectors: np.ndarray, gallery: Gallery) -> dict[str, np.ndarray]:
    """The mean over each label's queries of P@1, P@5 and average precision: metric -> float64 [L].

    vectors: float [N, E]; their cosine ranks.
    """
    chosen = vectors[gallery.rows].astype(np.float64)
    chosen /= np.maximum(np.linalg.norm(chosen, axis=1, keepdims=True), 1e-12)
    similarity = chosen @ chosen.T
    np.fill_diagonal(similarity, -np.inf)
    order = np.argsort(-similarity, axis=1, kind="stable")[:, :-1]  # [Q, Q - 1], itself is last
    hits = gallery.labels[order] == gallery.labels[:, None]
    ranks = np.arange(1, hits.shape[1] + 1)
    average = (hits * np.cumsum(hits, 1) / ranks).sum(1) / hits.sum(1)
    by_query = {"P@1": hits[:, 0].astype(float), "P@5": hits[:, :5].mean(1), "mAP": average}
    sizes = np.bincount(gallery.labels)
    return {metric: np.bincount(gallery.labels, values) / sizes for metric, values in by_query.items()}


def interval(by_label: np.ndarray) -> tuple[float, float, float]:
    """Mean over labels and its 95 % interval by the bootstrap over labels (Efron, 1979). by_label: float [L]."""
    draws = np.random.default_rng(0).integers(0, len(by_label), (_DRAWS, len(by_label)))
    low, high = np.percentile(by_label[draws].mean(1), (2.5, 97.5))
    return float(by_label.mean()), float(low), float(high)


def _hash(salt: str, text: str) -> bytes:
    return hashlib.blake2b(f"{salt}:{text}".encode(), digest_size=8).digest()
