"""The TFX node Recommender: model and index in, the one-call SavedModels out."""

import json
from dataclasses import dataclass

from absl import logging
from tfx.components.util import model_utils
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import artifact_utils
from tfx.types.standard_artifacts import Examples, Model, ModelBlessing
from tfx.utils import path_utils

import zhiyin_artifacts
from components.config import DataConfig
from components.settings import from_json
from serving.config import ServingConfig
from trainer.config.ranking import RankingConfig


@dataclass(frozen=True)
class RecommenderSettings:
    """What the answer is built by."""

    serving: ServingConfig
    data: DataConfig
    ranking: RankingConfig
    withdrawn: tuple[str, ...] = ()  # ids of items that are never shown


@component
def Recommender(
    model: InputArtifact[Model],
    index: InputArtifact[zhiyin_artifacts.ItemIndex],
    items: InputArtifact[Examples],
    sequences: InputArtifact[Examples],
    ranker: InputArtifact[Model],
    ranker_blessing: InputArtifact[ModelBlessing],
    exact: OutputArtifact[Model],
    scann: OutputArtifact[Model],
    settings: Parameter[str],
    code: Parameter[str],
) -> None:
    """Export the answer twice: `exact` for stock TensorFlow Serving, `scann` over the index as it was built.

    items: item examples (not transformed).
    ranker: used where `ranker_blessing` says so, else the order is that of retrieval.
    settings: a RecommenderSettings as JSON.
    code: fingerprint of our code, for the cache.
    Raises SettingsError where the ranker reads other names than the data has; ExportError where an export holds a
    Python op.
    """
    from serving.export.build_servable import ServableParts, build_servables

    given = from_json(RecommenderSettings, settings)
    is_blessed = model_utils.is_model_blessed(ranker_blessing)
    if not is_blessed:
        logging.warning("recommender: the ranker is not blessed, so items stay in the order of retrieval")
    parts = ServableParts(
        path_utils.serving_model_path(model.uri),
        index.uri,
        {split: artifact_utils.get_split_uri([sequences], split) for split in ("train", "eval", "test")},
        artifact_utils.get_split_uri([items], "train"),
        path_utils.serving_model_path(ranker.uri) if is_blessed else None,
    )
    counts = build_servables(
        parts,
        path_utils.serving_model_dir(exact.uri),
        path_utils.serving_model_dir(scann.uri),
        given.serving,
        given.data,
        given.ranking,
        given.withdrawn,
    )
    logging.info("recommender: %s", json.dumps(counts))
