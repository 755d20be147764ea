"""What each modality adds to an item's vector: parts that add up to it.

B items, P parts, D embedding_dim.
"""

from __future__ import annotations

from trainer.keras import tf
from trainer.retrieval.ensemble import unit_parts
from trainer.retrieval.item_tower import ItemTower

LISTENERS, ENCODERS, SHARED, GAIN = "listeners", "encoders", "shared", "gain"


def part_names(tower: ItemTower) -> list[str]:
    """The parts in their order: what listeners did, each block of the linear map, what the encoders add to it, what all items share, and
    with `item_gain` the dimension that holds the gain.
    """
    content = (
        [*(block.removesuffix("_id") for block in tower.linear.blocks), ENCODERS, SHARED] if tower.encoders else []
    )
    return [LISTENERS, *content, *([GAIN] if tower.config.item_gain else [])]


def contributions(tower: ItemTower, features):
    """The parts of the vectors that the tower gives these items, in the order of `part_names`: float32 [B, P, D].

    The linear map is split exactly; what the encoders add depends on all modalities together, so it is a part of its own. Where a modality
    is missing, what the others let expect of it counts for them.
    """
    row = features["own_row"] if "own_row" in features else tower.row_of_id(features["item_id"])
    own = unit_parts(tower.own(row), tower.parts) * tf.cast(row > 0, tf.float32)[:, None]
    parts = own[:, None]
    if tower.encoders:
        features = tower.complete(features)
        linear = tower.linear.parts(features)
        raw, _ = tower.raw_content(features, training=False)
        encoders = raw - tf.reduce_sum(linear, 1)
        content = tf.concat([linear[:, :-1], encoders[:, None], linear[:, -1:]], 1)
        content *= tf.math.divide_no_nan(unit_parts(raw, tower.parts), raw)[:, None]
        listeners = tf.gather(tower.listeners, row)
        trust = tf.math.divide_no_nan(listeners, listeners + tower.shrinkage)[:, None, None]
        parts = tf.concat([trust * parts, (1 - trust) * content], 1)
    whole = tf.reduce_sum(parts, 1)
    parts *= tf.math.divide_no_nan(unit_parts(whole, tower.parts), whole)[:, None]
    if not tower.config.item_gain:
        return parts
    vector = tower(
        features, training=False
    )  # [B, D], a dimension of each model holds what its gain leaves of unit length
    gains = tf.sigmoid(tf.gather(tower.gain_logits, row))  # [B, models]
    split = [
        tf.pad(part * gains[:, model, None, None], [[0, 0], [0, 0], [0, 1]])
        for model, part in enumerate(tf.split(parts, tower.parts, -1))
    ]
    directions = tf.concat(split, -1)
    return tf.concat([directions, (vector - tf.reduce_sum(directions, 1))[:, None]], 1)
