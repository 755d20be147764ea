"""The masked objective: what is hidden is guessed from the rest, the encoders learn it, and their weights travel."""

import dataclasses
import json

import numpy as np
import pytest

from trainer.config.pretraining import PretrainingConfig
from trainer.content.pretraining import (
    MaskedPatches,
    MaskedWords,
    hide,
    normalised,
)
from trainer.content.run_pretraining import pretrain_encoders, pretrained
from trainer.encoders.audio import AudioEncoder
from trainer.encoders.codebook import CODEBOOK
from trainer.encoders.text import TextEncoder
from trainer.encoders.weights import initialise, read_weights, write_weights
from trainer.keras import tf
from trainer.retrieval.run import build


def test_the_share_is_hidden_among_what_is_there_and_one_at_least():
    there = np.zeros((4, 20), bool)
    there[0, :20], there[1, :10], there[2, :1] = True, True, True
    for _ in range(5):
        hidden = hide(tf.constant(there), 0.3).numpy()
        assert hidden.sum(1).tolist() == [6, 3, 1, 0]
        assert not (hidden & ~there).any()
    assert len({hide(tf.constant(there), 0.3).numpy().tobytes() for _ in range(5)}) > 1


def test_targets_have_mean_0_and_deviation_1_and_an_even_patch_is_0():
    patches = tf.constant(np.stack([np.arange(8.0), 5 * np.arange(8.0) + 3, np.full(8, 7.0)])[None], tf.float32)
    got = normalised(patches).numpy()[0]
    np.testing.assert_allclose(got[0], (np.arange(8) - 3.5) / np.arange(8).std(), atol=1e-5)
    np.testing.assert_allclose(got[1], got[0], atol=1e-5)
    np.testing.assert_allclose(got[2], 0)


def test_a_hidden_word_is_learned_from_its_neighbour_not_from_itself(tiny):
    """Pairs of words that always come together: hidden, each is told by the other, so the error falls far below chance
    (ln 8 = 2.08).
    """
    tf.keras.utils.set_random_seed(1)
    words = np.zeros((64, 48), np.int64)
    pairs = np.random.default_rng(0).integers(0, 4, 64)
    words[:, 0], words[:, 1] = 2 + 2 * pairs, 3 + 2 * pairs
    model = MaskedWords(TextEncoder(10, tiny.SMALL), 0.5, tiny.SMALL)
    features = {"text_tokens": tf.constant(words)}
    before = float(model(features))
    optimizer = tf.keras.optimizers.Adam(0.02)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            loss = model(features, training=True)
        optimizer.apply_gradients(zip(tape.gradient(loss, model.trainable_variables), model.trainable_variables))

    for _ in range(150):
        step()
    after = float(np.mean([model(features).numpy() for _ in range(10)]))
    assert before > 1.9 and after < 0.5


def test_what_is_hidden_does_not_reach_the_encoder(tiny, monkeypatch):
    """All patches hidden, same statistics: the prediction is the same whatever the patches hold, so nothing leaks
    through.
    """
    tf.keras.utils.set_random_seed(1)
    monkeypatch.setattr("trainer.content.pretraining.hide", lambda there, share: there)
    seen = []
    zeros = lambda patches: seen.append(patches) or tf.zeros_like(patches)  # noqa: E731  (error = prediction^2)
    monkeypatch.setattr("trainer.content.pretraining.normalised", zeros)
    encoder = AudioEncoder(tiny.SMALL)
    model = MaskedPatches(encoder, 0.5, tiny.SMALL)
    random = np.random.default_rng(0)
    shared = {"audio_num_frames": tf.fill([2, 3], tf.constant(300, tf.int64)), "audio_statistics": tf.ones([2, 241])}
    errors = [
        float(model({**shared, "audio_log_mel": tf.constant(random.integers(0, 256, (2, 3, 300, 64)), tf.uint8)}))
        for _ in range(2)
    ]
    assert errors[0] == errors[1] > 0
    assert not np.allclose(seen[0], seen[1])


def test_pretraining_lowers_the_error_on_items_held_out_and_reports_it(table, tiny):
    config = PretrainingConfig(epochs=3, batch_size=4, learning_rate=5e-3)
    encoders, report = pretrained(table, dataclasses.replace(tiny.SMALL, keep_tokens=1.0), config)
    assert tuple(encoders) == tuple(report) == ("text", "audio", "video")
    for numbers in report.values():
        assert numbers["items"] == len(table) and numbers["epochs"] <= 3
        assert numbers["after"] <= numbers["before"]
    assert any(numbers["after"] < 0.95 * numbers["before"] for numbers in report.values())


def test_of_a_rare_modality_the_scale_is_measured_too(table, tiny, monkeypatch):
    """Two items of each modality are looked at, and three of twelve have video: the first and the last of them."""
    monkeypatch.setattr("trainer.content.run_pretraining._SCALED_ON", 2)
    table.arrays["has_video"] = np.isin(np.arange(len(table)), [4, 5, 6]).astype(np.int64)
    config = PretrainingConfig(modalities=("text", "video"), epochs=1, batch_size=8)
    encoders, _ = pretrained(table, tiny.SMALL, config)
    expected = table.arrays["video_statistics"][[4, 6]]
    np.testing.assert_allclose(encoders["video"].standardise.mean, expected.mean(0), rtol=1e-4, atol=1e-6)
    assert np.abs(encoders["video"].standardise.inverse_deviation.numpy() - 1).max() > 0.5


@pytest.mark.parametrize("audio", ["codebook", "masked"])
def test_an_error_that_no_item_is_held_out_for_is_none(item_file, tiny, tmp_path, monkeypatch, audio):
    monkeypatch.setattr("trainer.content.pretraining._HELD_OUT", 0.0)
    config = PretrainingConfig(modalities=("audio",), audio=audio, epochs=1, batch_size=8)
    report = pretrain_encoders(item_file, "", str(tmp_path), tiny.DATA, tiny.SMALL, config)
    assert report["audio"]["before"] is report["audio"]["after"] is None and report["audio"]["items"] == 12
    assert json.loads((tmp_path / "report.json").read_text()) == report


def test_weights_written_by_the_entry_are_those_that_the_towers_start_from(
    item_file, table, train_split, tiny, tmp_path
):
    """The encoders of a retrieval model start where pretraining left them, and the linear map reads what they say."""
    config = PretrainingConfig(modalities=("audio", "text"), epochs=1, batch_size=8)
    report = pretrain_encoders(item_file, "", str(tmp_path / "weights"), tiny.DATA, tiny.SMALL, config)
    assert set(report) == {"text", "audio"} and (tmp_path / "weights" / "report.json").is_file()
    stored = read_weights(str(tmp_path / "weights"))
    tower = build(table, train_split, tiny.DATA, tiny.CONFIG, encoder_weights=str(tmp_path / "weights")).item_tower
    for name, weights in stored.items():
        for got, expected in zip(tower.encoders[name].get_weights(), weights, strict=True):
            np.testing.assert_array_equal(got, expected)
    blocks = {block.name for block in tower.linear.blocks}
    assert {"text_pretrained", "audio_pretrained"} <= blocks and "video_pretrained" not in blocks
    features = table.take(np.arange(len(table)), tower.inputs)
    np.testing.assert_allclose(
        features["audio_pretrained"], tower.encoders["audio"](features, training=False), atol=1e-4
    )
    bare = {name: value for name, value in features.items() if not name.endswith(("_pretrained", "_statistics"))}
    np.testing.assert_allclose(tower.content(bare)[0], tower.content(features)[0], atol=1e-4)  # as it is served


def test_the_dictionary_of_patches_is_what_the_linear_map_reads_and_what_is_served(
    item_file, table, train_split, tiny, tmp_path
):
    config = PretrainingConfig(modalities=("audio", "text"), audio="codebook", epochs=1, batch_size=8)
    report = pretrain_encoders(item_file, "", str(tmp_path / "weights"), tiny.DATA, tiny.SMALL, config)
    assert set(report) == {"text", "audio"} and report["audio"]["items"] == len(table)
    stored = read_weights(str(tmp_path / "weights"))
    assert set(stored) == {"text", CODEBOOK}
    tower = build(table, train_split, tiny.DATA, tiny.CONFIG, encoder_weights=str(tmp_path / "weights")).item_tower
    for got, expected in zip(tower.pretrained["audio"].get_weights(), stored[CODEBOOK], strict=True):
        np.testing.assert_array_equal(got, expected)
    assert not tower.pretrained["audio"].trainable_weights
    features = table.take(np.arange(len(table)), tower.inputs)
    np.testing.assert_allclose(features["audio_pretrained"], tower.pretrained["audio"](features), atol=1e-4)
    bare = {name: value for name, value in features.items() if not name.endswith(("_pretrained", "_statistics"))}
    np.testing.assert_allclose(tower.content(bare)[0], tower.content(features)[0], atol=1e-4)  # as it is served


def test_weights_of_another_encoder_are_refused(tiny, tmp_path):
    small, wide = TextEncoder(10, tiny.SMALL, name="text"), TextEncoder(12, tiny.SMALL, name="text")
    for encoder in (small, wide):
        encoder({"text_tokens": tf.ones([1, 48], tf.int64)})
    write_weights({"text": small}, str(tmp_path))
    with pytest.raises(ValueError, match="pretrain with the same"):
        initialise(wide, read_weights(str(tmp_path))["text"])


def test_nothing_to_pretrain_is_an_error(table, tiny):
    with pytest.raises(ValueError, match="nothing to train"):
        pretrained(table, dataclasses.replace(tiny.SMALL, layers=0), PretrainingConfig())
