"""Models that several readers share."""

import os

from serving.loaded import load_once
from tests.serving import tiny


def test_a_model_is_loaded_once_until_its_files_change(tmp_path):
    path = tiny.save_model(tmp_path / "model")
    first = load_once(path)
    assert load_once(path) is first
    os.utime(tmp_path / "model" / "saved_model.pb", (1, 1))
    assert load_once(path) is not first
