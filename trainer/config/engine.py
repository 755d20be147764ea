"""Settings of the training engine: devices, precision and checkpoints. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Device = Literal["auto", "cpu", "gpu", "tpu"]
Precision = Literal["float32", "mixed_bfloat16", "mixed_float16"]


@dataclass(frozen=True)
class EngineConfig:
    """Where the trainers compute; docs/training.md says which of it was tried on what."""

    device: Device = "auto"  # auto: all GPUs there are, else the CPU; several machines by TF_CONFIG
    tpu: str = ""  # name or grpc:// address of the TPU; "local" on a TPU VM
    precision: Precision = "float32"  # of the training step; bfloat16 on a CPU, float16 on a GPU
    xla: bool = False  # compile the training step; one replica, and the profile_cosine loss
    checkpoint_every_s: float = 60.0  # a killed training repeats at most about so many seconds

    def __post_init__(self) -> None:
        if (self.device == "tpu") != bool(self.tpu):
            raise ValueError(f"device {self.device!r} and tpu {self.tpu!r}: a TPU needs both, anything else neither")
        if not self.checkpoint_every_s >= 0:
            raise ValueError(
                f"checkpoint_every_s: got {self.checkpoint_every_s}, expected seconds, 0 for after every step"
            )
