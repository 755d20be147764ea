"""Settings of adversarial training of the content. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class AdversaryConfig:
    """How far an adversary may move the inputs of the content, in the units of each, and by which method."""

    method: Literal["fgsm", "pgd"] = "pgd"  # one step along the sign of the gradient, or several from a random start
    steps: int = 5  # of pgd
    audio: float = 0.3  # log-mel, natural-log units of power: 0.3 is 1.3 dB
    video: float = 4.0  # pixel values out of 255
    text: float = 0.3  # words and tags: share of the root mean square of the values of all word vectors
    embedding: float = 0.1  # given embeddings: share of the root mean square of their values

    def __post_init__(self) -> None:
        if self.steps < 1 or min(self.audio, self.video, self.text, self.embedding) < 0:
            raise ValueError("adversary: expected at least one step and no radius below 0")
