"""Frozen pretrained encoders as plain functions of batches of texts, of audio or of pictures.

B items, R segments or pictures, E dimensions of a vector.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from components.media.audio import AudioSegments
from components.media.spectrogram import SAMPLE_RATE_HZ
from components.media.video import LARGE, KeyFrames
from components.pretrained_config import PretrainedConfig
from trainer.encoders.efficientnet_lite import efficientnet_lite
from trainer.encoders.folders import local_folder
from trainer.encoders.frozen_graph import Model, checkpoint, saved_model
from trainer.encoders.log_mel import log_mel
from trainer.encoders.pretrained import sentence_encoder
from trainer.keras import tf

_HEARD_SAMPLES = 3 * SAMPLE_RATE_HZ  # of a segment; contract segments are a little longer


def load(config: PretrainedConfig) -> Callable[[Sequence], dict[str, np.ndarray]]:
    """Loads an encoder: a function from a batch of texts, AudioSegments or large KeyFrames to the features that it
    adds to each item.

    They are `embedding_<name>` float32 [B, E], and of a text encoder that is tuned `pieces_<name>` int64 [B,
    tune.tokens], -1 where padded.
    Raises ValueError where the model is not there, is not of its kind, or gives vectors of another length than
    `config.dim`.
    """
    encode: TextEncoder | AudioEncoder | PictureEncoder
    if config.kind == "text":
        encode = TextEncoder(config)
    elif config.kind == "picture_efficientnet_lite":
        encode = PictureEncoder(config)
    else:
        encode = AudioEncoder(config)
    if encode.dim != config.dim:
        raise ValueError(f"encoder {config.name}: got vectors of {encode.dim} numbers, expected dim = {config.dim}")
    return encode


class TextEncoder:
    """Encodes texts by a sentence encoder."""

    def __init__(self, config: PretrainedConfig):
        self._config, self._encoder = config, sentence_encoder(config.path)
        self.dim = self._encoder.dim

    def __call__(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        """The features of each text."""
        name, tune, batch = self._config.name, self._config.tune, tf.constant(list(texts))
        features = {f"embedding_{name}": self._encoder(batch)["vector"].numpy()}
        if tune is not None:
            pieces = self._encoder.tokeniser.pieces(batch, tune.tokens)
            features[f"pieces_{name}"] = tf.cast(pieces, tf.int64).to_tensor(-1, shape=[None, tune.tokens]).numpy()
        return features


class AudioEncoder:
    """Encodes tracks by an audio model: the mean of the segments' vectors, each weighted by its length."""

    def __init__(self, config: PretrainedConfig):
        self._config = config
        with local_folder(config.path) as folder:
            self._model: Model = (
                checkpoint(folder, config.input, config.output, config.constants)
                if config.kind == "audio_checkpoint"
                else saved_model(folder, config.signature, config.output)
            )
        self.dim = self._vectors([np.zeros(_HEARD_SAMPLES, np.float32)]).shape[1]

    def __call__(self, tracks: Sequence[AudioSegments]) -> dict[str, np.ndarray]:
        """The features of each track; every one has some sound in it."""
        pieces = [
            (row, min(int(count), _HEARD_SAMPLES), segment[: int(count)])
            for row, track in enumerate(tracks)
            for segment, count in zip(track.waveforms, track.num_samples)
            if count
        ]
        owners, weights = (np.array([piece[place] for piece in pieces]) for place in (0, 1))
        vectors = self._vectors([sound for _, _, sound in pieces])
        sums = np.zeros((len(tracks), vectors.shape[1]))
        np.add.at(sums, owners, vectors * weights[:, None])
        means = sums / np.bincount(owners, weights, len(tracks))[:, None]
        return {f"embedding_{self._config.name}": means.astype(np.float32)}

    def _vectors(self, sounds: Sequence[np.ndarray]) -> np.ndarray:
        """The vectors of some segments: float32 [R, E]."""
        vectors = np.asarray(self._model(tf.constant(np.stack([self._heard(sound) for sound in sounds]))), np.float32)
        if vectors.ndim != 2:
            raise ValueError(
                f"encoder {self._config.name}: got an output of shape {vectors.shape}, expected a vector a segment"
            )
        return vectors

    def _heard(self, sound: np.ndarray) -> np.ndarray:
        """The model's input for a segment, which is repeated where it is too short."""
        waveform = np.resize(sound, _HEARD_SAMPLES) if len(sound) < _HEARD_SAMPLES else sound[:_HEARD_SAMPLES]
        if self._config.hears == "waveform":
            return waveform
        mels = log_mel(waveform, self._config.spectrogram)
        return np.resize(
            mels, (self._config.spectrogram.frames, mels.shape[1])
        )  # a window longer than 3 s repeats them


class PictureEncoder:
    """Encodes pictures and videos by an image model: the mean of the key frames' vectors."""

    def __init__(self, config: PretrainedConfig):
        self._config = config
        with local_folder(config.path) as folder:
            self._model = efficientnet_lite(folder)
        self.dim = self._model.output_shape[1]

    def __call__(self, videos: Sequence[KeyFrames]) -> dict[str, np.ndarray]:
        """The features of each video; every one has a picture."""
        counts = [len(video.pictures) for video in videos]
        vectors = self._vectors(np.concatenate([video.pictures for video in videos]))
        sums = np.add.reduceat(vectors, np.cumsum([0, *counts[:-1]]), axis=0)
        return {f"embedding_{self._config.name}": (sums / np.array(counts)[:, None]).astype(np.float32)}

    def _vectors(self, pictures: np.ndarray) -> np.ndarray:
        """The vectors of some pictures, uint8 [R, LARGE, LARGE, 3]: float32 [R, E]."""
        assert pictures.shape[1:] == (LARGE, LARGE, 3)
        return self._apply(tf.constant(pictures)).numpy()

    @tf.function(reduce_retracing=True, autograph=False)
    def _apply(self, pictures):
        return self._model(tf.cast(pictures, tf.float32))
