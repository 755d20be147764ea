"""`python -m benchmarks.serving.make FOLDER ITEMS KIND REPORT`: a served model of that size, from the demo's towers and
ranker."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from benchmarks.serving.world import write
from pipeline import config as configuration
from pipeline import workflows

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "demo.yaml"


def main() -> None:
    """Run the demo, which is answered from the cache after the first time, and write the model."""
    folder, num_items, kind, report = sys.argv[1:]
    config = configuration.load(CONFIG)
    stages = workflows.train(config)
    towers, ranker = (
        str(stages[node].uri("model") / "Format-Serving") for node in ("RetrievalTrainer", "RankingTrainer")
    )
    found = write(Path(folder), int(num_items), kind, towers, ranker, config.data, config.ranking)
    Path(report).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
