"""Retrieval of items with the same label by the cosine of their vectors: precision, balanced over labels, and a map.

N items, Q queries, L labels, E numbers of a vector.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

METRICS = ("P@1", "P@5", "mAP")
MIN_ITEMS, MAX_ITEMS = 6, 20  # of a label: five others can be found, and no label is most of the gallery
_COLOURS = 14  # of the map
_DRAWS = 2000  # of the bootstrap


@dataclass(frozen=True)
class Gallery:
    """The items of one half of the labels, each a query against all others."""

    rows: np.ndarray  # int64 [Q], items
    labels: np.ndarray  # int64 [Q]
    names: tuple[str, ...]  # of the labels


def galleries(ids: Sequence[str], labels: Sequence[str]) -> dict[str, Gallery]:
    """The half of the labels for choosing and the half for testing, by a hash of their names.

    A label needs MIN_ITEMS; of more than MAX_ITEMS, those with the least hash of their ids are taken.
    ids, labels: [N]; an item with an empty label is in neither.
    """
    counts = Counter(labels)
    known = sorted(
        (name for name in counts if name and counts[name] >= MIN_ITEMS), key=lambda name: _hash("label", name)
    )
    halves = {"choosing": known[::2], "test": known[1::2]}
    found = {}
    for half, names in halves.items():
        taken = [
            sorted(np.flatnonzero(np.array(labels) == name), key=lambda row: _hash("track", ids[row])) for name in names
        ]
        rows = [row for of_label in taken for row in of_label[:MAX_ITEMS]]
        places = np.repeat(np.arange(len(names)), [min(len(of_label), MAX_ITEMS) for of_label in taken])
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


def rows_of_half(case: str, vectors: dict[str, np.ndarray], gallery: Gallery) -> list[dict[str, Any]]:
    """The rows of each contender's vectors, float [N, E], on one half of the labels."""
    from benchmarks.quality.bench import row_of

    rows = []
    for contender, values in vectors.items():
        for metric, by_label in precision(values, gallery).items():
            value, low, high = interval(by_label)
            rows.append(row_of(case, contender, metric, value, len(by_label), low, high))
    return rows


def interval(by_label: np.ndarray) -> tuple[float, float, float]:
    """Mean over labels and its 95 % interval by the bootstrap over labels (Efron, 1979). by_label: float [L]."""
    draws = np.random.default_rng(0).integers(0, len(by_label), (_DRAWS, len(by_label)))
    low, high = np.percentile(by_label[draws].mean(1), (2.5, 97.5))
    return float(by_label.mean()), float(low), float(high)


def draw_map(path: Path, vectors: np.ndarray, labels: np.ndarray, others: str) -> None:
    """Write a map of items by their vectors as an SVG, the largest labels in colours.

    vectors: float [N, E]; labels: str [N]; others: what the rest is called.
    Source: van der Maaten & Hinton, Visualizing Data using t-SNE, 2008.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure
    from sklearn.manifold import TSNE

    places = TSNE(metric="cosine", init="random", random_state=7).fit_transform(vectors.astype(np.float32))
    names, sizes = np.unique(labels, return_counts=True)
    shown = names[np.argsort(-sizes, kind="stable")][:_COLOURS]
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": path.stem, "font.size": 8}):
        figure = Figure(figsize=(8.0, 5.2), layout="constrained")
        FigureCanvasSVG(figure)
        axis = figure.subplots()
        axis.scatter(*_across_and_up(places[~np.isin(labels, shown)]), s=6, color="#cccccc", label=others)
        for number, name in enumerate(shown):
            axis.scatter(
                *_across_and_up(places[labels == name]), s=14, color=mpl.colormaps["tab20"](number), label=name
            )
        axis.set_axis_off()
        axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
        figure.savefig(path, format="svg", metadata={"Date": None})


def _across_and_up(places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return places[:, 0], places[:, 1]


def _hash(salt: str, text: str) -> bytes:
    return hashlib.blake2b(f"{salt}:{text}".encode(), digest_size=8).digest()
