"""`zhiyin test`: the test suite with coverage of the four rooms."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COVERAGE = [f"--cov={room}" for room in ("components", "trainer", "serving", "pipeline")]


def run(arguments: argparse.Namespace) -> int:
    """Run pytest on two workers; what follows `test` on the command line goes to pytest."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-n",
        "2",
        "--dist",
        "loadfile",
        *COVERAGE,
        "--cov-report=term",
        *arguments.rest,
    ]
    return subprocess.run(command, cwd=ROOT, check=False).returncode
