"""Examples artifacts on disk, and fingerprints of input files."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.io.filesystem import BeamIOError
from tfx.components.util import examples_utils
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils
from tfx.types.artifact import Artifact

from components.files import fixed_folder, is_remote, matching_files, remote_files


def prepare_examples(examples: Artifact, splits: Sequence[str]) -> None:
    """Give an Examples artifact its split names, span and format: gzipped TFRecords of tf.Example."""
    examples.split_names = artifact_utils.encode_split_names(list(splits))
    examples.span = 0
    payload = example_gen_pb2.PayloadFormat.FORMAT_TF_EXAMPLE  # type: ignore[attr-defined]
    examples_utils.set_payload_format(examples, payload)
    examples_utils.set_file_format(examples, "tfrecords_gzip")


def split_uri(examples: Artifact, split: str) -> str:
    """The folder of one split of an Examples artifact."""
    return artifact_utils.get_split_uri([examples], split)


class WriteRecords(beam.PTransform):
    """Writes serialized Examples as gzipped TFRecords into a split's folder; none give an empty file."""

    def __init__(self, uri: str):
        super().__init__()
        self._uri = uri

    def expand(self, records: beam.PCollection) -> Any:
        return records | "WriteRecords" >> beam.io.WriteToTFRecord(f"{self._uri}/data_tfrecord", file_name_suffix=".gz")


def file_fingerprint(patterns: Iterable[str]) -> str:
    """32 hex digits that change when a file behind the patterns is added, removed, renamed or edited.

    patterns: files, folders or globs, local or gs://. A file counts with its path below the folder that all patterns
    share, its size and its time of change (nanoseconds on a local disk, seconds elsewhere); moving that folder changes
    nothing.
    """
    wanted = [pattern for pattern in dict.fromkeys(patterns) if pattern]
    shared = os.path.commonprefix([fixed_folder(pattern) for pattern in wanted])
    shared = shared[: shared.rfind("/") + 1]
    files = [file for pattern in wanted for file in _files(pattern)]
    facts = sorted((path.removeprefix(shared), size, changed) for path, size, changed in files)
    return hashlib.blake2b(json.dumps(facts).encode(), digest_size=16).hexdigest()


def _files(pattern: str) -> list[tuple[str, int, int]]:
    """(path, size, time of change) of each file behind a pattern; none where there is none."""
    if is_remote(pattern):
        try:
            found = remote_files(pattern)
        except BeamIOError:
            return []
        return [(file.path, file.size_in_bytes, int(file.last_updated_in_seconds)) for file in found]
    stats = [(path, Path(path).stat()) for path in matching_files(pattern)]
    return [(path, stat.st_size, stat.st_mtime_ns) for path, stat in stats]
