"""YAML as people mean it."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.settings import SettingsError
from pipeline import config as configuration
from pipeline.yaml_settings import read_yaml


@pytest.fixture
def read(tmp_path: Path):
    """Reads a text as a YAML file."""

    def read_text(text: str | bytes):
        path = tmp_path / "config.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_yaml(path)

    return read_text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001), ("1E+5", 1e5), ("-2e3", -2000.0), ("1.5e3", 1500.0), (".5", 0.5), ("5.", 5.0), ("7", 7),
        ("-7", -7), ("1_000", 1000), ("0x1f", 31), ("010", "010"), ("1:30", "1:30"), ("2024-01-01", "2024-01-01"),
        ("e3", "e3"),
        ("1e", "1e"), ("'1e-3'", "1e-3"), ("yes", True), ("null", None),
    ],
)  # fmt: skip
def test_a_scalar_is_what_it_looks_like(read, text: str, value: object) -> None:
    found = read(f"key: {text}\n")["key"]
    assert found == value and type(found) is type(value)


def test_keys_are_text(read) -> None:
    assert read("no: 1\n1: 2\n2024: 3\n'on': 4\n") == {"no": 1, "1": 2, "2024": 3, "on": 4}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: a\ndata: {}\nevaluation: {}\ndata: {}\n", "line 4: 'data' is there already, in line 2"),
        ("data:\n  path: a\n  path: a\n", "line 3: 'path' is there already, in line 2"),
        ("name: a\n---\nname: b\n", "more than one document"),
        ("name: [\n", "is not YAML"),
        ("[a]: 1\n", "a key must be plain text"),
        ("name: caf\xe9\n".encode("latin-1"), "is not UTF-8 (line 1)"),
        ("# a\nname: caf\xe9\n".encode("utf-16"), "is not UTF-8"),
    ],
)
def test_a_fault_is_one_line_that_names_the_file(read, text: str | bytes, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read(text)
    assert message in str(caught.value) and "config.yaml" in str(caught.value) and "\n" not in str(caught.value)


def test_a_byte_order_mark_is_no_part_of_the_first_key(read) -> None:
    assert read("name: caf\xe9\n".encode("utf-8-sig")) == {"name": "caf\xe9"}


def test_anchors_and_merges_work(read) -> None:
    assert read("a: &a {x: 1, y: 2}\nb:\n  <<: *a\n  y: 3\n")["b"] == {"x": 1, "y": 3}


def test_a_tilde_is_the_home_folder(settings, write, monkeypatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    settings["data"] |= {"catalogue": {"path": "~/music/items.csv"}, "media_root": "~/music"}
    config = configuration.load(write({**settings, "work_dir": "~/runs", "ground_truth": "~x.npz"}))
    assert (config.data.catalogue.path, config.data.media_root) == (
        "/home/somebody/music/items.csv",
        "/home/somebody/music",
    )
    assert (str(config.work_path), config.data.events.path) == ("/home/somebody/runs", "events.csv")
    assert config.ground_truth == "~x.npz"


def test_a_learning_rate_without_a_dot_is_a_number(settings, tmp_path: Path, write) -> None:
    path = write(settings)
    path.write_text(path.read_text() + "retrieval: {learning_rate: 1e-3, epochs: 3}\n")
    assert configuration.load(path).retrieval.learning_rate == 0.001
    path.write_text(path.read_text().replace("1e-3", ".nan"))
    with pytest.raises(SettingsError, match="learning_rate: got nan, expected a number"):
        configuration.load(path)
