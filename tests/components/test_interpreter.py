"""New interpreters, and the command line itself, import nothing from the folder in which they are started."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from components.interpreter import ROOT, module_command, module_environment
from components.media.isolation import Decoder

NAMES = ("queue", "yaml", "json", "tempfile", "runpy", "typing", "struct", "pipeline", "sitecustomize")


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with modules and packages under names that we import, each of which ends its process."""
    for name in NAMES:
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('imported {name} of the current folder')\n")
    for name in ("components", "serving", "multiprocessing", "benchmarks"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"raise SystemExit('imported {name} of the current folder')\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, env=module_environment(), timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_module_runs_as_the_main_one_with_its_arguments(hostile: Path) -> None:
    assert "Example: ./zhiyin run" in said(module_command("pipeline.cli", "run", "--help"))


def test_relative_entries_of_the_path_are_dropped(hostile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["", ".", str(ROOT), "components"]))
    assert module_environment()["PYTHONPATH"] == str(ROOT)
    assert "usage" in said(module_command("pipeline.cli", "--help"))


@pytest.mark.parametrize("wanted", ["", "default"])
def test_warnings_of_libraries_are_hidden_unless_somebody_wants_them(
    monkeypatch: pytest.MonkeyPatch, wanted: str
) -> None:
    monkeypatch.delenv("PYTHONWARNINGS", raising=False)
    if wanted:
        monkeypatch.setenv("PYTHONWARNINGS", wanted)
    warning = [sys.executable, "-c", "import warnings; warnings.warn('outdated', FutureWarning)"]
    done = subprocess.run(warning, capture_output=True, text=True, env=module_environment(), timeout=60, check=True)
    assert ("FutureWarning: outdated" in done.stderr) == bool(wanted)


def test_the_decoder_starts_in_a_hostile_folder(hostile: Path, clips) -> None:
    with Decoder() as decoder:
        assert decoder.extract(clips.audio(clips.tone(0.3))).audio_log_mel is not None


@pytest.mark.parametrize("words", [["--help"], ["recommend", "--help"], ["bench", "--help"]])
def test_the_launcher_starts_in_a_hostile_folder_without_a_home(hostile: Path, words: list[str]) -> None:
    stamp = ROOT / ".venv" / ".requirements.lock"
    if not stamp.is_file() or stamp.read_bytes() != (ROOT / "requirements.lock").read_bytes():
        pytest.skip("./zhiyin has not set up its environment here")
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": ".", "PYTHONSTARTUP": "json.py"}
    done = subprocess.run(
        [str(ROOT / "zhiyin"), *words], capture_output=True, text=True, env=environment, timeout=60, check=False
    )
    assert done.returncode == 0 and "usage: ./zhiyin" in done.stdout, done.stderr
