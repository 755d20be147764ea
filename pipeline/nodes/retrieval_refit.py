# mypy: ignore-errors
# (TFX's annotations are markers that it replaces by values; no type checker understands them.)
"""The TFX node RetrievalRefit: a judged model in, the same trained again on all interactions out, with its index."""

from absl import logging
from tfx.components.util import model_utils
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.io import fileio
from tfx.types import artifact_utils
from tfx.types.standard_artifacts import Examples, Model, ModelBlessing, TransformGraph
from tfx.utils import io_utils, path_utils

import zhiyin_artifacts
from components.config import DataConfig
from components.events.splits import SPLITS
from components.pretrained_config import Encoders
from components.settings import from_json
from pipeline.run_history import REFIT_FILE
from serving.config import EvaluationConfig, ServingConfig
from trainer.config.engine import EngineConfig
from trainer.config.retrieval import RetrievalConfig


@component
def RetrievalRefit(
    model: InputArtifact[Model],
    index: InputArtifact[zhiyin_artifacts.ItemIndex],
    blessing: InputArtifact[ModelBlessing],
    sequences: InputArtifact[Examples],
    items: InputArtifact[Examples],
    item_examples: InputArtifact[Examples],
    transform_graph: InputArtifact[TransformGraph],
    served_model: OutputArtifact[Model],
    served_index: OutputArtifact[zhiyin_artifacts.ItemIndex],
    data: Parameter[str],
    engine: Parameter[str],
    serving: Parameter[str],
    evaluation: Parameter[str],
    encoders: Parameter[str],
    code: Parameter[str],
    users: InputArtifact[Examples] = None,
    encoder_weights: InputArtifact[zhiyin_artifacts.EncoderWeights] = None,
) -> None:
    """Train a blessed model again on train, eval and test, and build the index over its vectors.

    A model that is not blessed goes through as it is, and so does one whose refitted successor finds less of the test
    events (`serving.offline.refit.check_refitted`).
    model, index, items, users, encoder_weights: of the judged model. item_examples: items that are not transformed.
    data, engine, serving, evaluation, encoders: DataConfig, EngineConfig, ServingConfig, EvaluationConfig, Encoders as
    JSON. code: fingerprint of our code, for the cache.
    Raises RecallError where the index finds too few of the nearest items.
    """
    from serving.index import load_index, save_views
    from serving.offline.build_index import build_item_index
    from serving.offline.evaluation import JudgedModel
    from serving.offline.refit import check_refitted
    from trainer.retrieval.refit import refit
    from trainer.retrieval.run import Arguments

    folders = {split: artifact_utils.get_split_uri([sequences], split) for split in SPLITS}
    item_examples_folder = artifact_utils.get_split_uri([item_examples], "train")
    judged = JudgedModel(path_utils.serving_model_path(model.uri), index.uri, folders, item_examples_folder)
    model_dir = path_utils.serving_model_dir(served_model.uri)
    settings, holds, account = from_json(DataConfig, data), False, "not trained again, since it is not blessed"
    if model_utils.is_model_blessed(blessing):
        arguments = Arguments(
            train_files=[],
            eval_files=[],
            items=artifact_utils.get_split_uri([items], "train"),
            item_examples=item_examples_folder,
            users=artifact_utils.get_split_uri([users], "train") if users else None,
            transform_graph=transform_graph.uri,
            encoder_weights=encoder_weights.uri if encoder_weights else "",
            model_dir=model_dir,
            log_dir="",
            data=settings,
            retrieval=RetrievalConfig(),
            engine=from_json(EngineConfig, engine),
            encoder_configs=tuple(from_json(Encoders, encoders).each),
            privacy=None,  # refit is off where training is private
        )
        refitted_ids, views = refit(arguments, folders, judged.model)
        by_id = dict(zip(refitted_ids, views["vector"]))
        check = check_refitted(judged, model_dir, by_id, from_json(EvaluationConfig, evaluation), settings)
        holds, account = check.holds, check.account
    if holds:
        _, item_ids = load_index(judged.index, "exact")
        row_of = {item_id: row for row, item_id in enumerate(refitted_ids)}
        rows = [row_of[item_id] for item_id in item_ids]
        served, length = from_json(ServingConfig, serving), settings.history_length
        build_item_index(model_dir, item_ids, views["vector"][rows], folders["train"], served_index.uri, served, length)
        save_views(served_index.uri, {name: vectors[rows] for name, vectors in views.items()})
    else:
        if fileio.exists(model_dir):
            fileio.rmtree(model_dir)
        io_utils.copy_dir(judged.model, model_dir)
        io_utils.copy_dir(judged.index, served_index.uri)
    io_utils.write_string_file(f"{served_model.uri}/{REFIT_FILE}", account)
    logging.info("refit: %s", account)
