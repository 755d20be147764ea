"""The entry point of the ranking trainer: ranking examples -> a calibrated DeepFM as a SavedModel.

R rows, O objectives, F fields, D dimensions of the towers.
"""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import Any

import numpy as np

from components.config import DataConfig
from components.settings import from_json
from trainer.config.engine import EngineConfig
from trainer.config.ranking import RankingConfig, broadest_success
from trainer.explain.integrated_gradients import integrated_gradients
from trainer.keras import tf
from trainer.ranking.calibration import auc, fit_platt
from trainer.ranking.deepfm import DeepFM, LogisticRegression
from trainer.ranking.features import (
    POSITION,
    SEEN_BY_RETRIEVAL,
    Encoder,
    RankingExamples,
    parsing_spec,
    ranking_features,
    read_examples,
)
from trainer.ranking.reads import FEATURES_FILE
from trainer.ranking.train import logits_as_served, train_ranker
from trainer.saved_state import captured_state
from trainer.strategy import local_strategy

TOLERANCE = 1e-5  # between the model in memory and the one read back


class Ranker(tf.Module):
    """The exported module: encoder, model, and the calibration fitted on held-out examples."""

    def __init__(self, encoder: Encoder, model: LogisticRegression, platt: np.ndarray, data: DataConfig, dim: int):
        """platt: float [2, O], slope and intercept of each head's logits.
        dim: D.
        """
        super().__init__()
        self.encoder, self.model = encoder, model
        self.platt = tf.Variable(platt, trainable=False)
        self._data, self._dim = data, dim

    def probabilities(self, features):
        """Calibrated probabilities of the objectives: float32 [R, O].

        features: by name, batched; those that are unknown when serving are hidden.
        """
        return tf.sigmoid(self.platt[0] * self.model(self.encoder(_hidden(features)), training=False) + self.platt[1])

    @property
    def specs(self) -> dict[str, tf.TensorSpec]:
        """The inputs of the signature `rank`."""
        features = ranking_features(self._data, self._dim)
        return {one.name: tf.TensorSpec([None, *one.shape], tf.as_dtype(one.dtype), one.name) for one in features}

    @property
    def reads(self) -> dict[str, Any]:
        """What it reads: its features, each with dtype and shape, and the names of what they hold in their order."""
        return {
            "features": {name: [spec.dtype.name, spec.shape.as_list()] for name, spec in self.specs.items()},
            "events": list(self._data.event_rules),
            "categorical": list(self._data.categorical),
            "numeric": list(self._data.numeric),
        }

    def signatures(self) -> dict[str, tf.types.experimental.ConcreteFunction]:
        """The served signatures by name.

        `rank`: features -> `probabilities` [R, O].
        `serve_examples`: serialized examples [R] -> a float [R] for each objective.
        `explain`: features and the objectives' `weights` [R, O] -> by integrated gradients, what each field adds to the
        utility, `parts` [R, F], their `names` [R, F], and the `rest` [R].
        """
        spec = parsing_spec(self._data, self._dim, labels=False)

        def rank(**features):
            return {"probabilities": self.probabilities(features)}

        def serve_examples(examples):
            columns = tf.unstack(self.probabilities(tf.io.parse_example(examples, spec)), axis=1)
            return dict(zip(self._data.event_rules, columns))

        def explain(weights, **features):
            encoded = self.encoder(_hidden(features))

            def utility(fields):
                logits = self.model.of_fields(fields, training=False) + self.model.position_bias(tf.constant([0]))
                calibrated = self.platt[0] * logits + self.platt[1]
                repeated = tf.tile(weights, [tf.shape(calibrated)[0] // tf.maximum(tf.shape(weights)[0], 1), 1])
                return tf.reduce_sum(tf.sigmoid(calibrated) * repeated, 1)

            parts, rest = integrated_gradients(utility, self.model.fields(encoded))
            names = tf.repeat(tf.constant([self.encoder.field_names]), tf.shape(rest)[0], 0)
            return {"parts": parts, "rest": rest, "names": names}

        examples = tf.TensorSpec([None], tf.string, "examples")
        served = tf.function(serve_examples).get_concrete_function(examples)
        weights = tf.TensorSpec([None, len(self._data.event_rules)], tf.float32, "weights")
        return {
            "rank": tf.function(rank).get_concrete_function(**self.specs),
            "explain": tf.function(explain).get_concrete_function(weights=weights, **self.specs),
            "serve_examples": served,
            "serving_default": served,
        }


def _hidden(features):
    """The features with the position and whether retrieval has seen the target as 0: both are unknown when serving."""
    return features | {name: tf.zeros_like(features[name]) for name in (POSITION, SEEN_BY_RETRIEVAL)}


def run_fn(fn_args: Any) -> None:
    """Trains the ranker and writes it to `fn_args.serving_model_dir`, its TensorBoard logs to `fn_args.model_run_dir`.

    fn_args: TFX's FnArgs. `train_files` and `eval_files` are ranking examples; `custom_config` holds `data`, `ranking`
    and `engine` (DataConfig, RankingConfig, EngineConfig as JSON). It trains on the devices of one machine.
    Raises ValueError where there are no examples; RuntimeError where what was read back differs.
    """
    custom = fn_args.custom_config
    data, config = from_json(DataConfig, custom["data"]), from_json(RankingConfig, custom["ranking"])
    engine = from_json(EngineConfig, custom["engine"])
    started = time.monotonic()
    train, valid = (_read(files, data) for files in (fn_args.train_files, fn_args.eval_files))
    with local_strategy(engine).scope():
        ranker = build_ranker(DeepFM, train, valid, data, config, Path(fn_args.model_run_dir))
    export(ranker, valid.features, fn_args.serving_model_dir)
    success = broadest_success(data.event_rules)
    column = list(data.event_rules).index(success)
    scores = ranker.probabilities({name: tf.constant(values) for name, values in valid.features.items()}).numpy()
    value = auc(scores[:, column], valid.labels[:, column])
    seconds = time.monotonic() - started
    logging.info("ranking: %d examples, AUC of %s on eval %s, %.0f s", len(train.labels), success, value, seconds)


def build_ranker(
    kind: type[LogisticRegression],
    train: RankingExamples,
    valid: RankingExamples,
    data: DataConfig,
    config: RankingConfig,
    log_dir: Path | None = None,
) -> Ranker:
    """Trains a ranker on `train`; `valid` decides when it stops, and calibrates it."""
    encoder = Encoder(train.features, config.min_count, list(data.event_rules), data.numeric)
    model = train_ranker(kind, encoder, train, valid, config, log_dir)
    platt = fit_platt(logits_as_served(model, encoder, valid), valid.labels)
    return Ranker(encoder, model, platt, data, train.features["item_vector"].shape[1])


def export(ranker: Ranker, features: dict[str, np.ndarray], folder: str) -> None:
    """Writes the SavedModel, reads it back and ranks some rows.

    Raises RuntimeError where the probabilities differ by more than TOLERANCE.
    """
    traced, saved = ranker.signatures(), tf.Module()
    saved.state = captured_state(ranker, traced.values())
    tf.saved_model.save(saved, folder, signatures=traced)
    tf.io.gfile.makedirs(f"{folder}/{FEATURES_FILE.partition('/')[0]}")
    with tf.io.gfile.GFile(f"{folder}/{FEATURES_FILE}", "w") as file:
        file.write(json.dumps(ranker.reads, sort_keys=True))
    some = {name: tf.constant(values[:64]) for name, values in features.items()}
    restored = tf.saved_model.load(folder).signatures["rank"](**some)["probabilities"].numpy()
    difference = float(np.abs(restored - traced["rank"](**some)["probabilities"].numpy()).max(initial=0))
    if not difference <= TOLERANCE:
        raise RuntimeError(f"the exported ranker differs from the trained one by {difference:.2g}")


def _read(patterns: list[str], data: DataConfig) -> RankingExamples:
    return read_examples(sorted(file for pattern in patterns for file in tf.io.gfile.glob(pattern)), data)
