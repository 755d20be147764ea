"""The time-delay network: the convolutions and the pooling against NumPy, true lengths, and where it is heard."""

import dataclasses

import numpy as np
import pytest

from trainer.encoders.audio import AudioEncoder
from trainer.encoders.tdnn import DELAYS, TimeDelays
from trainer.keras import tf


def _numpy_delays(layer, segments):
    """Frame by frame: segments [F_s, M] of one item, each cut to its true length -> mean and deviation of what the last
    layer says.
    """
    heard = []
    for frames in segments:
        for (size, distance), convolution in zip(DELAYS, layer.convolutions):
            kernel, bias = (weight.numpy() for weight in convolution.weights)  # [size, in, out], [out]
            outputs = np.tile(bias, (len(frames), 1))
            for place in range(len(frames)):
                for tap in range(size):
                    at = place + (tap - size // 2) * distance
                    if 0 <= at < len(frames):
                        outputs[place] += frames[at] @ kernel[tap]
            frames = np.maximum(outputs, 0)
        heard.append(frames)
    heard = np.concatenate(heard)
    return np.concatenate([heard.mean(0), np.sqrt(heard.var(0) + 1e-6)])


@pytest.fixture()
def layer(tiny):
    tf.keras.utils.set_random_seed(3)
    return TimeDelays(tiny.SMALL)


def _valid(lengths, frames):
    return tf.constant((np.arange(frames) < np.array(lengths)[..., None]).astype(np.float32)[..., None])


def test_it_is_convolution_and_statistics_pooling_over_the_true_frames(layer):
    """Two items of two segments, of lengths that padding hides; one segment is empty."""
    frames = np.random.default_rng(0).normal(size=(2, 2, 20, 5)).astype(np.float32)
    lengths = [[20, 7], [11, 0]]
    got = layer(tf.constant(frames), _valid(lengths, 20)).numpy()
    for item in range(2):
        segments = [frames[item, segment, :length] for segment, length in enumerate(lengths[item]) if length]
        np.testing.assert_allclose(got[item], _numpy_delays(layer, segments), atol=1e-5)


def test_padding_changes_nothing(layer):
    """Neither what stands in it nor how much of it there is."""
    random = np.random.default_rng(1)
    frames = random.normal(size=(1, 1, 24, 5)).astype(np.float32)
    short = layer(tf.constant(frames[:, :, :12]), _valid([[9]], 12)).numpy()
    frames[:, :, 9:] = 100 * random.normal(size=(1, 1, 15, 5))
    np.testing.assert_allclose(layer(tf.constant(frames), _valid([[9]], 24)).numpy(), short, atol=1e-5)


def test_an_item_without_frames_gives_nothing(layer):
    assert not layer(tf.ones([1, 2, 9, 5]), _valid([[0, 0]], 9)).numpy().any()


def test_a_frame_is_heard_as_far_as_the_contexts_reach(layer):
    """Five frames, three two apart, three three apart: seven frames to either side, and no further."""
    reach = sum(size // 2 * distance for size, distance in DELAYS)
    assert reach == 7
    frames = tf.Variable(tf.random.stateless_normal([1, 41, 5], [1, 2]))
    with tf.GradientTape() as tape:
        outputs = frames
        for convolution in layer.convolutions:
            convolution.activation = tf.keras.activations.linear  # a unit that is silent would hide the reach
            outputs = convolution(outputs)
        middle = tf.reduce_sum(outputs[:, 20])
    moved = np.flatnonzero(np.abs(tape.gradient(middle, frames).numpy()[0]).sum(1))
    assert (moved.min(), moved.max()) == (20 - reach, 20 + reach)


def test_the_encoder_hears_it_beside_the_statistics(tiny):
    """With Transformer blocks, frames count beyond the statistics and the patches; without, there is nothing but the
    statistics.
    """
    random = np.random.default_rng(2)
    features = {
        "audio_num_frames": tf.constant([[300, 40, 0]], tf.int64),
        "audio_statistics": tf.constant(random.normal(size=(1, 6)), tf.float32),
        "audio_log_mel": tf.constant(random.integers(0, 256, (1, 3, 300, 64)), tf.uint8),
    }
    encoder = AudioEncoder(tiny.SMALL)
    answer = encoder(features).numpy()
    encoder.project_delays.kernel.assign(tf.ones_like(encoder.project_delays.kernel) * [[1.0] * 4 + [-1.0] * 4])
    assert np.abs(encoder(features).numpy() - answer).max() > 1e-3
    alone = AudioEncoder(dataclasses.replace(tiny.SMALL, layers=0))
    alone(features)
    assert len(alone.weights) == len(alone.standardise.weights) + len(alone.project_statistics.weights)
