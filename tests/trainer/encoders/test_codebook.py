"""The dictionary of patches: learned from sounds alone, it tells instruments apart and ignores padding."""

import numpy as np
import pytest

from trainer.encoders.codebook import ATOMS, HOP_FRAMES, PATCH_FRAMES, PatchCodebook
from trainer.keras import tf

TRACKS, KINDS = 24, 3


@pytest.fixture(scope="module")
def tracks():
    """Tracks of three instruments in turns, each a shape of the spectrum that swells and fades at its own rate, under
    noise.
    """
    random = np.random.default_rng(3)
    shapes = random.integers(0, 120, (KINDS, 64))
    rates = np.array([0.1, 0.35, 0.8])
    phases = random.uniform(0, 6, (TRACKS, 3, 1, 1))
    kinds = np.arange(TRACKS) % KINDS
    swell = 0.5 + 0.5 * np.sin(np.arange(300)[None, None, :, None] * rates[kinds][:, None, None, None] + phases)
    mels = 60 + shapes[kinds][:, None, None, :] * swell + random.normal(0, 12, (TRACKS, 3, 300, 64))
    features = {"audio_log_mel": mels.clip(0, 255).astype(np.uint8), "audio_num_frames": np.full((TRACKS, 3), 300)}
    return features, kinds


@pytest.fixture(scope="module")
def learned(tracks):
    codebook = PatchCodebook()
    is_held_out = np.arange(TRACKS) >= TRACKS - KINDS
    return codebook, codebook.learn(tracks[0], is_held_out, seed=1)


def test_the_nearest_track_has_the_same_instrument(tracks, learned):
    vectors = learned[0](tracks[0]).numpy()
    assert vectors.shape == (TRACKS, 2 * ATOMS)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    similarity = unit @ unit.T - 2 * np.eye(TRACKS)
    assert (tracks[1][similarity.argmax(1)] == tracks[1]).all()


def test_learned_atoms_describe_new_tracks_better_than_atoms_drawn_at_random(learned):
    assert 0 <= learned[1].after < learned[1].before <= 1


def test_the_activity_is_that_of_a_plain_loop_over_patches(tracks, learned):
    codebook, features = learned[0], {name: values[:2].copy() for name, values in tracks[0].items()}
    features["audio_num_frames"][:] = [[300, 21, 0], [300, 300, 7]]
    got = codebook.activity(features).numpy()
    projection = codebook.projection.numpy().reshape(-1, codebook.projection.shape[-1])
    for row in range(2):
        answers = []
        for segment, count in zip(features["audio_log_mel"][row], features["audio_num_frames"][row]):
            nats = segment.astype(np.float64) * 15 / 255 - 9
            for start in range(0, count - PATCH_FRAMES + 1, HOP_FRAMES):
                whitened = nats[start : start + PATCH_FRAMES].ravel() @ projection + codebook.offset.numpy()
                answers.append(np.maximum(whitened / np.linalg.norm(whitened) @ codebook.atoms.numpy() - 0.1, 0))
        expected = np.concatenate([np.mean(answers, 0), np.std(answers, 0)])
        np.testing.assert_allclose(got[row], expected, atol=2e-4)


def test_what_lies_behind_the_sound_changes_nothing(tracks, learned):
    features = {name: values[:4].copy() for name, values in tracks[0].items()}
    features["audio_num_frames"][:] = 100
    before = learned[0](features).numpy()
    features["audio_log_mel"][:, :, 100:] = 255
    np.testing.assert_array_equal(learned[0](features).numpy(), before)
    features["audio_num_frames"][:] = 0
    assert np.isfinite(learned[0](features)).all()


def test_the_same_seed_gives_the_same_dictionary(tracks, learned):
    again = PatchCodebook()
    again.learn(tracks[0], np.arange(TRACKS) >= TRACKS - KINDS, seed=1)
    for got, expected in zip(again.get_weights(), learned[0].get_weights(), strict=True):
        np.testing.assert_array_equal(got, expected)


def test_too_little_sound_is_refused():
    features = {"audio_log_mel": np.zeros((2, 3, 300, 64), np.uint8), "audio_num_frames": np.full((2, 3), 5)}
    with pytest.raises(ValueError, match=f"got 0 patches of sound, expected at least {ATOMS}"):
        PatchCodebook().learn(features, np.zeros(2, bool), seed=1)


def test_it_is_traced_like_any_layer(tracks, learned):
    features = {name: tf.constant(values[:3]) for name, values in tracks[0].items()}
    traced = tf.function(learned[0])(features)
    np.testing.assert_allclose(traced, learned[0](features), atol=1e-5)
