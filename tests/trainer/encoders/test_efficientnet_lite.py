"""EfficientNet-Lite from weights as PyTorch stored them: against NumPy, and with the published ones."""

import os
import pickle
import sys
from collections import OrderedDict
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from components.media.video import LARGE, KeyFrames
from components.pretrained_config import PretrainedConfig
from trainer.encoders.efficientnet_lite import efficientnet_lite
from trainer.encoders.frozen import load
from trainer.encoders.torch_weights import read_weights

FETCHED = "ZHIYIN_EFFICIENTNET_LITE0"
WIDTHS = (4, 3, 6, 6, 5, 7, 8, 9, 10)  # of the stem and the blocks; the third block keeps its width
ORIGINAL = [0.119624, 0.434912, 0.000476903, 0.0, 1.56987, 0.00277851]
STRIDES = (1, 2, 1, 2, 2, 1, 2, 1)  # of the blocks


class Storage:
    """The numbers of a tensor, in a row."""

    def __init__(self, values):
        self.values = values


class Tensor:
    """Pickled as PyTorch's are."""

    def __init__(self, array):
        self.array = array

    def __reduce__(self):
        strides = tuple(step // self.array.itemsize for step in self.array.strides)
        storage = Storage(self.array.ravel(order="K"))
        return sys.modules["torch._utils"]._rebuild_tensor_v2, (storage, 0, self.array.shape, strides, False, {})


class Pickler(pickle.Pickler):
    """Leaves storages for behind the pickles."""

    def __init__(self, file):
        super().__init__(file, 2)
        self.storages = []

    def persistent_id(self, value):
        if not isinstance(value, Storage):
            return None
        self.storages.append(value.values)
        kind = "FloatStorage" if value.values.dtype == np.float32 else "LongStorage"
        return "storage", getattr(sys.modules["torch"], kind), str(len(self.storages)), "cpu", value.values.size, None


@pytest.fixture
def store(tmp_path, monkeypatch):
    """Writes weights into a file; the names in it are of modules that are made for the writing alone."""

    def named(module, name):
        found = type(name, (), {"__module__": module.__name__, "__reduce__": None})
        setattr(module, name, found)

    def call(weights):
        with monkeypatch.context() as patch, (tmp_path / "model.pth").open("wb") as file:
            modules = {name: ModuleType(name) for name in ("torch", "torch._utils")}
            for module, name in (
                ("torch", "FloatStorage"),
                ("torch", "LongStorage"),
                ("torch._utils", "_rebuild_tensor_v2"),
            ):
                named(modules[module], name)
                patch.setitem(sys.modules, module, modules[module])
            for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
                pickle.dump(part, file, 2)
            pickler = Pickler(file)
            pickler.dump(OrderedDict((name, Tensor(array)) for name, array in weights.items()))
            pickle.dump([str(1 + place) for place in range(len(pickler.storages))], file, 2)
            for storage in pickler.storages:
                file.write(storage.size.to_bytes(8, "little") + storage.tobytes())
        return tmp_path

    return call


@pytest.fixture(scope="module")
def weights():
    """A model with the stages of EfficientNet-Lite, and few channels."""
    random, made = np.random.default_rng(0), {}

    def add(conv, norm, *shape):
        made[f"{conv}.weight"] = random.normal(0, 0.4, shape).astype(np.float32)
        for name in ("weight", "bias", "running_mean", "running_var"):
            made[f"{norm}.{name}"] = random.uniform(0.5, 1.5, shape[0]).astype(np.float32)
        made[f"{norm}.num_batches_tracked"] = np.array(7)

    add("_conv_stem", "_bn0", WIDTHS[0], 3, 3, 3)
    for number, (given, width) in enumerate(zip(WIDTHS, WIDTHS[1:])):
        prefix, hidden, size = f"_blocks.{number}.", given * (2 if number else 1), 3 + 2 * (number % 2)
        if number:
            add(f"{prefix}_expand_conv", f"{prefix}_bn0", hidden, given, 1, 1)
        add(f"{prefix}_depthwise_conv", f"{prefix}_bn1", hidden, 1, size, size)
        add(f"{prefix}_project_conv", f"{prefix}_bn2", width, hidden, 1, 1)
    add("_conv_head", "_bn1", 12, WIDTHS[-1], 1, 1)
    return made


def convolved(weights, conv, norm, picture, stride=1, top=6.0):
    """One picture [channels, H, W] through a convolution that is padded as TensorFlow pads, and its normalisation."""
    kernel = weights[f"{conv}.weight"].astype(np.float64)
    pads = [max(-(-side // stride) * stride - stride + kernel.shape[2] - side, 0) for side in picture.shape[1:]]
    padded = np.pad(picture, [(0, 0), *((pad // 2, pad - pad // 2) for pad in pads)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel.shape[2:], (1, 2))[:, ::stride, ::stride]
    is_depthwise = kernel.shape[1] == 1 and len(picture) > 1
    found = (
        np.einsum("chwij,cij->chw", windows, kernel[:, 0])
        if is_depthwise
        else np.einsum("chwij,ocij->ohw", windows, kernel)
    )
    gain, bias, mean, variance = (
        weights[f"{norm}.{name}"][:, None, None] for name in ("weight", "bias", "running_mean", "running_var")
    )
    return np.clip((found - mean) / np.sqrt(variance + 1e-3) * gain + bias, 0.0 if top == 6.0 else -np.inf, top)


def by_hand(weights, picture):
    """The features of one picture, RGB 0..255 [H, W, 3]."""
    values = convolved(weights, "_conv_stem", "_bn0", (picture.transpose(2, 0, 1) - 127.0) / 128.0, 2)
    for number, stride in enumerate(STRIDES):
        prefix, hidden = f"_blocks.{number}.", values
        if number:
            hidden = convolved(weights, f"{prefix}_expand_conv", f"{prefix}_bn0", hidden)
        hidden = convolved(weights, f"{prefix}_depthwise_conv", f"{prefix}_bn1", hidden, stride)
        hidden = convolved(weights, f"{prefix}_project_conv", f"{prefix}_bn2", hidden, top=np.inf)
        values = hidden + values if len(hidden) == len(values) else hidden
    return convolved(weights, "_conv_head", "_bn1", values).mean((1, 2))


def test_weights_come_back_as_they_were_stored(store):
    random = np.random.default_rng(1)
    given = {
        "a": random.normal(size=(2, 3)).astype(np.float32),
        "turned": np.arange(6).reshape(2, 3).T,
        "one": np.array(5),
    }
    found = read_weights(store(given) / "model.pth")
    assert list(found) == list(given)
    for name, array in given.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


def test_nothing_but_tensors_is_unpickled(store, tmp_path):
    path = store({"a": np.float32([1, 2])}) / "model.pth"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(ValueError, match="cut off"):
        read_weights(path)
    path.write_bytes(pickle.dumps(Path(tmp_path)))
    with pytest.raises(ValueError, match=r"names pathlib\."):
        read_weights(path)
    path.write_bytes(b"PK\x03\x04")
    with pytest.raises(ValueError, match="no weights in PyTorch's older format"):
        read_weights(path)


def test_pictures_through_the_layers_equal_numpy(store, weights):
    pictures = np.random.default_rng(2).integers(0, 256, (2, 45, 64, 3)).astype(np.float32)
    found = efficientnet_lite(str(store(weights)))(pictures).numpy()
    np.testing.assert_allclose(found, [by_hand(weights, picture) for picture in pictures], atol=1e-4)


def test_a_video_is_the_mean_of_its_pictures(store, weights):
    folder = str(store(weights))
    pictures = np.random.default_rng(3).integers(0, 256, (3, LARGE, LARGE, 3), np.uint8)
    encode = load(PretrainedConfig("lite", "picture_efficientnet_lite", folder, 12))
    still, video = (KeyFrames(part, np.zeros(len(part), np.float32), 0.0) for part in (pictures[:1], pictures))
    found = encode([still, video])["embedding_lite"]
    each = efficientnet_lite(folder)(pictures.astype(np.float32)).numpy()
    np.testing.assert_allclose(found, [each[0], each.mean(0)], atol=1e-4)


def test_what_does_not_fit_is_said(store, weights, tmp_path):
    with pytest.raises(ValueError, match=r"got 0 \.pth files"):
        efficientnet_lite(str(tmp_path))
    lacking = {name: array for name, array in weights.items() if name != "_blocks.3._bn1.bias"}
    with pytest.raises(ValueError, match=r"the weights lack '_blocks\.3\._bn1\.bias'"):
        efficientnet_lite(str(store(lacking)))


@pytest.mark.skipif(FETCHED not in os.environ, reason=f"takes {FETCHED}, the folder of models fetch efficientnet_lite0")
def test_the_published_weights_give_the_originals_numbers():
    """Of a picture of slopes; mean, deviation and first numbers as the original, in PyTorch, gives them."""
    down, across = np.mgrid[:LARGE, :LARGE]
    picture = np.stack([down, across, (down + across) % 256], -1).astype(np.float32)
    found = efficientnet_lite(os.environ[FETCHED])(picture[None]).numpy()[0]
    assert found.shape == (1280,)
    np.testing.assert_allclose([found.mean(), found.std(), *found[:4]], ORIGINAL, atol=2e-5)
