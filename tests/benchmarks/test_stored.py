"""Stored results: a row is told with the commit that it was measured at, however often others were measured since, and
what is kept is used for the code and the inputs alone that it was made from."""

import subprocess

import numpy as np

from benchmarks import stored
from benchmarks.goals import row_of
from benchmarks.page import first_screen, section
from benchmarks.stored import commit_of, keep, kept, key_of


def result(commit, rows):
    return {"command": "./zhiyin bench growth", "commit": commit, "cores": 2, "rows": rows}


def test_rows_of_other_cases_stay_with_the_commit_that_they_were_measured_at(tmp_path):
    first = result("aaaaaaa", [row_of("one", "ours", "seconds", 1.0), row_of("two", "ours", "seconds", 2.0)])
    second = result("bbbbbbb", [*kept(first, {"two"}), row_of("two", "ours", "seconds", 3.0)])
    third = result("ccccccc", [*kept(second, {"three"}), row_of("three", "ours", "seconds", 4.0)])
    found = {row["case"]: (row["value"], commit_of(row, third)) for row in third["rows"]}
    assert found == {"one": (1.0, "aaaaaaa"), "two": (3.0, "bbbbbbb"), "three": (4.0, "ccccccc")}
    text = section("growth", third, tmp_path)
    lines = {line.split(" | ")[0].strip("| "): line for line in text.splitlines() if "| ours |" in line}
    assert all(commit in lines[case] for case, (_, commit) in found.items())
    every = "aaaaaaa, bbbbbbb, ccccccc"
    assert f"at {every}, 2 cores" in text
    answers = {question: [] for question in ("good", "cold", "fast", "far")}
    assert f"| {every} | 3 |" in first_screen({"growth": third}, answers)


def test_a_tree_with_other_files_than_its_commit_is_marked(tmp_path, monkeypatch):
    def git(*arguments):
        names = ("-c", "user.name=x", "-c", "user.email=x@example.org")
        subprocess.run(["git", *names, *arguments], cwd=tmp_path, check=True, capture_output=True)

    monkeypatch.setattr(stored, "ROOT", tmp_path)
    assert stored.commit() == "unknown"
    git("init")
    (tmp_path / "code.py").write_text("1")
    git("add", ".")
    git("commit", "-m", "first")
    clean = stored.commit()
    assert len(clean) >= 7 and "+" not in clean
    (tmp_path / "benchmarks" / "results").mkdir(parents=True)
    (tmp_path / "benchmarks" / "results" / "growth.json").write_text("{}")
    assert stored.commit() == clean, "a stored result is no other code"
    (tmp_path / "code.py").write_text("2")
    assert stored.commit() == f"{clean}+"


def test_what_is_kept_has_the_commit_of_the_day_that_it_was_made(tmp_path, monkeypatch):
    made = []

    def make():
        made.append(1)
        return {"seconds": 2.0}, {"values": np.arange(3)}

    monkeypatch.setattr(stored, "commit", lambda: "aaaaaaa")
    keep(tmp_path / "part 0.5", "key", make)
    monkeypatch.setattr(stored, "commit", lambda: "bbbbbbb")
    what, arrays, commit = keep(tmp_path / "part 0.5", "key", make)
    assert (what, arrays["values"].tolist(), commit, len(made)) == ({"seconds": 2.0}, [0, 1, 2], "aaaaaaa", 1)
    assert keep(tmp_path / "part 0.5", "other key", make).commit == "bbbbbbb" and len(made) == 2


def test_a_key_tells_texts_files_and_folders_apart(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a").write_text("x")
    (tmp_path / "file").write_text("x")
    keys = [key_of("ab"), key_of("a", "b"), key_of(tmp_path / "file"), key_of(tmp_path / "folder"), key_of()]
    (tmp_path / "file").write_text("y")
    keys.append(key_of(tmp_path / "file"))
    (tmp_path / "folder" / "a").rename(tmp_path / "folder" / "b")
    keys.append(key_of(tmp_path / "folder"))
    assert len(set(keys)) == len(keys)
    assert key_of("a", b"b") == key_of("a", "b")
