"""Encoders from a disk: log-mel against librosa, a TensorFlow 1 checkpoint and a SavedModel against NumPy."""

import librosa
import numpy as np
import pytest

from components.media.audio import AudioSegments
from components.pretrained_config import PretrainedConfig, SpectrogramConfig
from trainer.encoders.frozen import load
from trainer.encoders.frozen_graph import checkpoint, saved_model
from trainer.encoders.log_mel import log_mel
from trainer.keras import tf

SMALL = SpectrogramConfig(mels=4, frames=10)
MEAN, KERNEL = np.float32([0.1, 0.2, 0.3, 0.4]), np.float32([[1, 0], [0, 1], [1, 1], [2, -1]])


def sound(seconds: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.3, 0.3, int(16_000 * seconds)).astype(np.float32)


def track(*segments: np.ndarray) -> AudioSegments:
    waveforms = np.stack([np.pad(segment, (0, 48_240 - len(segment))) for segment in segments])
    return AudioSegments(
        waveforms, np.array([len(segment) for segment in segments]), np.zeros(len(segments), np.float32), 9.0
    )


@pytest.mark.parametrize("config", [SpectrogramConfig(), SpectrogramConfig(mels=64, fft_samples=1024, hop_samples=320)])
def test_log_mel_equals_librosa(config):
    waveform = sound(3.0)
    power = librosa.feature.melspectrogram(
        y=waveform,
        sr=16_000,
        n_fft=config.fft_samples,
        hop_length=config.hop_samples,
        n_mels=config.mels,
        pad_mode="reflect",
    )
    np.testing.assert_allclose(log_mel(waveform, config), np.log10(1 + 10_000 * power.T), atol=1e-4)


@pytest.fixture(scope="module")
def old(tmp_path_factory):
    """A checkpoint as TensorFlow 1 left it, without a name."""
    return write_checkpoint(tmp_path_factory.mktemp("old"), functions=False)


def write_checkpoint(folder, functions: bool) -> str:
    """Normalise by training or stored mean, mean over time, a dense layer. functions: branches as functions, as newer
    graphs have them.
    """
    tf1 = tf.compat.v1
    was_v2 = tf1.control_flow_v2_enabled()
    (tf1.enable_control_flow_v2 if functions else tf1.disable_control_flow_v2)()
    with tf.Graph().as_default(), tf1.Session() as session:
        mels = tf1.placeholder(tf.float32, [None, 10, 4], "mels")
        is_training = tf1.placeholder(tf.bool, [], "is_training")
        mean = tf1.get_variable("mean", initializer=MEAN, use_resource=False)
        kernel = tf1.get_variable("kernel", initializer=KERNEL, use_resource=True)
        centred = mels - tf1.cond(is_training, lambda: tf.reduce_mean(mels, [0, 1]), lambda: tf.identity(mean))
        hidden = tf.identity(tf.reduce_mean(centred, 1) @ kernel, name="hidden")
        loss = tf.reduce_mean((tf.sigmoid(hidden, name="tags") - tf1.placeholder(tf.float32, [None, 2], "truth")) ** 2)
        tf1.train.AdamOptimizer().minimize(loss)
        session.run(tf1.global_variables_initializer())
        tf1.train.Saver().save(session, f"{folder}/model", write_state=False)
    (tf1.enable_control_flow_v2 if was_v2 else tf1.disable_control_flow_v2)()
    for path in folder.iterdir():
        path.rename(folder / path.name.removeprefix("model"))
    return str(folder)


def test_a_checkpoint_computes_what_its_graph_says(old):
    batch = np.random.default_rng(0).normal(size=(3, 10, 4)).astype(np.float32)
    hidden = checkpoint(old, "mels:0", "hidden:0", {"is_training:0": False})(tf.constant(batch)).numpy()
    np.testing.assert_allclose(hidden, (batch.mean(1) - MEAN) @ KERNEL, atol=1e-5)
    tags = checkpoint(old, "hidden:0", "tags:0")(tf.constant(hidden)).numpy()  # from the middle of the graph on
    np.testing.assert_allclose(tags, 1 / (1 + np.exp(-hidden)), atol=1e-6)


@pytest.mark.parametrize(
    ("fed", "fetched", "constants", "message"),
    [
        ("nowhere:0", "hidden:0", {}, "no tensor 'nowhere:0'"),
        ("mels:0", "hidden:0", {}, "depends on is_training"),
        ("truth:0", "hidden:0", {"is_training:0": False}, "depends on is_training, mels"),
    ],
)
def test_what_is_wrong_with_the_names_is_said(old, fed, fetched, constants, message):
    with pytest.raises(ValueError, match=message):
        checkpoint(old, fed, fetched, constants)


def test_branches_as_functions_are_refused(tmp_path):
    with pytest.raises(ValueError, match="export the model as a SavedModel"):
        checkpoint(write_checkpoint(tmp_path, functions=True), "mels:0", "hidden:0", {"is_training:0": False})


def test_a_folder_without_a_graph_is_refused(tmp_path):
    with pytest.raises(ValueError, match="got 0 .meta files"):
        checkpoint(str(tmp_path), "a:0", "b:0")
    (tmp_path / ".meta").write_bytes(b"\xff\xff\xff")
    with pytest.raises(ValueError, match="not a meta graph"):
        checkpoint(str(tmp_path), "a:0", "b:0")


@pytest.fixture(scope="module")
def loudness(tmp_path_factory):
    """A SavedModel that hears waveforms: mean square and peak."""
    module, folder = tf.Module(), str(tmp_path_factory.mktemp("loudness"))

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.float32, "waveform")])
    def call(waveform):
        return {
            "embedding": tf.stack([tf.reduce_mean(waveform**2, 1), tf.reduce_max(tf.abs(waveform), 1)], 1),
            "other": waveform,
        }

    module.call = call
    tf.saved_model.save(module, folder, signatures=call)
    return folder


def test_a_track_is_the_mean_of_its_segments_weighed_by_their_sound(loudness):
    encode = load(PretrainedConfig("loud", "audio_savedmodel", loudness, 2, hears="waveform", output="embedding"))
    long, short = sound(3.0, 1), sound(1.5, 2)
    got = encode([track(long, short, np.zeros(0, np.float32)), track(short)])["embedding_loud"]
    each = np.array([[(part**2).mean(), np.abs(part).max()] for part in (long, short)])
    np.testing.assert_allclose(got, [(2 * each[0] + each[1]) / 3, each[1]], atol=1e-6)


def test_a_checkpoint_hears_log_mel(old):
    config = PretrainedConfig(
        "old",
        "audio_checkpoint",
        old,
        2,
        spectrogram=SMALL,
        input="mels:0",
        output="hidden:0",
        constants={"is_training:0": False},
    )
    got = load(config)([track(sound(3.0))])["embedding_old"][0]
    np.testing.assert_allclose(got, (log_mel(sound(3.0), SMALL)[:10].mean(0) - MEAN) @ KERNEL, atol=1e-4)


def test_what_does_not_fit_is_said(loudness):
    with pytest.raises(ValueError, match="got vectors of 2 numbers, expected dim = 3"):
        load(PretrainedConfig("loud", "audio_savedmodel", loudness, 3, hears="waveform", output="embedding"))
    with pytest.raises(ValueError, match="expected one of serving_default"):
        saved_model(loudness, "encode")
    with pytest.raises(ValueError, match="one of each is needed"):
        saved_model(loudness, "serving_default")
