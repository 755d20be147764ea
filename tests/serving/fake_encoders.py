"""Encoders for tests of the node, which calls them by their dotted path."""

import json
from pathlib import Path

import numpy as np

from components.pretrained_config import PretrainedConfig


def load(config: PretrainedConfig):
    """One that says how long a text is, how loud a sound, or how bright a picture, and notes in its folder what it
    was asked."""

    def encode(batch):
        with (Path(config.path) / f"{config.name}.jsonl").open("a") as calls:
            for item in batch:
                calls.write(json.dumps(_noted(item)) + "\n")
        if config.kind == "text":
            vectors = [[len(text), -1.0] for text in batch]
        elif config.kind == "picture_efficientnet_lite":
            vectors = [[video.pictures.mean(), video.duration_s] for video in batch]
        else:
            vectors = [[np.abs(track.waveforms).max(), track.duration_s] for track in batch]
        features = {f"embedding_{config.name}": np.array(vectors, np.float32)}
        if config.tune is not None:
            features[f"pieces_{config.name}"] = np.tile(np.int64([7, -1, -1]), (len(batch), 1))
        return features

    return encode


def _noted(item):
    if isinstance(item, str):
        return item
    return list(item.pictures.shape) if hasattr(item, "pictures") else [int(count) for count in item.num_samples]


def load_broken(config: PretrainedConfig):
    """As `load`, but what it makes of a text about rain is no number."""
    encode = load(config)

    def broken(batch):
        features = encode(batch)
        is_rain = np.array(["rain" in text for text in batch])
        features["embedding_words"][is_rain, 1] = np.nan
        return features

    return broken
