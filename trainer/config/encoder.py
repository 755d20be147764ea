"""Settings of the content encoders and of their fusion. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EncoderConfig:
    """The Transformer encoders of the content, their fusion, and what regularises them in training."""

    width: int = 48  # of a token
    heads: int = 4  # of attention; divides width
    layers: int = 1  # Transformer blocks a modality; 0 leaves the statistics (or the bag of words) alone
    fusion_layers: int = 1  # Transformer blocks over the modality tokens; 0 leaves the gated sum alone
    dropout: float = 0.1  # in the Transformer blocks
    keep_tokens: float = 0.5  # share of an item's patches that a training step sees (Koutini et al., PaSST, 2022)
    frequency_mask_mels: int = 0  # SpecAugment (Park et al., 2019): hides a band of fewer mel bins than this
    time_mask_frames: int = 0  # likewise a stretch of fewer frames of 10 ms; 0 hides nothing
    drop_frames: float = 0.0  # chance that a key frame is hidden from a training step, never all of an item's
    drop_words: float = 0.0  # chance that a word is hidden from a training step, never all of an item's
    l2: float = 0.0  # penalty on the squares of the encoders' weights in training
    audio_patch_frames: int = 25  # frames of 10 ms of a patch
    audio_patch_mels: int = 32  # mel bins of a patch
    video_patch_pixels: int = 16  # side of a patch of a key frame
