"""Settings of differentially private training. Standard library only."""

from __future__ import annotations

import math
from dataclasses import dataclass

from trainer.config.engine import EngineConfig
from trainer.config.retrieval import RetrievalConfig


@dataclass(frozen=True)
class DifferentialConfig:
    """(epsilon, delta)-differential privacy of the towers' weights, at the level of a person (docs/privacy.md)."""

    epsilon: float  # above 0; .inf clips without noise, which guarantees nothing
    delta: float  # above 0, well below one by the number of people
    clip: float = 0.1  # largest L2 norm of what a person adds to a step's gradient
    people_per_step: int = 256  # expected; each person is in a step with the same chance, independently of all others
    epochs: int = 20  # all are trained: early stopping would look at people outside of the guarantee
    learning_rate: float = 0.03  # of AdamW, in place of retrieval's: private steps are few
    content_share: float = 0.5  # of an item's vector that its content decides, for items with and without interactions

    def __post_init__(self) -> None:
        if not self.epsilon > 0:
            raise ValueError(f"epsilon: got {self.epsilon}, expected a number above 0 (.inf for no noise)")
        if not 0 < self.delta < 1:
            raise ValueError(f"delta: got {self.delta}, expected a probability above 0 and below 1")
        if not self.clip > 0 or (math.isinf(self.clip) and not math.isinf(self.epsilon)):
            raise ValueError(f"clip: got {self.clip}, expected a norm above 0, and a finite one where there is noise")
        if self.people_per_step < 1 or self.epochs < 1:
            raise ValueError(
                f"people_per_step, epochs: got {self.people_per_step}, {self.epochs}, expected at least 1 of each"
            )
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate: got {self.learning_rate}, expected more than 0")
        if not 0 <= self.content_share < 1:
            raise ValueError(f"content_share: got {self.content_share}, expected a share from 0 to below 1")


@dataclass(frozen=True)
class TrainingPrivacyConfig:
    """What training may learn of a single person."""

    differential: DifferentialConfig | None = None  # training by DP-SGD; None trains as usual


def check_private(retrieval: RetrievalConfig, engine: EngineConfig, replicas: int = 1) -> None:
    """Raises ValueError for settings under which people would get into the weights beside the private steps, and for
    more than one replica, each of which would take private steps of its own.
    """
    if replicas > 1:
        raise ValueError(
            f"privacy.differential: got {replicas} replicas, expected one device of one worker; see engine.device, "
            "CUDA_VISIBLE_DEVICES and TF_CONFIG"
        )
    if retrieval.loss != "profile_cosine":
        raise ValueError(
            f"privacy.differential: got retrieval.loss {retrieval.loss}, expected profile_cosine, "
            "the one whose gradient is split by person"
        )
    if retrieval.use_user_features or retrieval.use_user_id:
        raise ValueError(
            "privacy.differential: retrieval.use_user_features and use_user_id put people's data into the model; "
            "expected both to be off"
        )
    if engine.precision != "float32" or engine.xla:
        raise ValueError("privacy.differential: engine.precision and engine.xla: expected float32 without xla")
