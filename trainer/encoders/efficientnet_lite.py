"""EfficientNet-Lite as a Keras model: pictures in, the features before its classes out.

Source: Tan & Le, EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks, 2019; Lite: without
squeeze-and-excitation, with ReLU6. How deep and wide it is follows from the weights.
B pictures, H x W pixels, E features.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from trainer.encoders.torch_weights import read_weights
from trainer.keras import tf

_STRIDES = (1, 2, 2, 2, 1, 2, 1)  # of the first block of each stage
_EPSILON = 1e-3  # of the batch normalisations


def efficientnet_lite(folder: str) -> tf.keras.Model:
    """The model of the one `.pth` file below a folder: RGB 0..255, float [B, H, W, 3] -> float [B, E].

    Raises ValueError where there is not one such file, or it holds other weights.
    """
    found = sorted(Path(folder).rglob("*.pth"))
    if len(found) != 1:
        raise ValueError(f"{folder}: got {len(found)} .pth files, expected one")
    try:
        return _built(read_weights(found[0]))
    except KeyError as error:
        raise ValueError(f"{found[0]}: the weights lack {error}, which those of EfficientNet-Lite have") from error


def _built(weights: Mapping[str, np.ndarray]) -> tf.keras.Model:
    pictures = tf.keras.Input((None, None, 3))
    values = _convolved(weights, "_conv_stem", "_bn0", (pictures - 127.0) / 128.0, stride=2)
    strides = list(_STRIDES)
    for number in range(1 + max(int(name.split(".")[1]) for name in weights if name.startswith("_blocks."))):
        values = _block(weights, f"_blocks.{number}.", values, strides)
    values = _convolved(weights, "_conv_head", "_bn1", values)
    return tf.keras.Model(pictures, tf.keras.layers.GlobalAveragePooling2D()(values))


def _block(weights: Mapping[str, np.ndarray], prefix: str, values: tf.Tensor, strides: list[int]) -> tf.Tensor:
    """An inverted residual block: wider, filtered, narrower; one that changes the width begins a stage.

    strides: of the stages that have not begun; what this block takes of it is removed.
    """
    begins = weights[f"{prefix}_project_conv.weight"].shape[0] != values.shape[-1]
    stride = strides.pop(0) if begins else 1
    hidden = values
    if f"{prefix}_expand_conv.weight" in weights:
        hidden = _convolved(weights, f"{prefix}_expand_conv", f"{prefix}_bn0", hidden)
    hidden = _convolved(weights, f"{prefix}_depthwise_conv", f"{prefix}_bn1", hidden, stride, depthwise=True)
    hidden = _convolved(weights, f"{prefix}_project_conv", f"{prefix}_bn2", hidden, activation=None)
    return hidden if begins else hidden + values


def _convolved(
    weights: Mapping[str, np.ndarray],
    name: str,
    norm: str,
    values: tf.Tensor,
    stride: int = 1,
    activation: object = tf.nn.relu6,
    depthwise: bool = False,
) -> tf.Tensor:
    """A convolution with the batch normalisation that follows it folded into its kernel and bias."""
    scale = weights[f"{norm}.weight"] / np.sqrt(weights[f"{norm}.running_var"] + _EPSILON)
    kernel = weights[f"{name}.weight"] * scale[:, None, None, None]  # [out, in, height, width]
    bias = weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * scale
    options = {"strides": stride, "padding": "same", "activation": activation, "trainable": False}
    if depthwise:
        layer, kernel = tf.keras.layers.DepthwiseConv2D(kernel.shape[2:], **options), kernel.transpose(2, 3, 0, 1)
    else:
        layer = tf.keras.layers.Conv2D(len(kernel), kernel.shape[2:], **options)
        kernel = kernel.transpose(2, 3, 1, 0)
    convolved = layer(values)
    layer.set_weights([kernel, bias])
    return convolved
