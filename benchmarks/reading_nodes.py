"""One table through TableGen and Interactions in a process of its own; run as a script, so that an earlier commit's
code can be measured with it (PYTHONPATH)."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def main(events: str, catalogue: str, folder: str) -> None:
    """Prints JSON: seconds and cpu_seconds of both nodes together, cpu seconds of each, peak_mb of all."""
    import apache_beam as beam
    from tfx.types.standard_artifacts import Examples

    from benchmarks.peak import peak_mb
    from components.config import DataConfig, TableConfig
    from components.settings import to_json
    from pipeline.nodes.interactions import Interactions
    from pipeline.nodes.table_gen import TableGen
    from zhiyin_artifacts import Rejects

    logging.getLogger().setLevel(logging.ERROR)
    data = to_json(DataConfig(catalogue=TableConfig(catalogue), events=TableConfig(events)))

    def artifact(kind: Any, name: str) -> Any:
        made = kind()
        made.uri = f"{folder}/{name}"
        return made

    def read(table: str) -> Any:
        examples, rejects = artifact(Examples, f"{table}/examples"), artifact(Rejects, f"{table}/rejects")
        settings = {"table": table, "data": data, "fingerprint": "", "code": ""}
        TableGen.test_call(examples=examples, rejects=rejects, **settings, beam_pipeline=beam.Pipeline())
        return examples, rejects

    items, item_rejects = read("catalogue")
    started = time.monotonic()
    (rows, row_rejects), table_s = _timed(lambda: read("events"))
    outputs = {"sequences": artifact(Examples, "sequences"), "rejects": artifact(Rejects, "rejects")}
    rejects = {"event_rejects": row_rejects, "catalogue_rejects": item_rejects}  # earlier commits take none
    taken = {name: found for name, found in rejects.items() if name in Interactions.SPEC_CLASS.INPUTS}
    inputs = {"events": rows, "catalogue": items, **taken, "data": data, "code": ""}
    _, sequences_s = _timed(lambda: Interactions.test_call(**inputs, **outputs, beam_pipeline=beam.Pipeline()))
    costs = {
        "seconds": time.monotonic() - started,
        "cpu_seconds": table_s + sequences_s,
        "table_cpu_seconds": table_s,
        "sequences_cpu_seconds": sequences_s,
        "peak_mb": peak_mb(),
        "accepted": json.loads(Path(folder, "rejects", "summary.json").read_text("utf-8"))["accepted"],
    }
    print(json.dumps(costs))


def _timed(function: Callable[[], Any]) -> tuple[Any, float]:
    """What it gives, and the processor seconds of all its threads."""
    before = time.process_time()
    return function(), time.process_time() - before


if __name__ == "__main__":
    main(*sys.argv[1:])
