"""The modalities of a catalogue: what each reads, and what the linear map reads of it."""

import dataclasses

import numpy as np
import pytest

from trainer.encoders.factory import content_modalities


def test_a_modality_names_all_of_its_features(table, tiny):
    """The features of a prepared table but the item's id row are those of the modalities, each in one of them."""
    modalities = content_modalities(table, tiny.CONFIG)
    assert [modality.name for modality in modalities] == [
        "text", "tags", "audio", "video", "embedding_given", "attributes",
    ]  # fmt: skip
    names = [name for modality in modalities for name in modality.inputs]
    assert len(names) == len(set(names))
    assert set(names) == {*table.arrays, "audio_statistics", "video_statistics"} - {"label_id"}, "no item has a label"
    derived = [name for modality in modalities for name in modality.derived]
    assert derived == ["audio_statistics", "video_statistics"]


def test_an_embedding_whose_name_ends_like_a_category_is_none(table, tiny):
    table.arrays["embedding_my_id"] = table.arrays["embedding_given"]
    table.arrays["has_embedding_my_id"] = table.arrays["has_embedding_given"]
    table.modalities += ("embedding_my_id",)
    blocks = {block.name: block for modality in content_modalities(table, tiny.CONFIG) for block in modality.blocks}
    assert blocks["embedding_my_id"].is_direction and not blocks["embedding_my_id"].vocabulary_size
    assert blocks["embedding_my_id"].label == "embedding_my_id" and blocks["domain_id"].label == "domain"


def test_the_pretrained_copy_is_one_more_block_of_its_modality(table, tiny):
    config = dataclasses.replace(tiny.CONFIG, modalities=("audio", "tags"), use_attributes=False)
    tags, audio = content_modalities(table, config, pretrained=("audio",))
    assert [block.name for block in audio.linear_blocks] == ["audio", "audio_pretrained"]
    assert audio.derived == ("audio_statistics", "audio_pretrained") and not tags.derived


def test_what_an_item_holds_is_not_computed_again(table, tiny):
    (audio,) = content_modalities(table, dataclasses.replace(tiny.CONFIG, modalities=("audio",), use_attributes=False))
    features = table.take(np.arange(2), audio.encoder.inputs)
    given = {**features, "audio_statistics": np.zeros((2, 3))}
    assert audio.complete(given)["audio_statistics"] is given["audio_statistics"]
    assert audio.complete(features)["audio_statistics"].shape[0] == 2 and "audio_statistics" not in features


def test_attributes_alone_are_content_and_wordpieces_alone_are_none(table, tiny):
    bare = dataclasses.replace(tiny.CONFIG, modalities=("tags",))
    assert [modality.name for modality in content_modalities(table, bare)] == ["tags", "attributes"]
    with pytest.raises(ValueError, match="no item has smell"):
        content_modalities(table, dataclasses.replace(tiny.CONFIG, modalities=("smell",)))
