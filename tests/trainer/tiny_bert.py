"""A random two-layer BERT, as a package of pretrained weights would hold it."""

import json
from pathlib import Path

import numpy as np

from tests.trainer import bert_reference as reference

VOCABULARY = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "piano",
    "##s",
    "cafe",
    "你",
    "好",
    "!",
    "live",
    "##ly",
    "a",
]
CONFIG = {
    "model_type": "bert", "hidden_act": "gelu", "vocab_size": len(VOCABULARY), "hidden_size": 8, "num_hidden_layers": 2,
    "num_attention_heads": 2, "intermediate_size": 12, "max_position_embeddings": 10, "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
}  # fmt: skip


def weights(width: int = 8, inner: int = 12) -> dict[str, np.ndarray]:
    random = np.random.default_rng(3)
    sizes = {
        "embeddings.word_embeddings": len(VOCABULARY),
        "embeddings.position_embeddings": 10,
        "embeddings.token_type_embeddings": 2,
    }
    arrays = {f"{name}.weight": random.normal(size=(size, width)) for name, size in sizes.items()}
    shapes = {"embeddings.LayerNorm": (width,)}
    for layer in range(2):
        at = f"encoder.layer.{layer}"
        shapes |= {f"{at}.attention.self.{part}": (width, width) for part in ("query", "key", "value")}
        shapes |= {f"{at}.attention.output.dense": (width, width), f"{at}.attention.output.LayerNorm": (width,)}
        shapes |= {
            f"{at}.intermediate.dense": (inner, width),
            f"{at}.output.dense": (width, inner),
            f"{at}.output.LayerNorm": (width,),
        }
    for name, shape in shapes.items():
        arrays |= {f"{name}.weight": random.normal(size=shape), f"{name}.bias": random.normal(size=shape[0])}
    return {name: array.astype(np.float32) for name, array in arrays.items()}


def write_checkpoint(folder: Path) -> None:
    """Weights, config and vocabulary."""
    folder.mkdir(parents=True)
    reference.write_safetensors(folder / "model.safetensors", weights())
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n", "utf-8")
