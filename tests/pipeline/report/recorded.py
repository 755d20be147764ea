"""Two small runs as the line leaves them: real TFRecords, statistics, logs and ML Metadata, made in seconds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import tensorflow as tf
import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import anomalies_pb2

from pipeline.run_history import PEAK_MEMORY, PROCESSOR_SECONDS
from tests.pipeline.runs import Runs
from trainer.loop import EpochLog

HOSTILE = "<script>alert('a title')</script>"
FIRST, SECOND = "2026-03-01T10:00:00.000001", "2026-03-02T11:30:00.000002"
FIRST_ID, SECOND_ID = "20260301-100000", "20260302-113000"
ITEMS = [f"i{row}" for row in range(12)]
USED = {PROCESSOR_SECONDS: 12.5, PEAK_MEMORY: 3 * 1024**2}


def two_runs(work_path: Path, servable: Path) -> Runs:
    """A blessed run, and a better one after it. servable: of items i0 to i11 and the user `known`."""
    runs = Runs(work_path)
    for started_at, ndcg, version in ((FIRST, 0.2, "1"), (SECOND, 0.25, "2")):
        runs.begin(started_at)
        one_run(runs, servable, ndcg, version)
    return runs


def one_run(runs: Runs, servable: Path, ndcg: float, version: str) -> None:
    """One run of the nodes that a report reads."""
    made = runs.execute("CatalogGen", {}, {"examples": {}, "rejects": {}}, used=USED)
    _write_examples(runs.path(made["examples"]) / "Split-train", [_item(item) for item in ITEMS])
    _write_rejects(runs.path(made["rejects"]), [{"line": 7, "item_id": "i99", "reason": "no_id", "detail": HOSTILE}])
    table = pd.DataFrame({"item_id": ITEMS, "title": ["a"] * 9 + [None] * 3})
    _write_statistics(runs, "CatalogStatistics", table)
    anomalies = runs.execute("CatalogValidator", {}, {"anomalies": {}})["anomalies"]
    (runs.path(anomalies) / "Split-train").mkdir()
    (runs.path(anomalies) / "Split-train" / "SchemaDiff.pb").write_bytes(anomalies_pb2.Anomalies().SerializeToString())
    made = runs.execute("Interactions", {}, {"sequences": {}, "rejects": {}})
    _write_examples(runs.path(made["sequences"]) / "Split-test", [_sequence("known", ["i0", "i3"])])
    unknown = {"item_id": "i98", "reason": "unknown_item", "detail": "item_id: not in the catalogue (user 'known')"}
    _write_rejects(runs.path(made["rejects"]), [{"line": 3, **unknown}])
    media = runs.execute("MediaFeatures", {}, {"examples": {}})["examples"]
    _write_examples(runs.path(media) / "Split-train", [_media(item) for item in ITEMS])
    trained = runs.execute("RetrievalTrainer", {}, {"model": {}, "model_run": {}})
    log = EpochLog(str(runs.path(trained["model_run"]) / "content"))
    for epoch, error in enumerate((0.9, 0.5, 0.6)):
        log.on_epoch_end(epoch, {"val_error": error})
    log.on_train_end()
    index = runs.path(runs.execute("ItemIndex", {}, {"index": {}})["index"])
    np.save(index / "vectors.npy", np.random.default_rng(0).normal(size=(len(ITEMS), 4)).astype(np.float32))
    (index / "item_ids.json").write_text(json.dumps(ITEMS))
    (index / "report.json").write_text(json.dumps(INDEX_REPORT))
    evaluator = runs.execute("RetrievalEvaluator", {}, {"evaluation": {}, "blessing": {"blessed": 1}})
    (runs.path(evaluator["evaluation"]) / "metrics.json").write_text(json.dumps(evaluation(ndcg)))
    exact = runs.execute("Recommender", {}, {"exact": {}})["exact"]
    shutil.copytree(servable, runs.path(exact) / "Format-Serving")
    runs.execute("ExactPusher", {"model": exact}, {"pushed_model": {"pushed": 1, "pushed_version": version}})
    (runs.work_path / "serving" / runs.name / version).mkdir(parents=True)


INDEX_REPORT = {
    "kind": "scann",
    "num_items": len(ITEMS),
    "queries": 10,
    "recall": {"10": 0.97},
    "curve": [
        {"leaves_to_search": 2.0, "reorder": 20.0, "recall@10": 0.9, "qps": 900.0},
        {"leaves_to_search": 4.0, "reorder": 20.0, "recall@10": 0.97, "qps": 600.0},
    ],
}


def evaluation(ndcg: float) -> dict:
    """A `metrics.json` in which ours is at `ndcg` and popularity at a tenth."""
    rows = [
        {"contender": name, "slice": part, "metric": "NDCG@10", "value": value, "low": value - 0.02,
         "high": value + 0.02, "users": 40}
        for part in ("all", "warm items", "cold items", "domain music")
        for name, value in (("ours", ndcg), ("popularity", 0.1))
    ]  # fmt: skip
    decision = {"blessed": True, "reason": "blessed; better than popularity", "metric": "NDCG@10", "value": ndcg,
                "popularity": 0.1, "last": None}  # fmt: skip
    return {"rows": rows, "decision": decision, "users": 40, "users_without_truth": 3, "targets_after_question": 2,
            "data": "digest"}  # fmt: skip


def _write_examples(folder: Path, features: list[dict[str, tf.train.Feature]]) -> None:
    folder.mkdir(parents=True)
    with tf.io.TFRecordWriter(f"{folder}/data-00000-of-00001.gz", "GZIP") as writer:
        for one in features:
            writer.write(tf.train.Example(features=tf.train.Features(feature=one)).SerializeToString())


def _write_rejects(folder: Path, rejects: list[dict]) -> None:
    counts = {"rows": 13, "accepted": 12, "rejected": 1}
    files = {"/somewhere/items.csv": counts}
    reasons = {one["reason"]: 1 for one in rejects}
    summary = {"rows": 13, "accepted": 12, "rejects": reasons, "notes": {}, "files": files}
    (folder / "summary.json").write_text(json.dumps(summary))
    lines = [json.dumps({"stage": "catalogue", "source": "/somewhere/items.csv", **one}) for one in rejects]
    (folder / "rejects.jsonl").write_text("\n".join(lines))


def _write_statistics(runs: Runs, node: str, table: pd.DataFrame) -> None:
    folder = runs.path(runs.execute(node, {}, {"statistics": {}})["statistics"]) / "Split-train"
    folder.mkdir()
    statistics = tfdv.generate_statistics_from_dataframe(table)
    (folder / "FeatureStats.pb").write_bytes(statistics.SerializeToString())


def _item(item_id: str) -> dict[str, tf.train.Feature]:
    title = HOSTILE if item_id == "i1" else f"Title of {item_id}"
    about = {"title": title, "domain": "music" if item_id < "i5" else "film", "media_uri": f"{item_id}#1.wav"}
    return {"item_id": _bytes(item_id), **{name: _bytes(value) for name, value in about.items()}}


def _media(item_id: str) -> dict[str, tf.train.Feature]:
    """A moving picture that is all red for i0, a sound that fades for the others."""
    if item_id == "i0":
        frames = np.zeros((4, 48, 48, 3), np.uint8)
        frames[..., 0] = 255
        features = {"item_id": _bytes(item_id), "has_video": _ints(1), "has_audio": _ints(0)}
        return features | {"video_frames": _raw(frames), "video_num_frames": _ints(4)}
    log_mel = np.linspace(255, 0, 3 * 300 * 64).astype(np.uint8)
    features = {"item_id": _bytes(item_id), "has_video": _ints(0), "has_audio": _ints(1)}
    return features | {"audio_log_mel": _raw(log_mel), "audio_num_frames": _ints(300, 300, 300)}


def _sequence(user_id: str, item_ids: list[str]) -> dict[str, tf.train.Feature]:
    ones = [1.0] * len(item_ids)
    return {
        "user_id": _bytes(user_id),
        "item_ids": _bytes(*item_ids),
        "events": _bytes(*["play"] * len(item_ids)),
        "timestamps_s": _ints(*range(len(item_ids))),
        "weights": _floats(*ones),
        "values": _floats(*ones),
        "positives": _ints(*[1] * len(item_ids)),
        "num_history": _ints(1),
        "ordered": _ints(1),
    }


def _bytes(*texts: str) -> tf.train.Feature:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[text.encode() for text in texts]))


def _raw(array: np.ndarray) -> tf.train.Feature:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[array.tobytes()]))


def _floats(*values: float) -> tf.train.Feature:
    return tf.train.Feature(float_list=tf.train.FloatList(value=values))


def _ints(*values: int) -> tf.train.Feature:
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))
