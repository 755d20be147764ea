"""BERT in NumPy and plain Python, written from its paper and from the checkpoint's names: the oracle of the KerasNLP
backbone.
"""

import json
import math
import unicodedata
from pathlib import Path

import numpy as np

_DTYPES = {np.dtype("float32"): "F32", np.dtype("float16"): "F16", np.dtype("int64"): "I64"}


def write_safetensors(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """The format from its specification."""
    header, start = {"__metadata__": {"format": "pt"}}, 0
    for name, array in arrays.items():
        header[name] = {
            "dtype": _DTYPES[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [start, start + array.nbytes],
        }
        start += array.nbytes
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(array.tobytes() for array in arrays.values()))


def sentence_vectors(token_lists: list[list[int]], weights: dict[str, np.ndarray], config: dict) -> np.ndarray:
    """Mean of the token states, unit norm, one text at a time: float64 [B, E]."""
    weights = {name: array.astype(np.float64) for name, array in weights.items()}
    means = np.stack([_states(tokens, weights, config).mean(0) for tokens in token_lists])
    return means / np.linalg.norm(means, axis=1, keepdims=True)


def _states(tokens: list[int], w: dict[str, np.ndarray], config: dict) -> np.ndarray:
    heads, epsilon = config["num_attention_heads"], config["layer_norm_eps"]

    def linear(x, name):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(x, name):
        centred = x - x.mean(-1, keepdims=True)
        return (
            centred / np.sqrt((centred**2).mean(-1, keepdims=True) + epsilon) * w[f"{name}.weight"] + w[f"{name}.bias"]
        )

    x = w["embeddings.word_embeddings.weight"][tokens] + w["embeddings.position_embeddings.weight"][: len(tokens)]
    x = norm(x + w["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    size = x.shape[1] // heads
    for layer in range(config["num_hidden_layers"]):
        at = f"encoder.layer.{layer}"
        query, key, value = (linear(x, f"{at}.attention.self.{part}") for part in ("query", "key", "value"))
        mixed = []
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            logits = query[:, part] @ key[:, part].T / math.sqrt(size)
            attention = np.exp(logits - logits.max(1, keepdims=True))
            mixed.append(attention / attention.sum(1, keepdims=True) @ value[:, part])
        x = norm(
            x + linear(np.concatenate(mixed, 1), f"{at}.attention.output.dense"), f"{at}.attention.output.LayerNorm"
        )
        inner = linear(x, f"{at}.intermediate.dense")
        inner = inner * (1 + np.vectorize(math.erf)(inner / math.sqrt(2))) / 2
        x = norm(x + linear(inner, f"{at}.output.dense"), f"{at}.output.LayerNorm")
    return x


def tokens_of(text: str, vocabulary: list[str], max_tokens: int) -> list[int]:
    """BERT's uncased rules, character by character."""
    index = {token: number for number, token in enumerate(vocabulary)}
    clean = "".join(
        " " if c in "\t\n\r" else c
        for c in text
        if c in "\t\n\r" or (c != "\ufffd" and unicodedata.category(c) not in _CONTROL)
    )
    spaced = "".join(f" {c} " if _is_ideograph(c) else c for c in clean)
    plain = "".join(c for c in unicodedata.normalize("NFD", spaced) if unicodedata.category(c) != "Mn").lower()
    words = "".join(f" {c} " if _is_punctuation(c) else c for c in plain).split()
    pieces = [piece for word in words for piece in _longest_first(word, index)]
    return [index["[CLS]"], *[index[piece] for piece in pieces[: max_tokens - 2]], index["[SEP]"]]


_CONTROL = ("Cc", "Cf", "Co", "Cs")
_IDEOGRAPHS = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)


def _is_ideograph(c: str) -> bool:
    return any(low <= ord(c) <= high for low, high in _IDEOGRAPHS)


def _is_punctuation(c: str) -> bool:
    return unicodedata.category(c).startswith("P") or (ord(c) < 128 and c in "$+<=>^`|~")


def _longest_first(word: str, index: dict[str, int]) -> list[str]:
    pieces, start = [], 0
    while start < len(word):
        for stop in range(len(word), start, -1):
            piece = ("##" if start else "") + word[start:stop]
            if piece in index:
                break
        else:
            return ["[UNK]"]
        pieces.append(piece)
        start = stop
    return pieces


_THINGS = (
    "a quiet piano piece", "大提琴独奏", "日本のアニメ音楽", "한국 드라마 삽입곡", "naïve café crème brûlée",
    "🎸🔥 live set", "Привет, как дела?", "l'été à Montréal", "déjà-vu (remix) [2019]", "50% off & more…",
    "self-driving cars", "Straße nach Köln", "मधुर संगीत", "مقدمة في البرمجة", "C++/Rust tutorial",
    "e-mail: someone@example.org", "👩‍👩‍👧 family vlog", "深度学习 deep learning 入门", "don't stop — won't stop",
    "żółw i jaźń",
)  # fmt: skip
_FRAMES = ("{}", "{} for rainy evenings", "the best of {}, part II!", "如何欣赏 {}？", "why\tI love {} 😀")
SENTENCES = [frame.format(thing) for thing in _THINGS for frame in _FRAMES]
assert len(set(SENTENCES)) == 100
