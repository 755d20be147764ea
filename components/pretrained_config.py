"""Settings of pretrained encoders, which the run's YAML lists under `encoders`. Standard library only."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

_NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True)
class SpectrogramConfig:
    """Log-mel input of an audio model: log10(1 + 10000 x) of mel powers on Slaney's scale, as musicnn hears (Pons &
    Serra, 2019)."""

    mels: int = 96  # mel bins
    fft_samples: int = 512  # the window's length too, at 16 kHz
    hop_samples: int = 256  # samples from one frame to the next
    frames: int = 187  # of a window that the model hears, 3 s


@dataclass(frozen=True)
class TuneConfig:
    """A text encoder inside the retrieval model, trained further with it, beside its frozen vectors."""

    layers: int = (
        2  # Transformer blocks that learn, counted from the top; beyond all of them the token embeddings learn too
    )
    learning_rate: float = 2e-5  # of the topmost block
    layer_decay: float = 0.8  # each block below learns with that share of the rate of the one above
    tokens: int = 64  # of a text, the two special ones included; the rest is cut

    def __post_init__(self) -> None:
        if self.layers < 0:
            raise ValueError(f"layers: got {self.layers}, expected 0 (all stay as they are) or more")
        if not 0 < self.layer_decay <= 1:
            raise ValueError(f"layer_decay: got {self.layer_decay}, expected a share above 0, up to 1")
        if self.tokens < 3:
            raise ValueError(f"tokens: got {self.tokens}, expected at least 3, two of which are special")


@dataclass(frozen=True)
class PretrainedConfig:
    """One pretrained encoder, run once an item; its vectors are the modality `embedding_<name>`."""

    name: str  # of the columns that it adds, embedding_<name>
    kind: Literal["text", "audio_savedmodel", "audio_checkpoint", "picture_efficientnet_lite"]  # what the folder holds
    path: str  # folder of the model
    dim: int  # of its vectors; another one is an error
    columns: tuple[str, ...] = ("title", "description", "tags")  # text: what it reads of an item, in that order
    tune: TuneConfig | None = None  # text: also trained further
    hears: Literal["log_mel", "waveform"] = (
        "log_mel"  # audio: float32 [B, frames, mels], or mono [B, samples] at 16 kHz, 3 s of each
    )
    spectrogram: SpectrogramConfig = SpectrogramConfig()
    signature: str = "serving_default"  # audio_savedmodel: one input; its output is `output`, or the only one
    input: str = ""  # audio_checkpoint: the tensor to feed, as in model/Placeholder:0
    output: str = ""  # the tensor, or the output of the signature, float [B, dim]
    constants: dict[str, bool] = field(
        default_factory=dict
    )  # audio_checkpoint: other placeholders, as in model/is_training:0 -> false

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"name: got {self.name!r}, expected {_NAME.pattern}")
        if self.dim < 1:
            raise ValueError(f"dim: got {self.dim}, expected the length of the encoder's vectors")
        if self.kind == "audio_checkpoint" and not (self.input and self.output):
            raise ValueError(
                f"encoder {self.name}: an audio_checkpoint needs the names of its tensors, input and output"
            )
        if self.kind != "text" and self.tune is not None:
            raise ValueError(f"encoder {self.name}: only text encoders can be tuned")
        if not self.columns:
            raise ValueError(f"encoder {self.name}: columns: got none, expected at least one to read")

    @property
    def reads_tags(self) -> bool:
        """Whether an item's tags are in what it encodes."""
        return self.kind == "text" and "tags" in self.columns


@dataclass(frozen=True)
class Encoders:
    """All encoders of a run, as the nodes take them."""

    each: tuple[PretrainedConfig, ...] = ()

    def __post_init__(self) -> None:
        names = [encoder.name for encoder in self.each]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"encoders: more than one is named {', '.join(twice)}")

    @property
    def embeddings(self) -> dict[str, int]:
        """Name -> dimension of what the node adds to the items."""
        return {encoder.name: encoder.dim for encoder in self.each}

    @property
    def tuned(self) -> tuple[PretrainedConfig, ...]:
        """Those that are trained further."""
        return tuple(encoder for encoder in self.each if encoder.tune is not None)
