"""The entry point that the RankingTrainer node names: ranking examples in, a calibrated DeepFM as a SavedModel out."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import Any

import numpy as np

from components import settings
from components.config import DataConfig
from trainer.config.engine import EngineConfig
from trainer.config.ranking import RankingConfig, broadest_success
from trainer.explain.integrated_gradients import integrated_gradients
from trainer.keras import tf
from trainer.ranking.deepfm import DeepFM, LogisticRegression, auc, fit_platt, logits_as_served, train_ranker
from trainer.ranking.features import FITTED, POSITION, Encoder, parsing_spec, ranking_features, read_examples
from trainer.strategy import local_strategy

FEATURES_FILE = "assets.extra/features.json"  # what a ranker reads, by which two are comparable (pipeline.nodes.latest_blessed_ranker)
TOLERANCE = 1e-5  # between the model in memory and the one read back


class Ranker(tf.Module):
    """What is saved: encoder, model, and the calibration fitted on held-out examples."""

    def __init__(self, encoder: Encoder, model: LogisticRegression, platt: np.ndarray, data: DataConfig, dim: int):
        """platt: [2, O], slope and shift of each head's logits. dim: of the towers' vectors."""
        super().__init__()
        self.encoder, self.model = encoder, model
        self.platt = tf.Variable(platt, trainable=False)
        self._data, self._dim = data, dim

    def probabilities(self, features):
        """features: by name, batched -> float32 [R, O], calibrated. `position` and `fitted` are not looked at."""
        hidden = features | {name: tf.zeros_like(features[name]) for name in (POSITION, FITTED)}
        return tf.sigmoid(self.platt[0] * self.model(self.encoder(hidden), training=False) + self.platt[1])

    @property
    def specs(self) -> dict[str, tf.TensorSpec]:
        """The features that `rank` takes."""
        features = ranking_features(self._data, self._dim)
        return {one.name: tf.TensorSpec([None, *one.shape], tf.as_dtype(one.dtype), one.name) for one in features}

    def signatures(self) -> dict[str, tf.types.experimental.ConcreteFunction]:
        """`rank`: features -> `probabilities` [R, O]. `serve_examples`: serialized examples [R] -> a float [R] for each objective.

        `explain`: features and `weights` [R, O] of the objectives -> `parts` [R, F] that with `rest` [R] are the utility, by integrated
        gradients, and their `names` [R, F].
        """
        spec = parsing_spec(self._data, self._dim, labels=False)

        def rank(**features):
            return {"probabilities": self.probabilities(features)}

        def serve_examples(examples):
            columns = tf.unstack(self.probabilities(tf.io.parse_example(examples, spec)), axis=1)
            return dict(zip(self._data.event_rules, columns))

        def explain(weights, **features):
            encoded = self.encoder(features | {name: tf.zeros_like(features[name]) for name in (POSITION, FITTED)})

            def utility(fields):
                logits = self.model.of_fields(fields, training=False) + self.model.place(tf.constant([0]))
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


def run_fn(fn_args: Any) -> None:
    """Train the ranker and write it to `fn_args.serving_model_dir`, its TensorBoard logs to `fn_args.model_run_dir`.

    fn_args: TFX's FnArgs; `train_files` and `eval_files` are ranking examples, `custom_config` holds `data`, `ranking` and
    `engine` (DataConfig, RankingConfig, EngineConfig as JSON). It trains on the devices of one machine.
    Raises ValueError where there are no examples; RuntimeError where what was read back differs.
    """
    started = time.monotonic()
    data = settings.from_json(DataConfig, fn_args.custom_config["data"])
    config = settings.from_json(RankingConfig, fn_args.custom_config["ranking"])
    train, valid = (_read(files, data) for files in (fn_args.train_files, fn_args.eval_files))
    with local_strategy(settings.from_json(EngineConfig, fn_args.custom_config["engine"])).scope():
        ranker = build_ranker(DeepFM, train, valid, data, config, Path(fn_args.model_run_dir))
    export(ranker, valid[0], fn_args.serving_model_dir)
    gate = list(data.event_rules).index(broadest_success(data.event_rules))
    scores = ranker.probabilities({name: tf.constant(values) for name, values in valid[0].items()}).numpy()
    value = auc(scores[:, gate], valid[1][:, gate])
    logging.info("ranking: %d examples, AUC of %s on eval %s, %.0f s", len(train[1]), broadest_success(data.event_rules), value,
                 time.monotonic() - started)  # fmt: skip


def build_ranker(
    kind: type[LogisticRegression],
    train: tuple[dict[str, np.ndarray], np.ndarray],
    valid: tuple[dict[str, np.ndarray], np.ndarray],
    data: DataConfig,
    config: RankingConfig,
    log_dir: Path | None = None,
) -> Ranker:
    """Trained on `train`, stopped and calibrated on `valid`, both features and labels as `read_examples` gives them."""
    encoder = Encoder(train[0], config.min_count, list(data.event_rules), data.numeric)
    model = train_ranker(kind, encoder, train, valid, config, log_dir)
    platt = fit_platt(logits_as_served(model, encoder, valid[0]), valid[1])
    return Ranker(encoder, model, platt, data, train[0]["item_vector"].shape[1])


def export(ranker: Ranker, features: dict[str, np.ndarray], folder: str) -> None:
    """Write the SavedModel, read it back and rank some rows. Raises RuntimeError where it differs by more than TOLERANCE."""
    tf.saved_model.save(ranker, folder, signatures=ranker.signatures())
    tf.io.gfile.makedirs(f"{folder}/{FEATURES_FILE.partition('/')[0]}")
    with tf.io.gfile.GFile(f"{folder}/{FEATURES_FILE}", "w") as file:
        file.write(
            json.dumps(
                {name: [spec.dtype.name, spec.shape.as_list()] for name, spec in ranker.specs.items()}, sort_keys=True
            )
        )
    some = {name: tf.constant(values[:64]) for name, values in features.items()}
    restored = tf.saved_model.load(folder).signatures["rank"](**some)["probabilities"].numpy()
    difference = float(np.abs(restored - ranker.probabilities(some).numpy()).max(initial=0))
    if not difference <= TOLERANCE:
        raise RuntimeError(f"the exported ranker differs from the trained one by {difference:.2g}")


def _read(patterns: list[str], data: DataConfig) -> tuple[dict[str, np.ndarray], np.ndarray]:
    return read_examples(sorted(file for pattern in patterns for file in tf.io.gfile.glob(pattern)), data)
