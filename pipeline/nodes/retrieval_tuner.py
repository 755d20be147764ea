# mypy: ignore-errors
# (TFX's annotations are markers that it replaces by values; no type checker understands them.)
"""The TFX node RetrievalTuner: the trainer's inputs in, better settings out, as TFX's own Tuner writes them."""

import json

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import artifact_utils
from tfx.types.standard_artifacts import Examples, HyperParameters, TunerResults
from tfx.utils import io_utils


@component
def RetrievalTuner(
    sequences: InputArtifact[Examples],
    items: InputArtifact[Examples],
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

    data, retrieval, tuning, engine: the configurations as JSON. storage_dir: folder that keeps the search through a kill; none where
    empty. code: fingerprint of our code, for the cache.
    Writes `best_hyperparameters.txt`, an object from setting to value, and `tuner_results.json`, everything about the trials.
    """
    from trainer.retrieval.run_tuning import tune_retrieval

    found = tune_retrieval(
        [f"{artifact_utils.get_split_uri([sequences], 'train')}/*"],
        [f"{artifact_utils.get_split_uri([sequences], 'eval')}/*"],
        artifact_utils.get_split_uri([items], "train"),
        {"data": data, "retrieval": retrieval, "tuning": tuning, "engine": engine},
        storage_dir,
        code,
    )
    io_utils.write_string_file(f"{best_hyperparameters.uri}/best_hyperparameters.txt", json.dumps(found["best"]))
    io_utils.write_string_file(f"{tuner_results.uri}/tuner_results.json", json.dumps(found, indent=1))
