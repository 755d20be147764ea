"""What each modality of an item adds to its score for a person.

P parts, D dimensions of a vector.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from components.settings import SettingsError
from pipeline.config import Config
from pipeline.records import record_of

TOLERANCE = 1e-4  # between the parts' sum and the score that is served


def score_parts(config: Config, item_id: str, query: np.ndarray, score: float) -> tuple[list[str], np.ndarray]:
    """Names of the parts of an item's vector (`trainer.explain.attribution`) and what each adds to a score float [P]; they add up to it.

    Read from the run whose answer was pushed last: the model encodes the item again, from its record in that run's catalogue.
    query: float [D], the person's vector; score: its product with the item's vector, as it is served.
    Raises SettingsError where the item is served by another vector than that run's, or came after it.
    """
    from pipeline.local_runner import inputs_of_served

    parts = inputs_of_served(config.work_path, config.name)
    if not parts:
        raise SettingsError("the run that the served model came from is not in the work folder")
    names, vectors = vector_parts(
        Path(parts["model"].uri) / "Format-Serving", Path(parts["items"].uri) / "Split-train", item_id
    )
    of_score = vectors @ query
    if abs(float(of_score.sum()) - score) > TOLERANCE:
        raise SettingsError(f"{item_id} is served by another vector than that of the run")
    return names, of_score


def vector_parts(model: Path, items: Path, item_id: str) -> tuple[list[str], np.ndarray]:
    """The parts of an item's vector by a trained retrieval model: their names, and float32 [P, D].

    items: a folder of item examples. Raises SettingsError where it has no such item, or the model gives no parts.
    """
    import tensorflow as tf

    from components.datasets.items import encode_item_inputs

    loaded = tf.saved_model.load(str(model))
    if "item_contributions" not in loaded.signatures:
        raise SettingsError("the trained model gives no parts of an item's vector; train it anew")
    signature = loaded.signatures["item_contributions"]
    answer = signature(**encode_item_inputs(signature, [record_of(items, item_id)])[1])
    return [name.decode() for name in answer["names"].numpy()[0]], answer["parts"].numpy()[0]
