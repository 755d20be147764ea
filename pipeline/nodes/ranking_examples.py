# mypy: ignore-errors
# (TFX's annotations are markers that it replaces by values; no type checker understands them.)
"""The TFX node RankingExamples: what people took, beside what retrieval would have shown them at that time."""

import json

from absl import logging
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import artifact_utils
from tfx.types.standard_artifacts import Examples, Model
from tfx.utils import path_utils

import zhiyin_artifacts
from components.artifacts import prepare_examples, split_uri
from components.events.splits import SPLITS


@component
def RankingExamples(
    model: InputArtifact[Model],
    index: InputArtifact[zhiyin_artifacts.ItemIndex],
    items: InputArtifact[Examples],
    sequences: InputArtifact[Examples],
    examples: OutputArtifact[Examples],
    data: Parameter[str],
    ranking: Parameter[str],
    candidates: Parameter[int],
    code: Parameter[str],
    exposures_fingerprint: Parameter[str] = "",
) -> None:
    """Write ranking examples (docs/artifacts.md) of the splits train, eval and test.

    items: item examples (not transformed). data, ranking: DataConfig and RankingConfig as JSON. candidates: as the
    answer's. code, exposures_fingerprint: of our code and of the lists that were shown, for the cache.
    """
    from serving.offline.ranking_examples import write_ranking_examples

    prepare_examples(examples, SPLITS)
    counts = write_ranking_examples(
        path_utils.serving_model_path(model.uri),
        index.uri,
        {split: artifact_utils.get_split_uri([sequences], split) for split in SPLITS},
        artifact_utils.get_split_uri([items], "train"),
        {split: split_uri(examples, split) for split in SPLITS},
        data,
        ranking,
        int(candidates),
    )
    logging.info("ranking examples: %s", json.dumps(counts))
