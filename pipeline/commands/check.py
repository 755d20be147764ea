"""`zhiyin check`: lint, format, types, import contracts, what may be unsafe, in one go."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from pipeline.commands.arguments import Commands, add_command

ROOT = Path(__file__).resolve().parents[2]
TOOLS = (
    ("ruff", "check", "."),
    ("ruff", "format", "--check", "."),
    ("mypy",),
    ("lint-imports",),
    ("bandit", "-q", "-c", "pyproject.toml", "-ll", "-r", "components", "trainer", "serving", "pipeline"),
)


def add_parser(commands: Commands) -> None:
    """`check`."""
    add_command(commands, "check", "lint, types, import contracts, unsafe calls", "./zhiyin check", run)


def run(arguments: argparse.Namespace) -> int:
    """Run every tool, also after one has found something; 1 if any has."""
    failed = []
    for tool in TOOLS:
        name = " ".join(tool)
        print(f"== {name}", flush=True)
        if subprocess.run([str(Path(sys.executable).with_name(tool[0])), *tool[1:]], cwd=ROOT, check=False).returncode:
            failed.append(name)
    print(
        f"check: {len(TOOLS) - len(failed)} of {len(TOOLS)} clean"
        + (f"; look at {', '.join(failed)}" if failed else "")
    )
    return 1 if failed else 0
