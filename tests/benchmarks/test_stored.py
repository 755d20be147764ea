"""Stored results: a row is told with the commit that it was measured at, however often others were measured since."""

from benchmarks.goals import row_of
from benchmarks.page import section
from benchmarks.stored import commit_of, kept


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
