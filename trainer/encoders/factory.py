"""The modalities of a catalogue: an encoder for each, one for the attributes, and what the linear map reads of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from components.pretrained_config import PretrainedConfig
from trainer.config.retrieval import RetrievalConfig
from trainer.data import ItemTable
from trainer.encoders.audio import AudioEncoder
from trainer.encoders.codebook import CODEBOOK, PatchCodebook
from trainer.encoders.modality import Block, ContentEncoder, Modality
from trainer.encoders.tabular import AttributeEncoder, EmbeddingEncoder
from trainer.encoders.text import TagEncoder, TextEncoder
from trainer.encoders.tuned import TunedTextEncoder
from trainer.encoders.video import VideoEncoder

TAGS = "tags"  # the modality that the tag head predicts and does not see
_ATTRIBUTES = "attributes"  # the token of categories and numbers
_WORDS, _TAG_NAMES = "words", "tags"  # vocabularies that are no attribute's


def content_modalities(
    table: ItemTable,
    config: RetrievalConfig,
    encoder_configs: Sequence[PretrainedConfig] = (),
    pretrained: Collection[str] = (),
) -> tuple[Modality, ...]:
    """New encoders for what the catalogue has and the configuration wants, in the order in which fusion sees them.

    encoder_configs: of the pretrained encoders behind modalities `embedding_<name>` and, tuned, `pieces_<name>`; what
        is none of theirs, as an embedding of the catalogue's own, is taken to hold no tags.
    pretrained: modalities of which an encoder pretrained on the catalogue is another block of the linear map; CODEBOOK
        stands for the audio's dictionary of patches.
    Raises ValueError for a modality that no item has, and where tuned encoders stand alone: they are fitted to the
    residuals of the linear map, which then has no columns.
    """
    unknown = set(config.modalities) - set(table.modalities)
    if unknown:
        raise ValueError(
            f"modalities: no item has {', '.join(sorted(unknown))}; the catalogue has {', '.join(table.modalities)}"
        )
    names = [name for name in table.modalities if not config.modalities or name in config.modalities]
    tuned = {f"pieces_{encoder.name}": encoder for encoder in encoder_configs if encoder.tune is not None}
    encoders = {name: _encoder(name, table, config, tuned) for name in names}
    attributes = _attributes(table, config) if config.use_attributes else []
    frozen = {name: _encoder(name, table, config, {}) for name in pretrained if name in encoders}
    if CODEBOOK in pretrained and "audio" in encoders:
        frozen["audio"] = PatchCodebook()
    reading = [encoder.name for encoder in encoder_configs if encoder.reads_tags]
    with_tags = {TAGS, *(f"{feature}_{name}" for name in reading for feature in ("embedding", "pieces"))}
    found = [_modality(name, encoder, table, frozen.get(name), name in with_tags) for name, encoder in encoders.items()]
    if found + attributes and not any(modality.blocks for modality in found + attributes):
        raise ValueError(
            f"modalities: got {', '.join(encoders)} alone; add the encoder's embedding_<name>, or another modality"
        )
    return (*found, *attributes)


def _encoder(
    name: str, table: ItemTable, config: RetrievalConfig, tuned: Mapping[str, PretrainedConfig]
) -> ContentEncoder:
    """A new encoder of one modality. tuned: those behind `pieces_<name>`."""
    if name == "text":
        return TextEncoder(table.vocabulary_sizes[_WORDS], config.encoder, name=name)
    if name == TAGS:
        return TagEncoder(table.vocabulary_sizes[_TAG_NAMES], config.encoder, name=name)
    if name == "audio":
        return AudioEncoder(config.encoder, name=name)
    if name == "video":
        return VideoEncoder(config.encoder, name=name)
    if name in tuned:
        return TunedTextEncoder(tuned[name], config.encoder, name=name)
    return EmbeddingEncoder(name, config.encoder, name=name)


def _modality(
    name: str, encoder: ContentEncoder, table: ItemTable, pretrained: ContentEncoder | None, holds_tags: bool
) -> Modality:
    flag, feature = f"has_{name}", encoder.statistics or encoder.inputs[0]
    block = None
    if pretrained is not None:
        block = Block(f"{name}_pretrained", f"{name}_pretrained", f"{name}_pretrained", flag=flag)
    blocks: tuple[Block, ...] = ()  # a tuned encoder has none: its frozen vectors are a block already
    if isinstance(encoder, (TextEncoder, TagEncoder)):
        size = table.vocabulary_sizes[_WORDS if isinstance(encoder, TextEncoder) else _TAG_NAMES]
        blocks = (Block(name, name, feature, size, flag),)
    elif not isinstance(encoder, TunedTextEncoder):
        blocks = (Block(name, name, feature, 0, flag, isinstance(encoder, EmbeddingEncoder)),)
    return Modality(name, encoder, flag, blocks, pretrained, block, holds_tags)


def _attributes(table: ItemTable, config: RetrievalConfig) -> list[Modality]:
    """Categories and numbers as one modality; none where no item has any."""
    names = [name for name in table.vocabulary_sizes if name not in (_WORDS, _TAG_NAMES)]
    names.sort(key=lambda name: f"{name}_id")
    sizes = {f"{name}_id": table.vocabulary_sizes[name] for name in names if table.arrays[f"{name}_id"].any()}
    has_numbers = bool(table.arrays["numeric_present"].any())
    if not sizes and not has_numbers:
        return []
    blocks = [Block(f"{name}_id", name, f"{name}_id", sizes[f"{name}_id"]) for name in names if f"{name}_id" in sizes]
    numbers = [Block("numeric", "numeric", "numeric")] if has_numbers else []
    encoder = AttributeEncoder(sizes, has_numbers, config.encoder, name=_ATTRIBUTES)
    return [Modality(_ATTRIBUTES, encoder, None, (*blocks, *numbers))]
