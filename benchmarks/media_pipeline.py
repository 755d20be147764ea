"""One run of the media transform on Beam, in a process of its own so that its peak memory is its own. Started by
`benchmarks.media`."""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from pathlib import Path

import apache_beam as beam
import tensorflow as tf
from apache_beam.options.pipeline_options import PipelineOptions

from components.media.addresses import MediaRoots
from components.media.features import AddMediaFeatures


def main(paths: list[str], items: int, workers: int, in_processes: bool) -> dict:
    """Seconds and peak memory (MB, this process and its decoder) of `items` items over these files."""
    options = ["--runner=DirectRunner", f"--direct_num_workers={workers}"]
    options += ["--direct_running_mode=multi_processing"] if in_processes else []
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, beam.Pipeline(options=PipelineOptions(options)) as pipeline:
        found = (
            pipeline
            | beam.Create([example(number, paths[number % len(paths)]) for number in range(items)])
            | AddMediaFeatures(MediaRoots(media_roots=tuple({str(Path(path).parent) for path in paths})))
        )
        _ = found["items"] | beam.io.WriteToTFRecord(f"{folder}/items", file_name_suffix=".gz")
    peaks_kb = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return {"seconds": time.perf_counter() - begin, "peak_mb": sum(peaks_kb) / 1024}


def example(number: int, path: str) -> bytes:
    """A catalogue example with nothing but an id and a medium."""
    made = tf.train.Example()
    made.features.feature["item_id"].bytes_list.value.append(str(number).encode())
    made.features.feature["media_uri"].bytes_list.value.append(path.encode())
    return made.SerializeToString()


if __name__ == "__main__":
    print(json.dumps(main(**json.loads(sys.argv[1]))))
