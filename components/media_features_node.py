"""The TFX node MediaFeatures: catalogue examples and media files in, item examples and a rejects report out."""

import json

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems
from tfx.dsl.component.experimental.annotations import BeamComponentParameter, InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils
from tfx.types.standard_artifacts import Examples

from components.media_features import OUTCOMES, REJECTS, AddMediaFeatures, SummariseOutcomes, check_reject_share
from zhiyin_artifacts import Rejects

SPLIT = "train"


@component(use_beam=True)
def MediaFeatures(
    catalogue: InputArtifact[Examples],
    examples: OutputArtifact[Examples],
    rejects: OutputArtifact[Rejects],
    media_root: Parameter[str],
    max_reject_share: Parameter[float],
    fingerprint: Parameter[str],
    code: Parameter[str],
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
) -> None:
    """Decode each item's medium and add its audio and video features.

    fingerprint: `media_fingerprint` of the files; code: a fingerprint of this node's code. Both only stand in the cache key.
    Raises TooManyRejects, with counts by reason, where more than max_reject_share of the media could not be used.
    """
    examples.split_names = artifact_utils.encode_split_names([SPLIT])
    examples.span = 0
    examples.set_string_custom_property("payload_format", example_gen_pb2.PayloadFormat.Name(example_gen_pb2.FORMAT_TF_EXAMPLE))
    examples.set_string_custom_property("file_format", "tfrecords_gzip")
    written = f"{artifact_utils.get_split_uri([examples], SPLIT)}/data_tfrecord"
    summary_path = f"{rejects.uri}/summary.json"
    with beam_pipeline as pipeline:
        found = (
            pipeline
            | "Read the catalogue" >> beam.io.ReadFromTFRecord(f"{artifact_utils.get_split_uri([catalogue], SPLIT)}/*")
            | "Add media features" >> AddMediaFeatures(media_root)
        )
        _ = found["items"] | "Write items" >> beam.io.WriteToTFRecord(written, file_name_suffix=".gz")
        _ = (
            found[REJECTS]
            | "Format rejects" >> beam.Map(json.dumps, ensure_ascii=False)
            | "Write rejects" >> beam.io.WriteToText(f"{rejects.uri}/rejects.jsonl", num_shards=1, shard_name_template="")
        )
        _ = (
            found[OUTCOMES]
            | "Summarise" >> SummariseOutcomes()
            | "Write summary" >> beam.io.WriteToText(summary_path, num_shards=1, shard_name_template="")
        )
    with FileSystems.open(summary_path) as file:
        check_reject_share(json.loads(file.read()), max_reject_share)
