"""The TFX node Recommender: model and index in, the one-call SavedModels out."""

import json

from absl import logging
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import artifact_utils
from tfx.types.standard_artifacts import Examples, Model
from tfx.utils import path_utils

import zhiyin_artifacts
from components.later_rooms import function_at


@component
def Recommender(
    model: InputArtifact[Model],
    index: InputArtifact[zhiyin_artifacts.ItemIndex],
    items: InputArtifact[Examples],
    sequences: InputArtifact[Examples],
    exact: OutputArtifact[Model],
    scann: OutputArtifact[Model],
    serving: Parameter[str],
    code: Parameter[str],
    build: Parameter[str] = "serving.bundle.build_bundle",
) -> None:
    """Export the answer twice: `exact` for stock TensorFlow Serving, `scann` over the index as it was built.

    items: item examples (not transformed). serving: a ServingConfig as JSON. code: fingerprint of our code, for the cache.
    build: dotted path of the function that exports. Raises what `build` raises, ExportError above all.
    """
    counts = function_at(build)(
        path_utils.serving_model_path(model.uri),
        index.uri,
        {split: artifact_utils.get_split_uri([sequences], split) for split in ("train", "eval", "test")},
        artifact_utils.get_split_uri([items], "train"),
        path_utils.serving_model_dir(exact.uri),
        path_utils.serving_model_dir(scann.uri),
        serving,
    )
    logging.info("recommender: %s", json.dumps(counts))
