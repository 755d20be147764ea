"""Reads and trains on so many users in this process, and prints the peak of its own memory: folder of a written world,
output folder.
"""

import json
import sys
import threading
import time
from pathlib import Path

from components.config import DataConfig, TableConfig
from components.datasets.interactions import read_interactions
from trainer.config.retrieval import RetrievalConfig
from trainer.data import ItemTable
from trainer.retrieval.run import build
from trainer.retrieval.train import fit_interactions


def anonymous_bytes() -> int:
    """Memory that the kernel cannot drop: pages of mapped files, which it can, are not in it."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) * 1024


def main(world: Path, place: Path) -> None:
    peak, is_over = [0], threading.Event()

    def watch() -> None:
        while not is_over.is_set():
            peak[0] = max(peak[0], anonymous_bytes())
            time.sleep(0.01)

    watcher = threading.Thread(target=watch)
    data = DataConfig(catalogue=TableConfig("-"), events=TableConfig("-"))
    config = RetrievalConfig(
        embedding_dim=8,
        epochs=2,
        batch_size=256,
        modalities=(),
        use_attributes=False,
        history_dropout=0.5,
        metric="NDCG@10",
    )
    table = ItemTable.of_ids(str(world / "items"))
    before = anonymous_bytes()
    watcher.start()
    try:
        splits = [
            read_interactions([str(world / split)], table.item_ids, tuple(data.event_rules), place / split)
            for split in ("train", "eval")
        ]
        model = build(table, splits[0], data, config)
        fit_interactions(model, *splits, table)
    finally:
        is_over.set()
        watcher.join()
    sys.stdout.write(json.dumps({"interactions": len(splits[0].items), "before": before, "peak": peak[0]}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
