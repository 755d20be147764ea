"""Peers that need libraries of their own: each in an environment made from pinned requirements, never in the product's.

A worker is `python workers/NAME.py FOLDER`: it reads `train.npz`, `history.npz`, and where the stage has them
`times.npz` and `watch.npz` (scipy CSR [U, N]), and `settings.json`; it writes `scores.npy` (float32 [U, N]) and
`report.json` (parameters, peak_mb, and where there are some the found settings and a trace).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from benchmarks.quality.splits import Stage

if TYPE_CHECKING:
    from benchmarks.quality.methods import Scored

HERE = Path(__file__).parent
PYTHON = {
    "neural": "python3.11",
    "sequential": "python3.11",
}  # where the product's own version has no wheels of what is pinned
ENVIRONMENTS = HERE.parents[1] / ".zhiyin" / "bench" / "environments"


def score_in(name: str, stage: Stage, settings: Mapping[str, Any], seed: int) -> Scored:
    """Fit and score in the environment of that name.

    Raises RuntimeError with the worker's last lines if it fails.
    """
    from benchmarks.quality.methods import Scored

    with tempfile.TemporaryDirectory() as folder_name:
        folder = Path(folder_name)
        for matrix, pairs in (
            ("train", stage.train),
            ("history", stage.history),
            ("times", stage.times_s),
            ("watch", stage.watch),
        ):
            if pairs is not None:
                sp.save_npz(folder / f"{matrix}.npz", pairs, compressed=False)
        (folder / "settings.json").write_text(json.dumps({**settings, "seed": seed}))
        _call([str(ensure(name)), str(HERE / "workers" / f"{name}.py"), str(folder)], f"worker {name}")
        report = json.loads((folder / "report.json").read_text())
        return Scored(
            np.load(folder / "scores.npy"),
            report["parameters"],
            report["peak_mb"],
            report.get("found", {}),
            report.get("trace", ()),
        )


def ensure(name: str) -> Path:
    """The Python of the environment; made on first use, and anew when its requirements change."""
    pinned = requirements(name)
    digest = hashlib.blake2b(pinned.read_bytes(), digest_size=6).hexdigest()
    environment = ENVIRONMENTS / f"{name}-{digest}"
    ready = environment / "ready"
    python = environment / "bin" / "python"
    if not ready.exists():
        shutil.rmtree(environment, ignore_errors=True)
        _call([_python_for(name), "-m", "venv", str(environment)], f"environment {name}")
        _call([str(python), "-m", "pip", "install", "--quiet", "--requirement", str(pinned)], f"environment {name}")
        ready.touch()
    return python


def _python_for(name: str) -> str:
    wanted = PYTHON.get(name)
    if wanted is None:
        return sys.executable
    found = shutil.which(wanted)
    if found is None:
        raise RuntimeError(f"environment {name}: needs {wanted} on the path, beside the product's own Python")
    return found


def code(name: str) -> tuple[str, ...]:
    """What a worker's results depend on, as paths inside the project; nothing without a name."""
    if not name:
        return ()
    own = ("environments.py", f"requirements/{name}.txt", f"workers/{name}.py")
    shared = [f"workers/shared/{path.name}" for path in sorted((HERE / "workers" / "shared").glob("*.py"))]
    return tuple(f"benchmarks/quality/{path}" for path in (*own, *shared))


def requirements(name: str) -> Path:
    """The file of pinned requirements of the environment."""
    return HERE / "requirements" / f"{name}.txt"


def version(name: str, package: str) -> str:
    """The pinned version of a package in the environment's requirements."""
    pins = requirements(name).read_text(encoding="utf-8")
    found = re.search(rf"^{re.escape(package)}==(\S+)", pins, re.MULTILINE)
    assert found, f"{package} is not pinned in requirements/{name}.txt"
    return found[1]


def _call(command: list[str], what: str) -> None:
    # One BLAS thread: the libraries bring their own threads, and two pools on one machine slow each other down.
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }
    run = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if run.returncode:
        raise RuntimeError(f"{what} failed: " + " | ".join((run.stderr or run.stdout).strip().splitlines()[-3:]))
