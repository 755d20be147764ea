"""Cache keys: an edit to our code reaches exactly the nodes that can run it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline import fingerprint


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """components.a imports components.b inside a function; components.c stands alone; components.d starts
    trainer.e as a process; a dotted path in a text reaches nothing."""
    sources = {
        "components/a.py": "def f():\n    from components import b\n    return b\n",
        "components/b.py": "x = 1\n",
        "components/c.py": "NAME = 'trainer.e.run_fn'\n",
        "components/d.py": "def f():\n    return module_command('trainer.e', 'word')\n",
        "trainer/e.py": "def run_fn(): ...\n",
    }
    for name, source in sources.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(source)
    monkeypatch.setattr(fingerprint, "ROOT", tmp_path)
    fingerprint._imports.cache_clear()
    yield tmp_path
    fingerprint._imports.cache_clear()


@pytest.mark.parametrize(
    ("edited", "changed"),
    [
        ("components/b.py", {"components.a"}),
        ("components/c.py", {"components.c"}),
        ("trainer/e.py", {"components.d"}),
    ],
)
def test_an_edit_changes_exactly_the_nodes_that_reach_it(tree: Path, edited: str, changed: set[str]) -> None:
    nodes = ("components.a", "components.c", "components.d")
    before = {node: fingerprint.code_fingerprint(node) for node in nodes}
    (tree / edited).write_text((tree / edited).read_text() + "# edited\n")
    after = {node: fingerprint.code_fingerprint(node) for node in nodes}
    assert {node for node in nodes if before[node] != after[node]} == changed


def test_a_function_path_stands_for_its_module(tree: Path) -> None:
    assert fingerprint.code_fingerprint("trainer.e.run_fn") == fingerprint.code_fingerprint("trainer.e")


def test_an_unknown_module_is_refused_by_name(tree: Path) -> None:
    with pytest.raises(ModuleNotFoundError, match="trainer.nope"):
        fingerprint.code_fingerprint("trainer.nope")
