"""The TFX node FrozenEncoders: item examples in, the same with a vector of each pretrained encoder and rejects out."""

import apache_beam as beam
from tfx.dsl.component.experimental.annotations import BeamComponentParameter, InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import Examples

from components.artifacts import WriteRecords, prepare_examples, split_uri
from components.config import DataConfig
from components.media.addresses import MediaRoots
from components.media.features import ACCEPTED, REJECTS, check_reject_share
from components.pretrained_config import Encoders
from components.rejects import WriteRejects, read_summary
from components.settings import from_json
from serving.offline.frozen_embeddings import AddEmbeddings
from zhiyin_artifacts import Rejects

SPLIT = "train"


@component(use_beam=True)
def FrozenEncoders(
    items: InputArtifact[Examples],
    examples: OutputArtifact[Examples],
    rejects: OutputArtifact[Rejects],
    encoders: Parameter[str],
    data: Parameter[str],
    fingerprint: Parameter[str],
    code: Parameter[str],
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
) -> None:
    """Encode each item once by each encoder.

    encoders: an Encoders as JSON; data: a DataConfig as JSON, of which media_root, media_roots and max_reject_share are
    read. fingerprint: of the models' files; code: of this node's code. Both only stand in the cache key.
    Raises ValueError where an encoder cannot be loaded; TooManyRejects where more than max_reject_share of the vectors
    are not finite.
    """
    prepare_examples(examples, [SPLIT])
    from trainer.encoders.frozen import load

    settings = from_json(DataConfig, data)
    roots = MediaRoots(settings.media_root, settings.media_roots)
    with beam_pipeline as pipeline:
        found = (
            pipeline
            | "ReadItems" >> beam.io.ReadFromTFRecord(f"{split_uri(items, SPLIT)}/*")
            | "AddEmbeddings" >> AddEmbeddings(from_json(Encoders, encoders), load, roots)
        )
        _ = found["items"] | "WriteItems" >> WriteRecords(split_uri(examples, SPLIT))
        _ = {name: found[name] for name in (ACCEPTED, REJECTS)} | "WriteRejects" >> WriteRejects(rejects.uri)
    check_reject_share(read_summary(rejects.uri), settings.max_reject_share, "vectors")
