"""Which encoders a catalogue gets: one a modality, one for the attributes, and what the linear map reads of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from components.pretrained_config import PretrainedConfig
from trainer.config.retrieval import RetrievalConfig
from trainer.data import ItemTable
from trainer.encoders.audio import AudioEncoder, audio_statistics
from trainer.encoders.tabular import AttributeEncoder, EmbeddingEncoder
from trainer.encoders.text import TagEncoder, TextEncoder
from trainer.encoders.tuned import TunedTextEncoder
from trainer.encoders.video import VideoEncoder, video_statistics
from trainer.keras import tf

ATTRIBUTES = "attributes"  # the token of categories and numbers, beside those of the modalities
STATISTICS: dict[str, Callable[..., Any]] = {"audio": audio_statistics, "video": video_statistics}


def encoder_of(
    name: str, table: ItemTable, config: RetrievalConfig, pretrained: Mapping[str, PretrainedConfig]
) -> tf.keras.layers.Layer:
    """The encoder of one modality. pretrained: those behind `pieces_<name>`."""
    encoder = config.encoder
    if name == "text":
        return TextEncoder(table.vocabulary_sizes["words"], encoder, name=name)
    if name == "tags":
        return TagEncoder(table.vocabulary_sizes["tags"], encoder, name=name)
    if name == "audio":
        return AudioEncoder(encoder, name=name)
    if name == "video":
        return VideoEncoder(encoder, name=name)
    if name.startswith("pieces_"):
        return TunedTextEncoder(pretrained[name], encoder, name=name)
    return EmbeddingEncoder(name, encoder, name=name)


def attribute_encoder(table: ItemTable, config: RetrievalConfig) -> AttributeEncoder | None:
    """The encoder of categories and numbers; None where no item has any."""
    columns = [name for name in table.arrays if name.endswith("_id")]
    known = {name: table.vocabulary_sizes[name.removesuffix("_id")] for name in columns if table.arrays[name].any()}
    has_numbers = bool(table.arrays["numeric_present"].any())
    return AttributeEncoder(known, has_numbers, config.encoder, name=ATTRIBUTES) if known or has_numbers else None


def linear_sources(
    encoders: Mapping[str, tf.keras.layers.Layer], table: ItemTable, pretrained: Iterable[str] = ()
) -> tuple[dict[str, Any], dict[str, Any], frozenset[str]]:
    """Blocks of the linear map -> (feature, size of its vocabulary or 0), and -> the feature that says whether it is there; and those of
    which the direction counts: the catalogue's own embeddings, which are compared by their cosine.

    pretrained: modalities of which a frozen encoder tells the map `<modality>_pretrained`.
    Raises ValueError where tuned encoders stand alone: they learn what the linear map leaves over.
    """
    sources: dict[str, tuple[str, int]] = {}
    flags: dict[str, str | None] = {}
    for name, encoder in encoders.items():
        if isinstance(encoder, TunedTextEncoder):
            continue  # its frozen vectors are a block already
        for column in encoder.inputs if name == ATTRIBUTES else encoder.inputs[:1]:
            if column == "numeric_present":
                continue
            block = column if name == ATTRIBUTES else name
            vocabulary = {"text": "words", "tags": "tags"}.get(name) or (
                column.removesuffix("_id") if column.endswith("_id") else ""
            )
            sources[block] = (
                f"{name}_statistics" if name in STATISTICS else column,
                table.vocabulary_sizes[vocabulary] if vocabulary else 0,
            )
            flags[block] = None if name == ATTRIBUTES else f"has_{name}"
    for name in pretrained:
        sources[f"{name}_pretrained"], flags[f"{name}_pretrained"] = (f"{name}_pretrained", 0), f"has_{name}"
    if not sources:
        raise ValueError(
            f"modalities: got {', '.join(encoders)} alone; add the encoder's embedding_<name>, or another modality"
        )
    return sources, flags, frozenset(name for name in sources if name.startswith("embedding_"))
