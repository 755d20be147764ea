# mypy: ignore-errors
# (TFX's annotations are markers that it replaces by values; no type checker understands them.)
"""The TFX node RetrievalTuner: the trainer's inputs in, better settings out, as TFX's own Tuner writes them."""

import dataclasses
import json

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import artifact_utils
from tfx.types.standard_artifacts import Examples, HyperParameters, TunerResults
from tfx.utils import io_utils

from components.config import DataConfig
from components.settings import from_json
from trainer.config.engine import EngineConfig
from trainer.config.retrieval import RetrievalConfig
from trainer.config.tuning import TuningConfig


@component
def RetrievalTuner(
    sequences: InputArtifact[Examples],
    items: InputArtifact[Examples],
    item_examples: InputArtifact[Examples],
    best_hyperparameters: OutputArtifact[HyperParameters],
    tuner_results: OutputArtifact[TunerResults],
    data: Parameter[str],
    retrieval: Parameter[str],
    tuning: Parameter[str],
    engine: Parameter[str],
    storage_dir: Parameter[str],
    code: Parameter[str],
) -> None:
    """Search the settings of the retrieval model on the splits train and eval.

    items: transformed; item_examples: not. data, retrieval, tuning, engine: the configurations as JSON. storage_dir:
    folder that keeps the search through a kill; none where empty. code: fingerprint of our code, for the cache.
    Writes `best_hyperparameters.txt`, an object from setting to value, and `tuner_results.json`, everything about the
    trials.
    """
    from trainer.retrieval.run_tuning import TuningRequest, tune_retrieval

    found = tune_retrieval(
        TuningRequest(
            train_files=[f"{artifact_utils.get_split_uri([sequences], 'train')}/*"],
            eval_files=[f"{artifact_utils.get_split_uri([sequences], 'eval')}/*"],
            items=artifact_utils.get_split_uri([items], "train"),
            item_examples=artifact_utils.get_split_uri([item_examples], "train"),
            folder=storage_dir,
            code=code,
            data=from_json(DataConfig, data),
            retrieval=from_json(RetrievalConfig, retrieval),
            tuning=from_json(TuningConfig, tuning),
            engine=from_json(EngineConfig, engine),
        )
    )
    io_utils.write_string_file(f"{best_hyperparameters.uri}/best_hyperparameters.txt", json.dumps(found.best))
    io_utils.write_string_file(
        f"{tuner_results.uri}/tuner_results.json", json.dumps(dataclasses.asdict(found), indent=1)
    )
