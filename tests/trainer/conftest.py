"""Tiny catalogues and users, written as the nodes before the trainer write them."""

import types
import zlib
from pathlib import Path

import numpy as np
import pytest

from components.config import DataConfig, TableConfig
from components.contract import AUDIO_FRAMES, AUDIO_MELS, AUDIO_SEGMENTS, TAG_SLOTS, item_features
from components.datasets.interactions import Interactions, read_interactions
from components.settings import to_json
from trainer.config.encoder import EncoderConfig
from trainer.config.engine import EngineConfig
from trainer.config.retrieval import RetrievalConfig
from trainer.data import ItemTable
from trainer.keras import tf

NUM_ITEMS = 12
ENGINE = EngineConfig()
DATA = DataConfig(
    catalogue=TableConfig("-"),
    events=TableConfig("-"),
    categorical=("label",),
    embeddings={"given": 3},
    history_length=8,
)
SMALL = EncoderConfig(
    width=8,
    heads=2,
    layers=1,
    dropout=0.0,
    keep_tokens=0.5,
    audio_patch_frames=75,
    audio_patch_mels=32,
    video_patch_pixels=24,
)
CONFIG = RetrievalConfig(
    embedding_dim=8,
    encoder=SMALL,
    dropout=0.0,
    epochs=3,
    batch_size=8,
    sequence_layers=1,
    negatives=6,
)


def raw_features(kind: int, seed: int) -> dict[str, object]:
    """A transformed item of one of two kinds, which all its modalities agree about."""
    random = np.random.default_rng(seed)
    mels = 60 + 90 * kind + random.integers(0, 40, (AUDIO_SEGMENTS, AUDIO_FRAMES, AUDIO_MELS))
    frames = 40 + 120 * kind + random.integers(0, 40, (4, 48, 48, 3))
    return {
        "item_id": f"item-{seed}",
        "text_tokens": np.pad([2 + kind, 4 + seed % 3], (0, 46)),
        "has_text": 1,
        "tag_ids": np.pad([2 + kind], (0, TAG_SLOTS - 1)),
        "has_tags": 1,
        "domain_id": 2,
        "creator_id": 2 + seed % 2,
        "label_id": 0,
        "numeric": np.array([0.1 * seed], np.float32),
        "numeric_present": np.ones(1, np.float32),
        "audio_log_mel": mels.astype(np.uint8),
        "audio_num_frames": np.array([AUDIO_FRAMES, AUDIO_FRAMES, 100]),
        "has_audio": 1,
        "video_frames": frames.astype(np.uint8),
        "video_times_s": np.array([0.0, 1.0, 2.0, 0.0], np.float32),
        "video_num_frames": 3,
        "has_video": 1,
        "embedding_given": np.array([kind, 1 - kind, random.random()], np.float32),
        "has_embedding_given": 1,
    }


def serialized(features: dict[str, object]) -> bytes:
    """A tf.Example of a transformed item."""
    example = tf.train.Example()
    for feature in item_features(DATA):
        value, slot = features[feature.name], example.features.feature[feature.name]
        if feature.dtype == "string":
            slot.bytes_list.value.append(str(value).encode())
        elif feature.dtype == "uint8":
            slot.bytes_list.value.append(value if isinstance(value, bytes) else np.asarray(value).tobytes())
        elif feature.dtype == "float32":
            slot.float_list.value.extend(np.ravel(value).astype(float))
        else:
            slot.int64_list.value.extend(np.ravel(value).astype(int))
    return example.SerializeToString()


def sequence_example(
    user: str, items: list[str], num_history: int = 0, ordered: bool = True, event: str = "play"
) -> bytes:
    """A tf.Example of a user's sequence, an event a minute."""
    example = tf.train.Example()
    feature = example.features.feature
    feature["user_id"].bytes_list.value.append(user.encode())
    feature["item_ids"].bytes_list.value.extend(item.encode() for item in items)
    feature["events"].bytes_list.value.extend([event.encode()] * len(items))
    feature["timestamps_s"].int64_list.value.extend(
        [1_700_000_000 + 60 * position for position in range(len(items))] if ordered else []
    )
    feature["values"].float_list.value.extend([float("nan")] * len(items))
    feature["weights"].float_list.value.extend([1.0] * len(items))
    feature["positives"].int64_list.value.extend([1] * len(items))
    feature["num_history"].int64_list.value.append(num_history)
    feature["ordered"].int64_list.value.append(int(ordered))
    return example.SerializeToString()


def write_records(path: Path, records: list[bytes]) -> str:
    """A gzipped TFRecord file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path), tf.io.TFRecordOptions(compression_type="GZIP")) as writer:
        for record in records:
            writer.write(record)
    return str(path)


def checkerboard_records(num_users: int = 24, num_items: int = NUM_ITEMS, held_out: bool = False) -> list[bytes]:
    """Even users take even items and odd users odd ones, each all but one of its kind; held out: that one follows the
    history.
    """
    records = []
    for user in range(num_users):
        own = [f"item-{item}" for item in range(num_items) if item % 2 == user % 2]
        withheld = own[(user // 2) % len(own)]
        known = [item for item in own if item != withheld]
        shuffled = sorted(known, key=lambda item, user=user: zlib.crc32(f"{user}{item}".encode()))
        records.append(
            sequence_example(
                f"user-{user}", [*shuffled, withheld] if held_out else shuffled, len(shuffled) if held_out else 0
            )
        )
    return records


@pytest.fixture(scope="session")
def item_file(tmp_path_factory) -> str:
    """Twelve items, of even and of odd kind."""
    records = [serialized(raw_features(item % 2, item)) for item in range(NUM_ITEMS)]
    return write_records(tmp_path_factory.mktemp("items") / "Split-train" / "items.gz", records)


@pytest.fixture()
def table(item_file, tmp_path) -> ItemTable:
    return ItemTable.build(item_file, DATA, tmp_path / "table")


@pytest.fixture(scope="session")
def sequence_files(tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("sequences")
    return {
        "train": write_records(folder / "Split-train" / "part.gz", checkerboard_records()),
        "eval": write_records(folder / "Split-eval" / "part.gz", checkerboard_records(held_out=True)),
    }


@pytest.fixture()
def train_split(table, sequence_files) -> Interactions:
    return read_interactions([sequence_files["train"]], table.item_ids, tuple(DATA.event_rules))


@pytest.fixture()
def eval_split(table, sequence_files) -> Interactions:
    return read_interactions([sequence_files["eval"]], table.item_ids, tuple(DATA.event_rules))


@pytest.fixture(scope="session")
def run_arguments(item_file, sequence_files):
    """What TFX hands to run_fn, as a dict that JSON knows."""

    def of(folder: Path, checkpoints: Path, config: RetrievalConfig = CONFIG, engine: EngineConfig = ENGINE) -> dict:
        return {
            "train_files": [sequence_files["train"]],
            "eval_files": [sequence_files["eval"]],
            "transform_graph_path": None,
            "serving_model_dir": str(folder / "model"),
            "model_run_dir": str(folder / "run"),
            "hyperparameters": None,
            "custom_config": {
                "items": str(Path(item_file).parent),
                "data": to_json(DATA),
                "retrieval": to_json(config),
                "engine": to_json(engine),
                "checkpoints": str(checkpoints),
            },
        }

    return of


@pytest.fixture(scope="session")
def tiny():
    """The module's constants and writers, for tests that make worlds of their own."""
    return types.SimpleNamespace(
        DATA=DATA, CONFIG=CONFIG, SMALL=SMALL, NUM_ITEMS=NUM_ITEMS, raw_features=raw_features, serialized=serialized,
        sequence_example=sequence_example, write_records=write_records, checkerboard_records=checkerboard_records,
    )  # fmt: skip
