"""Memory is for models, not for events."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
ITEMS = 300
EVENTS = 60  # of a user


def _peak_bytes(tiny, folder: Path, users: int) -> tuple[int, int]:
    """At the peak, and before: what the libraries take, which varies by 15 MiB from start to start."""
    random = np.random.default_rng(0)
    names = [f"item-{item}" for item in range(ITEMS)]
    tiny.write_records(
        folder / "items" / "part.gz", [tiny.serialized({**tiny.raw_features(0, 0), "item_id": name}) for name in names]
    )
    chosen = random.integers(0, ITEMS, (64, EVENTS))
    tastes = [tiny.sequence_example("somebody", [names[item] for item in row]) for row in chosen]
    tiny.write_records(folder / "train" / "part.gz", [tastes[user % 64] for user in range(users)])
    held_out = [
        tiny.sequence_example("somebody", [names[item] for item in row], num_history=EVENTS - 5) for row in chosen
    ]
    tiny.write_records(folder / "eval" / "part.gz", [held_out[user % 64] for user in range(users // 4)])
    command = [
        sys.executable,
        "-W",
        "ignore",
        str(Path(__file__).with_name("memory.py")),
        str(folder),
        str(folder / "mapped"),
    ]
    environment = {
        "PYTHONPATH": str(ROOT),
        "TF_USE_LEGACY_KERAS": "1",
        "CUDA_VISIBLE_DEVICES": "-1",
        "PATH": "/usr/bin:/bin",
    }
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["interactions"] == users * EVENTS
    return report["peak"], report["before"]


@pytest.mark.slow
def test_peak_memory_is_flat_as_events_grow_tenfold(tiny, tmp_path):
    """120,000 and 1,200,000 interactions: read, counted, factorised for the start, trained on, validated."""
    (few, before_few), (many, before_many) = (
        _peak_bytes(tiny, tmp_path / str(users), users) for users in (2_000, 20_000)
    )
    growth = (many - before_many) - (few - before_few)
    assert growth <= 0.1 * few, f"{growth / 2**20:.0f} MiB more for 10 x than the {few / 2**20:.0f} MiB for 1 x"
