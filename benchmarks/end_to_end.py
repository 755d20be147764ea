"""The same number from the line: `zhiyin run` on the data and split of a protocol of `quality`, with the settings that
ours has there.

Every node runs; then what the RetrievalTrainer made is asked as the protocol asks. Needs the stored result of `bench
quality`; the data: see `quality.loaders.WHAT_TO_GET`. About four minutes a case on two cores, seconds where the run is
cached.
"""

from __future__ import annotations

import csv
import io
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.goals import check_cases
from benchmarks.quality.ours import retrieval_settings
from components.settings import SettingsError

ROOT = Path(__file__).parents[1]
WORK = ROOT / ".zhiyin" / "bench" / "line"
IN_QUALITY = "ours in quality"
CUTOFFS = {"LFM": 20, "ML100K-T": 10}
GOALS: list[dict[str, Any]] = [
    {"case": "LFM", "metric": "R@20", "at_least": 0.98, "of": IN_QUALITY},
    {"case": "ML100K-T", "metric": "NDCG@10", "at_least": 0.98, "of": IN_QUALITY},
]


def run(data_dir: Path | None, cases: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Rows of the line's model and of the mean of ours in `quality`. Raises SettingsError where data or result are
    missing."""
    from benchmarks.quality.bench import row_of
    from benchmarks.quality.loaders import WHAT_TO_GET
    from benchmarks.quality.stored import rows_of_ours, settings_of_ours
    from trainer.evaluation import metrics

    if data_dir is None or not data_dir.is_dir():
        raise SettingsError(f"--data-dir: got {data_dir}, expected {WHAT_TO_GET}")
    check_cases(cases, CUTOFFS)
    rows = []
    for case in cases or tuple(CUTOFFS):
        stored = rows_of_ours(case)
        config = write_config(case, data_dir, settings_of_ours(case))
        subprocess.run([sys.executable, "-m", "pipeline.cli", "run", "--config", str(config)], cwd=ROOT, check=True)
        found = _asked(case, WORK / case / "run" / "artifacts")
        for metric in (metric for metric in found if metric in stored):
            interval, own = metrics.bootstrap(found[metric]), stored[metric]
            rows.append(row_of(case, "ours", metric, interval.value, 1, interval.low, interval.high))
            rows.append({**own, "contender": IN_QUALITY})
    return rows


def write_config(case: str, data_dir: Path, settings: dict[str, Any]) -> Path:
    """The tables of the protocol and a configuration over them, ready for `zhiyin run`. settings: as
    `quality.ours.train_on` has them."""
    folder = WORK / case
    seen = {name: value for name, value in settings.items() if name == "history_length"}
    shape = _last_fm(folder, data_dir) if case == "LFM" else _movielens(folder, data_dir)
    tables = {name: {"path": str(path)} for name, path in shape.pop("tables").items()}
    config = {
        "name": f"bench-{case.lower()}",
        "work_dir": str(folder / "run"),
        "data": {**tables, "split": {"kind": "given"}, **shape, **seen},
        "retrieval": retrieval_settings(settings) | {"metric": f"NDCG@{CUTOFFS[case]}"},
        "evaluation": {"metric": "NDCG@10", "min_gain_over_popularity": 0.0, "max_loss_to_last": 1.0},
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


def _last_fm(folder: Path, data_dir: Path) -> dict[str, Any]:
    from pipeline.sources import lastfm

    lastfm.write_lastfm_2k(folder / "data", data_dir / "lastfm2k")
    tables = {"catalogue": folder / "data" / "catalogue.parquet", "events": folder / "data" / "events.csv"}
    return {
        "tables": tables,
        "embeddings": {"minilm": 384, "vggish": 128, "whisper": 512},
        "event_rules": {"play": {"weight": 1.0}},
    }


def _movielens(folder: Path, data_dir: Path) -> dict[str, Any]:
    """As `loaders.ml100k_t` splits: each person's last rating, the one before, and the rest."""
    from benchmarks.quality.loaders import read_movielens
    from benchmarks.quality.splits import time_ranks

    folder.mkdir(parents=True, exist_ok=True)
    users, items, _, times_s, shape = read_movielens(data_dir)
    before_last = np.bincount(users)[users] - 1 - time_ranks(users, times_s)
    parts = np.array(["test", "valid", "train"])[np.minimum(before_last, 2)]
    tables = {"catalogue": folder / "catalogue.csv", "events": folder / "events.csv"}
    _write(tables["catalogue"], [("item_id",), *((str(item),) for item in range(shape[1]))])
    header = ("user_id", "item_id", "event", "timestamp", "split")
    _write(tables["events"], [header, *zip(users, items, ["play"] * len(users), times_s, parts)])
    return {"tables": tables, "event_rules": {"play": {"weight": 1.0}}}


def _write(path: Path, rows: Iterable[Sequence[Any]]) -> None:
    """A CSV file; one that is the same already keeps its time, by which the cache of runs knows it."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    content = text.getvalue().encode()
    if not path.is_file() or path.read_bytes() != content:
        path.write_bytes(content)


def _asked(case: str, artifacts: Path) -> dict[str, np.ndarray]:
    """Each person's value by metric. The history ends where that of the protocol does: LFM knows train alone."""
    import tensorflow as tf

    from benchmarks.cold_demo import newest
    from components.config import DataConfig
    from components.datasets.interactions import read_interactions
    from serving.index import load_index
    from serving.offline.encoding import encode_users
    from trainer.evaluation import metrics

    index, item_ids = load_index(str(newest(artifacts / "ItemIndex" / "index")), "exact")
    vectors = index.vectors.numpy()
    sequences = newest(artifacts / "Interactions" / "sequences")
    people = read_interactions(f"{sequences}/Split-test", item_ids)
    truth = people.matrix(~people.is_history, len(item_ids))
    known = people
    if case == "LFM":
        everyone = read_interactions(f"{sequences}/Split-train", item_ids)
        row = {user_id: number for number, user_id in enumerate(everyone.user_ids)}
        known = everyone.select(np.array([row[user_id] for user_id in people.user_ids]))
        known = replace(known, num_history=known.lengths)
    hidden = known.matrix(known.is_history, len(item_ids))
    tower = tf.saved_model.load(str(newest(artifacts / "RetrievalTrainer" / "model") / "Format-Serving")).signatures[
        "user_tower"
    ]
    users = encode_users(tower, vectors, known, known.num_history, DataConfig.history_length)
    return metrics.evaluate(lambda rows: users[rows] @ vectors.T, truth, hidden, (CUTOFFS[case],)).values
