"""Reads BERT presets that KerasNLP saved, a format of Keras 3, into Keras 2."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py

from trainer.keras_nlp import keras_nlp

BERT = "keras_nlp>BertBackbone"


def is_bert_preset(path: str | Path) -> bool:
    """Whether the folder holds a preset with a BERT backbone."""
    config = Path(path) / "config.json"
    return config.is_file() and json.loads(config.read_text("utf-8")).get("registered_name") == BERT


def read_preset(path: str | Path) -> tuple[keras_nlp.models.BertBackbone, list[str], bool]:
    """Reads a preset: its backbone, its vocabulary, and whether that is one of lower case words.

    Raises ValueError where a weight is missing or has another shape.
    """
    folder = Path(path)
    config = json.loads((folder / "config.json").read_text("utf-8"))["config"]
    tokenizer = json.loads((folder / "tokenizer.json").read_text("utf-8"))["config"]
    vocabulary = (folder / "assets" / "tokenizer" / "vocabulary.txt").read_text("utf-8").removesuffix("\n").split("\n")
    backbone = keras_nlp.models.BertBackbone(**{name: config[name] for name in _SIZES})
    with h5py.File(folder / "model.weights.h5") as file:
        for name, layer in _layers(backbone).items():
            for number, variable in enumerate(layer.weights):
                key = f"layers/{name}/vars/{number}"
                if key not in file or file[key].shape != tuple(variable.shape):
                    found = file[key].shape if key in file else "nothing"
                    raise ValueError(f"{folder}: got {found} at {key} of the weights, expected {tuple(variable.shape)}")
                variable.assign(file[key][()])
    return backbone, vocabulary, bool(tokenizer.get("lowercase"))


_SIZES = (
    *("vocabulary_size", "num_layers", "num_heads", "hidden_dim", "intermediate_dim"),
    *("dropout", "max_sequence_length", "num_segments"),
)


def _layers(backbone: keras_nlp.models.BertBackbone) -> dict[str, Any]:
    """The layers by their names in the file: the class, numbered from the second on, and the attributes of a part."""
    found = {
        "reversible_embedding": backbone.token_embedding,
        "position_embedding": backbone.position_embedding,
        "embedding": backbone.segment_embedding,
        "layer_normalization": backbone.embeddings_layer_norm,
        "dense": backbone.pooled_dense,
    }
    for number, layer in enumerate(backbone.transformer_layers):
        at = f"transformer_encoder_{number}" if number else "transformer_encoder"
        for part in (
            "_self_attention_layer_norm",
            "_feedforward_layer_norm",
            "_feedforward_intermediate_dense",
            "_feedforward_output_dense",
        ):
            found[f"{at}/{part}"] = getattr(layer, part)
        for part in ("query_dense", "key_dense", "value_dense", "output_dense"):
            found[f"{at}/_self_attention_layer/{part}"] = getattr(layer._self_attention_layer, f"_{part}")
    return found
