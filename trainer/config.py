"""Settings of the retrieval model. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class EncoderConfig:
    """The Transformer encoders of the content, and their fusion."""

    width: int = 48  # of a token
    heads: int = 4
    layers: int = 1  # Transformer blocks a modality; 0 leaves the statistics (or the bag of words) alone
    fusion_layers: int = 1  # Transformer blocks over the modality tokens; 0 leaves the gated sum alone
    dropout: float = 0.1
    keep_tokens: float = (
        0.5  # share of an item's patches that a training step sees (Koutini et al., PaSST, 2022): cheaper and a regulariser
    )
    audio_patch_frames: int = 25  # patch = so many frames x audio_patch_mels; 0.25 s
    audio_patch_mels: int = 32
    video_patch_pixels: int = 16  # patch = a square of so many pixels of a key frame


@dataclass(frozen=True)
class RetrievalConfig:
    """Two towers: how they are built and how they are trained."""

    embedding_dim: int = 64  # D, of item and user vectors
    modalities: tuple[str, ...] = ()  # content that the item tower may use; empty = all that the catalogue has
    use_attributes: bool = True  # domain, creator, declared categories and numbers
    modality_dropout: float = 0.1  # chance that a modality is hidden from a training step, never all of an item's
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    content_epochs: int = 12  # at most, of the encoders over the items, once behaviour is learned; 0 leaves the linear map alone
    content_patience: int = 3  # epochs without a smaller error on items held out before the encoders stop
    content_learning_rate: float = 1e-3

    user_tower: Literal["profile", "sequence"] = "profile"
    history_length: int = 100  # most recent interactions that the sequence tower sees
    sequence_layers: int = 2  # Transformer blocks of the sequence tower
    sequence_heads: int = 2
    history_dropout: float = 0.3  # share of a history that a training step of the profile tower does not see

    item_gain: bool = False  # a learned gain for each warm item as a candidate; `docs/decisions/0010-retrieval-model.md`
    spectral_start: bool = True  # item vectors start at the singular vectors of the interactions

    loss: Literal["profile_cosine", "softmax", "full_softmax"] = "profile_cosine"
    sharpness: float = 1.0  # power of the scores in profile_cosine; above 1 the top of the list counts more
    activity_power: float = 0.0  # in profile_cosine, users weigh as their number of targets to this power; 0 = all alike
    temperature: float = 0.1  # of the softmax losses
    negatives: int = 1024  # uniform negatives a step beside those of the batch (softmax)
    log_q: bool = True  # correct the logits for how often an item is sampled (softmax)
    targets_per_step: int = 1024  # interactions predicted in a step (softmax losses)
    items_per_step: int = 4096  # a catalogue up to this size is encoded whole in a step, of a larger one the batch's items and a sample

    learning_rate: float = 3e-3  # at the start
    cosine_decay: bool = False  # let the rate fall to a fiftieth over `epochs`, along a cosine
    weight_decay: float = 1e-2
    dropout: float = 0.1  # on the content before it becomes an item vector
    epochs: int = 40  # at most
    patience: int = 6  # epochs without a better validation metric before training stops
    batch_size: int = 128  # users a step
    metric: str = "NDCG@10"  # of validation; R@k, NDCG@k, HR@k or MRR@k
    seed: int = 7

    def __post_init__(self) -> None:
        for name in ("modality_dropout", "history_dropout", "dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}: got {getattr(self, name)}, expected a share from 0 to below 1")
        if self.user_tower == "sequence" and self.loss == "profile_cosine":
            raise ValueError("loss: profile_cosine trains the profile tower only; the sequence tower takes softmax or full_softmax")
        if self.encoder.width % self.encoder.heads:
            raise ValueError(f"encoder.width: got {self.encoder.width}, expected a multiple of encoder.heads ({self.encoder.heads})")
        if not self.sharpness > 0:
            raise ValueError(f"sharpness: got {self.sharpness}, expected a power above 0")
        if self.item_gain and self.embedding_dim < 2:
            raise ValueError("item_gain: needs an embedding_dim of at least 2, one dimension holds the gain")
        kind, _, cutoff = self.metric.partition("@")
        if kind not in ("R", "NDCG", "HR", "MRR") or not cutoff.isdigit() or int(cutoff) < 1:
            raise ValueError(f"metric: got {self.metric!r}, expected R@k, NDCG@k, HR@k or MRR@k")
