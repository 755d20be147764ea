"""A TFX resolver strategy that finds the latest blessed ranker that the present one can be compared with."""

from tfx.dsl.input_resolution.strategies.latest_blessed_model_strategy import LatestBlessedModelStrategy
from tfx.dsl.io import fileio
from tfx.utils import path_utils

from trainer.ranking.reads import FEATURES_FILE


class LatestBlessedRanker(LatestBlessedModelStrategy):
    """`LatestBlessedModelStrategy`, without the present ranker and without those that read other features, or
    the same of other kinds of events, categories or numbers.

    Inputs: `model` and `model_blessing`, of all runs, and `current`, what was just trained. Compared with itself, a
    ranker that comes from the cache would be judged anew in the second run; other features cannot be read from today's
    examples.
    """

    def resolve_artifacts(self, store, input_dict):
        """Returns the last blessed of the others and its blessing, or neither."""
        (current,) = input_dict["current"]
        features = _features(current)
        others = [
            model
            for model in input_dict["model"]
            if model.id != current.id and features and _features(model) == features
        ]
        found = super().resolve_artifacts(store, {"model": others, "model_blessing": input_dict["model_blessing"]})
        return (found or {"model": [], "model_blessing": []}) | {"current": [current]}


def _features(model) -> str:
    path = f"{path_utils.serving_model_path(model.uri)}/{FEATURES_FILE}"
    return fileio.open(path).read() if fileio.exists(path) else ""
