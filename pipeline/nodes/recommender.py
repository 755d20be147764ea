"""The TFX node Recommender: model and index in, the one-call SavedModels out."""

import json

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
    serving: Parameter[str],
    data: Parameter[str],
    ranking: Parameter[str],
    withdrawn: Parameter[str],
    code: Parameter[str],
) -> None:
    """Export the answer twice: `exact` for stock TensorFlow Serving, `scann` over the index as it was built.

    items: item examples (not transformed). ranker: used where `ranker_blessing` says so, else the order is that of retrieval.
    serving, data, ranking: ServingConfig, DataConfig and RankingConfig as JSON. withdrawn: ids that are never shown, a JSON
    list. code: fingerprint of our code, for the cache.
    Raises ExportError where an export does not answer as it did before it was saved.
    """
    from serving.export.build_servable import ServableParts, build_servables

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
        from_json(ServingConfig, serving),
        from_json(DataConfig, data),
        from_json(RankingConfig, ranking),
        json.loads(withdrawn),
    )
    logging.info("recommender: %s", json.dumps(counts))
