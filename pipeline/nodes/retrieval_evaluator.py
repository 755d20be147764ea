"""The TFX node RetrievalEvaluator: full ranking on the test split, and a blessing that TFX's Pusher understands."""

from absl import logging
from tfx.components.evaluator import constants
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.io import fileio
from tfx.types import artifact_utils
from tfx.types.standard_artifacts import Examples, Model, ModelBlessing, ModelEvaluation
from tfx.utils import path_utils

import zhiyin_artifacts
from components.config import DataConfig
from components.settings import from_json
from serving.config import EvaluationConfig


@component
def RetrievalEvaluator(
    model: InputArtifact[Model],
    index: InputArtifact[zhiyin_artifacts.ItemIndex],
    items: InputArtifact[Examples],
    sequences: InputArtifact[Examples],
    evaluation: OutputArtifact[ModelEvaluation],
    blessing: OutputArtifact[ModelBlessing],
    settings: Parameter[str],
    data: Parameter[str],
    blessed_dir: Parameter[str],
    code: Parameter[str],
) -> None:
    """Write `metrics.json` and bless the model, or not.

    items: item examples (not transformed). settings, data: EvaluationConfig and DataConfig as JSON.
    blessed_dir: where the last blessed model is remembered between runs (with TFX's strategy for that, each second run
    misses the cache).
    code: fingerprint of our code, for the cache.
    """
    from serving.offline.evaluation import JudgedModel, evaluate_retrieval

    folders = {split: artifact_utils.get_split_uri([sequences], split) for split in ("train", "eval", "test")}
    judged = JudgedModel(
        path_utils.serving_model_path(model.uri),
        index.uri,
        folders,
        artifact_utils.get_split_uri([items], "train"),
    )
    fileio.makedirs(evaluation.uri)
    decision = evaluate_retrieval(
        judged, evaluation.uri, blessed_dir, from_json(EvaluationConfig, settings), from_json(DataConfig, data)
    )
    filename = constants.BLESSED_FILE_NAME if decision.blessed else constants.NOT_BLESSED_FILE_NAME
    fileio.makedirs(blessing.uri)
    with fileio.open(f"{blessing.uri}/{filename}", "w") as file:
        file.write("")
    blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_BLESSED_KEY, int(decision.blessed))
    blessing.set_string_custom_property(constants.ARTIFACT_PROPERTY_CURRENT_MODEL_URI_KEY, model.uri)
    blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_CURRENT_MODEL_ID_KEY, model.id)
    blessing.set_string_custom_property(constants.ARTIFACT_PROPERTY_BLESSING_MESSAGE_KEY, decision.reason)
    logging.info("retrieval: %s", decision.reason)
