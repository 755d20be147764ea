"""A text encoder inside the item tower: what learns, how fast, and what is saved."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from tensorflow.core.protobuf import saved_model_pb2

from components.pretrained_config import PretrainedConfig, TuneConfig
from tests.trainer.tiny_bert import write_checkpoint
from trainer.content.fit import fit_content
from trainer.encoders.frozen import load
from trainer.encoders.pretrained import sentence_encoder
from trainer.encoders.tuned import LayerwiseAdamW, layer_rates
from trainer.keras import tf
from trainer.retrieval.cross_attention import CrossAttention
from trainer.retrieval.export import export
from trainer.retrieval.run import build

TUNE = TuneConfig(layers=1, learning_rate=0.01, layer_decay=0.5, tokens=6)


@pytest.fixture(scope="module")
def words(tmp_path_factory) -> PretrainedConfig:
    folder = tmp_path_factory.mktemp("words") / "model"
    write_checkpoint(folder)
    return PretrainedConfig("words", "text", str(folder), 8, tune=TUNE)


@pytest.fixture()
def read(table, words, tiny):
    """(the table with wordpieces that tell the kinds of items apart, its settings); the last item has no text."""
    texts = ["live piano", "a cafe!"] * (tiny.NUM_ITEMS // 2)
    table.arrays |= load(words)(texts)
    table.arrays["has_pieces_words"] = np.ones(len(texts), np.int64)
    table.arrays["has_pieces_words"][-1] = 0
    table.arrays["pieces_words"][-1] = -1
    table.modalities += ("pieces_words",)
    return table, dataclasses.replace(tiny.DATA, pieces={"words": TUNE.tokens})


@pytest.mark.parametrize(
    ("layers", "expected"),
    [(0, []), (1, [0.01]), (2, [0.01, 0.005]), (3, [0.01, 0.005, 0.0025]), (9, [0.01, 0.005, 0.0025])],
)
def test_rates_fall_from_the_top_and_the_rest_stays(words, layers, expected):
    """16 variables a block, 5 of the embeddings; the pooler of the sentence pair task is not used."""
    backbone = sentence_encoder(words.path).backbone
    rates = layer_rates(backbone, dataclasses.replace(TUNE, layers=layers))
    assert sorted({rate for _, rate in rates}, reverse=True) == expected
    assert len(rates) == 16 * min(layers, 2) + 5 * (layers > 2)
    top = {variable.ref() for variable in backbone.transformer_layers[-1].trainable_weights}
    assert {variable.ref() for variable, rate in rates if rate == 0.01} == (top if layers else set())


def test_each_variable_moves_by_its_own_rate():
    """Adam's first step is the rate, against the gradient's sign; decay adds rate x decay x value."""
    start = [2.0, -3.0, 5.0]
    variables = [tf.Variable(value) for value in start]
    optimizer = LayerwiseAdamW(list(zip(variables, [0.1, 0.01, 0.1])), weight_decay=0.5)
    optimizer.apply_gradients([tf.constant(7.0), tf.constant(-0.2), tf.constant(-1.0)])
    expected = [2 - 0.1 * 0.5 * 2 - 0.1, -3 + 0.01 * 0.5 * 3 + 0.01, 5 - 0.1 * 0.5 * 5 + 0.1]
    np.testing.assert_allclose([variable.numpy() for variable in variables], expected, atol=1e-5)


def test_wordpieces_are_padded_to_their_number(words):
    """Also where no text of a batch is that long; a longer one keeps the end token."""
    pieces = load(words)(["live", "a a a a a a a a a"])["pieces_words"]
    assert pieces.tolist() == [[2, 11, 3, -1, -1, -1], [2, 13, 13, 13, 13, 3]]
    assert load(words)(["live"])["pieces_words"].tolist() == [[2, 11, 3, -1, -1, -1]]


def test_wordpieces_give_the_vector_of_the_text(words, read, train_split, tiny):
    table, data = read
    layer = build(table, train_split, data, tiny.CONFIG, encoder_configs=[words]).item_tower.encoders["pieces_words"]
    layer.project = tf.keras.layers.Lambda(lambda vectors: vectors)
    got = layer({"pieces_words": table.arrays["pieces_words"]}).numpy()
    np.testing.assert_allclose(got[:-1], table.arrays["embedding_words"][:-1], atol=1e-6)
    assert np.isfinite(got[-1]).all()  # no text: fusion masks it, and it must not spoil a gradient


def test_fitting_moves_the_top_block_and_the_projection_alone(words, read, train_split, tiny, monkeypatch):
    table, data = read
    monkeypatch.setattr("trainer.content.fit._MIN_ITEMS", 1)
    config = dataclasses.replace(
        tiny.CONFIG, content_epochs=4, content_min_items=0, modalities=("tags", "pieces_words"), modality_dropout=0.0
    )
    tower = build(table, train_split, data, config, encoder_configs=[words]).item_tower
    states = tower.encoders["pieces_words"].states
    before = {variable.ref(): variable.numpy() for variable in states.variables}
    # the linear map knows nothing, and each kind of text has an id embedding: there is something to learn
    monkeypatch.setattr("trainer.content.fit._solve", lambda *_: None)
    by_text = np.eye(2, config.embedding_dim, dtype=np.float32)
    monkeypatch.setattr(tower, "id_embeddings", lambda table, rows: by_text[rows % 2])
    report = fit_content(tower, table, np.arange(len(table)), config)
    assert report.epochs > 0 and report.with_encoders < report.linear
    moved = {
        variable.ref() for variable in states.variables if np.abs(variable.numpy() - before[variable.ref()]).max() > 0
    }
    top = {variable.ref() for variable in states.get_layer("transformer_layer_1").trainable_weights}
    assert moved and moved <= top


def test_it_does_not_stand_alone(words, read, train_split, tiny):
    table, data = read
    config = dataclasses.replace(tiny.CONFIG, modalities=("pieces_words",), use_attributes=False)
    with pytest.raises(ValueError, match="got pieces_words alone"):
        build(table, train_split, data, config, encoder_configs=[words])


def test_wordpieces_of_own_tags_change_no_tag_that_is_told(words, read, train_split, tiny):
    """The encoder reads title, description and tags."""
    table, data = read
    tower = build(table, train_split, data, tiny.CONFIG, encoder_configs=[words]).item_tower
    for weight in tower.tag_head.weights:
        weight.assign(tf.random.stateless_normal(weight.shape, [1, 2]))
    features = {name: tf.constant(array) for name, array in table.take(np.arange(10), tower.inputs).items()}
    other = {**features, "pieces_words": features["pieces_words"][::-1]}
    np.testing.assert_allclose(tower.tags(other), tower.tags(features), atol=1e-6)


def test_no_tag_is_told_where_the_tags_are_all_that_has_columns(words, read, train_split, tiny):
    table, data = read
    config = dataclasses.replace(tiny.CONFIG, modalities=("tags", "pieces_words"), use_attributes=False)
    titles = dataclasses.replace(words, columns=("title",))
    assert build(table, train_split, data, config, encoder_configs=[titles]).item_tower.tag_head is None


def test_what_is_saved_needs_no_tokeniser(words, read, train_split, tiny, tmp_path):
    """C26: `item_tower` takes wordpieces, and its graph has core operations only."""
    table, data = read
    model = build(table, train_split, data, tiny.CONFIG, encoder_configs=[words])
    export(
        model, CrossAttention(tiny.CONFIG.embedding_dim), table, tuple(data.event_rules), data, str(tmp_path / "model")
    )
    saved = saved_model_pb2.SavedModel.FromString(Path(tmp_path / "model" / "saved_model.pb").read_bytes()).meta_graphs[
        0
    ]
    graph = saved.graph_def
    ops = {node.op for node in graph.node} | {
        node.op for function in graph.library.function for node in function.node_def
    }
    assert not {op for op in ops if ">" in op or "UTF8" in op}
    assert "pieces_words" in saved.signature_def["item_tower"].inputs
