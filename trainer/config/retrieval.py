"""Settings of the retrieval model. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from trainer.config.adversary import AdversaryConfig
from trainer.config.encoder import EncoderConfig

Loss = Literal["profile_cosine", "softmax", "full_softmax", "rating_mse"]


@dataclass(frozen=True)
class RetrievalConfig:
    """The two towers: how they are built and how they are trained."""

    embedding_dim: int = 64  # of item and user vectors
    modalities: tuple[str, ...] = ()  # content that the item tower uses; empty = all that the catalogue has
    use_attributes: bool = True  # domain, creator, declared categories and numbers
    modality_dropout: float = 0.1  # chance that a modality is hidden from a training step, never all of an item's
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    content_epochs: int = 12  # at most, of the encoders, after the id embeddings; 0 leaves the linear map alone
    content_min_items: int = 500  # with fewer items with interactions the encoders are not trained
    content_patience: int = 3  # epochs without a smaller error on items held out before the encoders stop
    content_learning_rate: float = 1e-3  # of the encoders
    tag_loss_weight: float = 0.1  # of the tag head's loss beside the squared error; 0 leaves the encoders without
    adversary: AdversaryConfig | None = None  # half of the content's training is on inputs that it has moved

    user_tower: Literal["profile", "sequence", "both"] = "profile"  # both: their sum
    sequence_layers: int = 2  # Transformer blocks of the sequence tower
    sequence_heads: int = 2  # of their attention
    history_dropout: float = 0.3  # share of a history that a training step of the profile tower does not see

    use_user_features: bool = False  # declared columns of the users table beside the history
    use_user_id: bool = False  # an id embedding for each user with enough interactions
    user_id_dropout: float = 0.5  # share of the training steps without it, which train that of unknown users
    item_scale: bool = (
        False  # a learned scale of each warm item as a candidate (docs/decisions/0010-retrieval-model.md)
    )
    num_submodels: int = 1  # profile models that share out embedding_dim, each with history dropout of its own
    svd_init: bool = True  # id embeddings start at the singular vectors of the interactions and the content

    loss: Loss = "profile_cosine"  # of the user tower and the id embeddings; rating_mse predicts the events' values
    score_exponent: float = 1.0  # power of the scores (profile_cosine); above 1 the top of the list counts more
    user_weight_exponent: float = 0.0  # users weigh as their targets' number to this power (profile_cosine)
    temperature: float = 0.1  # of the softmax losses
    negatives: int = 1024  # uniform negatives a step beside those of the batch (softmax)
    hard_negatives: int = 0  # of those, so many hardest count for each target (softmax); 0 = all
    half_life_days: float = 0.0  # a target counts half for each so many days before the user's last; 0 = all alike
    log_q: bool = True  # correct the logits for how often an item is sampled (softmax)
    targets_per_step: int = 1024  # interactions predicted in a step (softmax losses)
    items_per_step: int = 4096  # candidates of a step: all items up to this number, else a sample (not full_softmax)

    learning_rate: float = 3e-3  # at the start
    cosine_decay: bool = False  # let the rate fall to a fiftieth over `epochs`, along a cosine
    weight_decay: float = 1e-2  # of AdamW
    dropout: float = 0.1  # on the content before it becomes an item vector
    epochs: int = 40  # at most
    patience: int = 6  # epochs without a better validation metric before training stops
    batch_size: int = 128  # users a step
    metric: str = "NDCG@10"  # of validation; R@k, NDCG@k, HR@k or MRR@k
    seed: int = 7  # of weights, batches and dropout

    def __post_init__(self) -> None:
        for name in ("modality_dropout", "history_dropout", "dropout", "user_id_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}: got {getattr(self, name)}, expected a share from 0 to below 1")
        if self.user_tower != "profile" and self.loss == "profile_cosine":
            raise ValueError(
                "loss: profile_cosine trains the profile tower only; the sequence tower takes softmax or full_softmax"
            )
        self._check_submodels()
        if self.encoder.width % self.encoder.heads:
            raise ValueError(
                f"encoder.width: got {self.encoder.width}, expected a multiple of encoder.heads ({self.encoder.heads})"
            )
        if self.hard_negatives < 0 or self.half_life_days < 0:
            raise ValueError(
                f"hard_negatives, half_life_days: got {self.hard_negatives}, {self.half_life_days}, expected 0 or more"
            )
        if not self.score_exponent > 0:
            raise ValueError(f"score_exponent: got {self.score_exponent}, expected a power above 0")
        cutoff_of(self.metric)

    def _check_submodels(self) -> None:
        count = self.num_submodels
        if count < 1 or (count > 1 and (self.loss != "profile_cosine" or self.embedding_dim % count)):
            raise ValueError(
                f"num_submodels: got {count}, expected a divisor of embedding_dim, and the loss profile_cosine"
            )
        if self.item_scale and self.embedding_dim < 2 * count:
            raise ValueError(
                "item_scale: needs at least 2 dimensions of embedding_dim a submodel, one of which holds the scale"
            )


def cutoff_of(metric: str) -> int:
    """The k of a metric's name. Raises ValueError for what is none of those that lists are judged by."""
    kind, _, cutoff = metric.partition("@")
    if kind not in ("R", "NDCG", "HR", "MRR") or not cutoff.isdecimal() or int(cutoff) < 1:
        raise ValueError(f"metric: got {metric!r}, expected R@k, NDCG@k, HR@k or MRR@k")
    return int(cutoff)
