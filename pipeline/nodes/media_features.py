"""The TFX node MediaFeatures: catalogue examples and media files in, item examples and a rejects report out."""

import json

import apache_beam as beam
from tfx.dsl.component.experimental.annotations import BeamComponentParameter, InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import Examples

from components.artifacts import WriteRecords, prepare_examples, split_uri
from components.media.features import OUTCOMES, REJECTS, AddMediaFeatures, SummariseOutcomes, check_reject_share
from components.rejects import read_summary
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
    prepare_examples(examples, [SPLIT])
    with beam_pipeline as pipeline:
        found = (
            pipeline
            | "Read the catalogue" >> beam.io.ReadFromTFRecord(f"{split_uri(catalogue, SPLIT)}/*")
            | "Add media features" >> AddMediaFeatures(media_root)
        )
        _ = found["items"] | "Write items" >> WriteRecords(split_uri(examples, SPLIT))
        _ = (
            found[REJECTS]
            | "Format rejects" >> beam.Map(json.dumps, ensure_ascii=False)
            | "Write rejects"
            >> beam.io.WriteToText(f"{rejects.uri}/rejects.jsonl", num_shards=1, shard_name_template="")
        )
        _ = (
            found[OUTCOMES]
            | "Summarise" >> SummariseOutcomes()
            | "Write summary"
            >> beam.io.WriteToText(f"{rejects.uri}/summary.json", num_shards=1, shard_name_template="")
        )
    check_reject_share(read_summary(rejects.uri), max_reject_share)
