"""Digests of source code for the cache keys of the DAG's nodes.

TFX caches a node by its inputs and parameters, not by its code. Each node that runs our code takes the digest of that
code as a parameter, so that an edit reruns exactly the nodes that it can reach.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OURS = ("components", "trainer", "serving", "pipeline", "benchmarks", "zhiyin_artifacts")


def code_fingerprint(*modules: str) -> str:
    """Digest of the sources of some modules and of all of ours that they reach.

    Reached is what a module imports, at its top or in a function, or starts as a process of its own (`module_command`),
    directly or not.
    modules: dotted names; the dotted path of a function (TFX's `run_fn`, `preprocessing_fn`) counts as its module.
    Nothing is imported.
    Returns 32 hex digits. Raises ModuleNotFoundError for a name of ours that has no file.
    """
    digest = hashlib.blake2b(digest_size=16)
    for module in sorted(_closure(modules)):
        digest.update(module.encode())
        digest.update(_source(module).read_bytes())
    return digest.hexdigest()


def _closure(modules: tuple[str, ...]) -> set[str]:
    found: set[str] = set()
    waiting = [_module_of(name) for name in modules]
    while waiting:
        module = waiting.pop()
        if module not in found:
            found.add(module)
            waiting.extend(_imports(module))
    return found


@cache
def _imports(module: str) -> frozenset[str]:
    tree = ast.parse(_source(module).read_text(encoding="utf-8"))
    return frozenset(name for name in _imported_names(tree) if name.split(".")[0] in OURS and _exists(name))


def _imported_names(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "module_command":
            yield from (str(word.value) for word in node.args[:1] if isinstance(word, ast.Constant))  # another process


def _module_of(name: str) -> str:
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        if _exists(".".join(parts[:end])):
            return ".".join(parts[:end])
    raise ModuleNotFoundError(f"no module of ours behind {name!r}")


def _exists(module: str) -> bool:
    return _source(module).is_file()


def _source(module: str) -> Path:
    return ROOT.joinpath(*module.split(".")).with_suffix(".py")
