"""Settings of the self-supervised pretraining of the content encoders. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Modality = Literal["text", "audio", "video"]


@dataclass(frozen=True)
class PretrainingConfig:
    """Masked prediction of the catalogue's own words, sounds and pictures, without any interaction."""

    modalities: tuple[Modality, ...] = ("text", "audio", "video")  # those of them that the catalogue has
    audio: Literal["masked", "codebook"] = "masked"  # masked patches in the audio encoder, or a dictionary of patches
    mask_words: float = 0.15  # share of an item's words to be predicted
    mask_patches: float = 0.5  # share of an item's patches to be predicted
    epochs: int = 60  # at most
    patience: int = 8  # epochs without a smaller error on items held out before a modality stops
    batch_size: int = 32  # items a step
    learning_rate: float = 2e-3  # of Adam
    weight_decay: float = 1e-2  # of AdamW
    seed: int = 7  # of masks and order

    def __post_init__(self) -> None:
        for name in ("mask_words", "mask_patches"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name}: got {getattr(self, name)}, expected a share between 0 and 1")
