"""Additive attribution of an item's vector to its modalities.

B items, A parts, D embedding_dim, P submodels.
"""

from __future__ import annotations

from trainer.keras import tf
from trainer.towers.ensemble import unit_submodels
from trainer.towers.item_tower import ItemTower

INTERACTIONS, ENCODERS, SHARED, SCALE = "listeners", "encoders", "shared", "gain"  # as `item_contributions` names them


def part_names(tower: ItemTower) -> list[str]:
    """The parts in their order: the id embedding, each block of the linear map, what the encoders add to it, what all
    items share, and the dimension that holds the item's scale, where it has one.
    """
    content = [*(block.label for block in tower.linear.blocks), ENCODERS, SHARED] if tower.encoders else []
    return [INTERACTIONS, *content, *([SCALE] if tower.config.item_scale else [])]


def contributions(tower: ItemTower, features):
    """Splits the vectors that the tower gives some items into parts that add up to them: float32 [B, A, D], in the
    order of `part_names`.

    The linear map is split exactly; the encoders' output depends on all modalities together, so it is one part. What is
    imputed for a missing modality counts for the modalities that it is imputed from.
    features: as `ItemTower.call` takes them.
    """
    row = tower.id_rows(features)
    is_warm = tf.cast(row > 0, tf.float32)[:, None]
    parts = (unit_submodels(tower.id_embedding(row), tower.num_submodels) * is_warm)[:, None]
    if tower.encoders:
        features = tower.complete(features)
        linear = tower.linear.parts(features)
        raw, _ = tower.raw_content(features, training=False)
        encoders = raw - tf.reduce_sum(linear, 1)
        content = tf.concat([linear[:, :-1], encoders[:, None], linear[:, -1:]], 1)
        content *= tf.math.divide_no_nan(unit_submodels(raw, tower.num_submodels), raw)[:, None]
        id_weight = tower.id_weight(row)[:, None, None]
        parts = tf.concat([id_weight * parts, (1 - id_weight) * content], 1)
    whole = tf.reduce_sum(parts, 1)
    parts *= tf.math.divide_no_nan(unit_submodels(whole, tower.num_submodels), whole)[:, None]
    if not tower.config.item_scale:
        return parts
    vector = tower(features, training=False)  # [B, D]; a dimension of each submodel holds the rest of its unit length
    scales = tf.sigmoid(tf.gather(tower.scale_logits, row))  # [B, P]
    split = [
        tf.pad(part * scales[:, number, None, None], [[0, 0], [0, 0], [0, 1]])
        for number, part in enumerate(tf.split(parts, tower.num_submodels, -1))
    ]
    directions = tf.concat(split, -1)
    return tf.concat([directions, (vector - tf.reduce_sum(directions, 1))[:, None]], 1)
