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
    keep_tokens: float = 0.5  # share of an item's patches that a training step sees (Koutini et al., PaSST, 2022): cheaper and a regulariser
    frequency_mask_mels: int = (
        0  # SpecAugment (Park et al., 2019): a band of fewer mel bins than this is hidden from a training step
    )
    time_mask_frames: int = 0  # likewise a stretch of fewer frames of 10 ms; 0 hides nothing
    drop_frames: float = 0.0  # chance that a key frame is hidden from a training step, never all of an item's
    drop_words: float = 0.0  # chance that a word is hidden from a training step, never all of an item's
    l2: float = 0.0  # what the squares of the content's weights cost in training
    audio_patch_frames: int = 25  # patch = so many frames x audio_patch_mels; 0.25 s
    audio_patch_mels: int = 32
    video_patch_pixels: int = 16  # patch = a square of so many pixels of a key frame


@dataclass(frozen=True)
class AdversaryConfig:
    """How far an adversary may move the inputs of the content, in the units of each, and how it looks for the worst."""

    method: Literal["fgsm", "pgd"] = "pgd"  # one step along the sign of the gradient, or several from a random start
    steps: int = 5  # of pgd
    audio: float = 0.3  # log-mel, natural-log units of power: 0.3 is 1.3 dB
    video: float = 4.0  # pixel values out of 255
    text: float = 0.3  # words and tags: share of the root mean square of the values of all word vectors
    embedding: float = 0.1  # given embeddings: share of the root mean square of their values

    def __post_init__(self) -> None:
        if self.steps < 1 or min(self.audio, self.video, self.text, self.embedding) < 0:
            raise ValueError("adversary: expected at least one step and no radius below 0")


@dataclass(frozen=True)
class RetrievalConfig:
    """Two towers: how they are built and how they are trained."""

    embedding_dim: int = 64  # D, of item and user vectors
    modalities: tuple[str, ...] = ()  # content that the item tower may use; empty = all that the catalogue has
    use_attributes: bool = True  # domain, creator, declared categories and numbers
    modality_dropout: float = 0.1  # chance that a modality is hidden from a training step, never all of an item's
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    content_epochs: int = (
        12  # at most, of the encoders over the items, once behaviour is learned; 0 leaves the linear map alone
    )
    content_patience: int = 3  # epochs without a smaller error on items held out before the encoders stop
    content_learning_rate: float = 1e-3
    tag_objective: float = (
        0.1  # what telling an item's tags from its other content counts beside its place; 0 leaves the encoders without
    )
    adversary: AdversaryConfig | None = (
        None  # half of the content's training is on inputs that it has moved; none where absent
    )

    user_tower: Literal["profile", "sequence", "both"] = "profile"  # both: their sum
    sequence_layers: int = 2  # Transformer blocks of the sequence tower
    sequence_heads: int = 2
    history_dropout: float = 0.3  # share of a history that a training step of the profile tower does not see

    use_user_features: bool = False  # declared columns of the users table beside the history
    use_user_id: bool = False  # a vector for each user with enough interactions
    user_id_dropout: float = (
        0.5  # share of the training steps that do not see it, and train the vector of unknown users
    )
    item_gain: bool = (
        False  # a learned gain for each warm item as a candidate; `docs/decisions/0010-retrieval-model.md`
    )
    side_by_side: int = 1  # profile models that share out embedding_dim, each with history dropout of its own
    spectral_start: bool = True  # item vectors start at the singular vectors of the interactions and the content

    loss: Literal["profile_cosine", "softmax", "full_softmax", "rating_mse"] = (
        "profile_cosine"  # rating_mse: predict the events' values
    )
    sharpness: float = 1.0  # power of the scores in profile_cosine; above 1 the top of the list counts more
    activity_power: float = (
        0.0  # in profile_cosine, users weigh as their number of targets to this power; 0 = all alike
    )
    temperature: float = 0.1  # of the softmax losses
    negatives: int = 1024  # uniform negatives a step beside those of the batch (softmax)
    hard_negatives: int = 0  # of those, so many hardest count for each target (softmax); 0 = all
    half_life_days: float = 0.0  # an interaction counts half as a target for each so many days before the user's last; 0 = age does not count
    log_q: bool = True  # correct the logits for how often an item is sampled (softmax)
    targets_per_step: int = 1024  # interactions predicted in a step (softmax losses)
    items_per_step: int = (
        4096  # a catalogue up to this size is encoded whole in a step, of a larger one the batch's items and a sample
    )

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
        for name in ("modality_dropout", "history_dropout", "dropout", "user_id_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}: got {getattr(self, name)}, expected a share from 0 to below 1")
        if self.user_tower != "profile" and self.loss == "profile_cosine":
            raise ValueError(
                "loss: profile_cosine trains the profile tower only; the sequence tower takes softmax or full_softmax"
            )
        if (
            self.side_by_side < 1
            or self.side_by_side > 1
            and (self.loss != "profile_cosine" or self.embedding_dim % self.side_by_side)
        ):
            raise ValueError(
                f"side_by_side: got {self.side_by_side}, expected a divisor of embedding_dim, and the loss profile_cosine"
            )
        if self.encoder.width % self.encoder.heads:
            raise ValueError(
                f"encoder.width: got {self.encoder.width}, expected a multiple of encoder.heads ({self.encoder.heads})"
            )
        if self.hard_negatives < 0 or self.half_life_days < 0:
            raise ValueError(
                f"hard_negatives, half_life_days: got {self.hard_negatives}, {self.half_life_days}, expected 0 or more"
            )
        if not self.sharpness > 0:
            raise ValueError(f"sharpness: got {self.sharpness}, expected a power above 0")
        if self.item_gain and self.embedding_dim < 2 * self.side_by_side:
            raise ValueError(
                "item_gain: needs at least 2 dimensions of embedding_dim for each model, one of them holds the gain"
            )
        kind, _, cutoff = self.metric.partition("@")
        if kind not in ("R", "NDCG", "HR", "MRR") or not cutoff.isdigit() or int(cutoff) < 1:
            raise ValueError(f"metric: got {self.metric!r}, expected R@k, NDCG@k, HR@k or MRR@k")


@dataclass(frozen=True)
class PretrainingConfig:
    """The masked objective on the catalogue's own words, sounds and pictures, before any behaviour is seen."""

    modalities: tuple[Literal["text", "audio", "video"], ...] = (
        "text",
        "audio",
        "video",
    )  # those that the catalogue has take part
    mask_words: float = 0.15  # share of an item's words to be guessed
    mask_patches: float = 0.5  # share of an item's patches to be restored
    epochs: int = 60  # at most
    patience: int = 8  # epochs without a smaller error on items held out before a modality stops
    batch_size: int = 32  # items a step
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    seed: int = 7

    def __post_init__(self) -> None:
        for name in ("mask_words", "mask_patches"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name}: got {getattr(self, name)}, expected a share between 0 and 1")
