"""The TFX node MediaFeatures: catalogue examples and media files in, item examples and a rejects report out."""

import json
import sys

import apache_beam as beam
from tfx.dsl.component.experimental.annotations import BeamComponentParameter, InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import Examples
from tqdm import tqdm

from components.account import MEDIA_NOTES
from components.artifacts import WriteRecords, prepare_examples, split_uri
from components.config import DataConfig
from components.media.addresses import MediaRoots
from components.media.features import ACCEPTED, NOTES, REJECTS, AddMediaFeatures, check_reject_share
from components.media.isolation import Decoder
from components.rejects import WriteRejects, read_summary
from components.settings import from_json
from zhiyin_artifacts import Rejects

SPLIT = "train"


@component(use_beam=True)
def MediaFeatures(
    catalogue: InputArtifact[Examples],
    examples: OutputArtifact[Examples],
    rejects: OutputArtifact[Rejects],
    data: Parameter[str],
    fingerprint: Parameter[str],
    code: Parameter[str],
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
) -> None:
    """Decode each item's medium and add its audio and video features.

    data: a DataConfig as JSON, of which media_root, media_roots and max_reject_share are read. fingerprint:
    `media_fingerprint` of the files; code: a fingerprint of this node's code. Both only stand in the cache key.
    `notes.jsonl` beside the rejects lists what is told of media that could be used.
    Raises TooManyRejects, with counts by reason, where more than max_reject_share of the media could not be used.
    """
    settings = from_json(DataConfig, data)
    prepare_examples(examples, [SPLIT])
    roots = MediaRoots(settings.media_root, settings.media_roots)
    if roots.all:
        with Decoder() as decoder:
            tqdm.write(f"  {decoder.confinement()}", file=sys.stderr)
    with beam_pipeline as pipeline:
        found = (
            pipeline
            | "Read the catalogue" >> beam.io.ReadFromTFRecord(f"{split_uri(catalogue, SPLIT)}/*")
            | "Add media features" >> AddMediaFeatures(roots)
        )
        _ = found["items"] | "Write items" >> WriteRecords(split_uri(examples, SPLIT))
        counted = {code: found[NOTES] | f"Pick notes {code}" >> beam.Filter(has_reason, code) for code in MEDIA_NOTES}
        accounts = {ACCEPTED: found[ACCEPTED], REJECTS: found[REJECTS]} | counted
        _ = accounts | "Write rejects" >> WriteRejects(rejects.uri)
        _ = (
            found[NOTES]
            | "Format notes" >> beam.Map(json.dumps, ensure_ascii=False)
            | "Write notes" >> beam.io.WriteToText(f"{rejects.uri}/notes.jsonl", num_shards=1, shard_name_template="")
        )
    check_reject_share(read_summary(rejects.uri), settings.max_reject_share)


def has_reason(row: dict, code: str) -> bool:
    """Whether a reject or a note has that code."""
    return row["reason"] == code
