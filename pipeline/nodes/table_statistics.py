"""TFX node that writes TFDV's statistics of a table, as StatisticsGen does, from many Examples at a time."""

import apache_beam as beam
import tensorflow_data_validation as tfdv
from tfx.components.statistics_gen.executor import DEFAULT_FILE_NAME
from tfx.dsl.component.experimental.annotations import BeamComponentParameter, InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import artifact_utils
from tfx.types.standard_artifacts import Examples, ExampleStatistics

from components.artifacts import split_uri
from components.example_tables import ReadRecordBatches

SPLIT = "train"


@component(use_beam=True)
def TableStatistics(
    examples: InputArtifact[Examples],
    statistics: OutputArtifact[ExampleStatistics],
    code: Parameter[str],
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
):
    """Describe the one split of a table.

    code: fingerprint of our code, for the cache.
    """
    statistics.split_names = artifact_utils.encode_split_names([SPLIT])
    statistics.span = 0
    path = f"{split_uri(statistics, SPLIT)}/{DEFAULT_FILE_NAME}"
    with beam_pipeline as pipeline:
        _ = (
            pipeline
            | "ReadExamples" >> ReadRecordBatches(split_uri(examples, SPLIT))
            | "Describe" >> tfdv.GenerateStatistics()
            | "WriteStatistics" >> tfdv.WriteStatisticsToBinaryFile(path)
        )
