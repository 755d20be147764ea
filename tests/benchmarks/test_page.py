"""The benchmarks' page: what stands beside what, and what it says of goals."""

import json

import pytest

from benchmarks import page
from benchmarks.goals import judged, number

ROWS = [
    {"case": "c", "contender": "ours", "metric": "R@20", "value": 0.6, "low": 0.5, "high": 0.7, "runs": 3},
    {"case": "c", "contender": "EASE", "metric": "R@20", "value": 0.5, "low": None, "high": None, "runs": 1},
    {
        "case": "c",
        "contender": "best peer (EASE)",
        "metric": "R@20",
        "value": 0.9,
        "low": None,
        "high": None,
        "runs": 1,
    },
]


@pytest.mark.parametrize(
    ("goal", "verdict"),
    [
        ({"at_least": 0.6}, "met"),
        ({"at_least": 0.61}, "**missed**"),
        ({"at_most": 0.5}, "**missed**"),
        ({"at_least": 1.1, "of": "EASE"}, "met"),
        ({"at_least": 1.3, "of": "EASE"}, "**missed**"),
        ({"at_least": 1, "of": "SASRec"}, "peer not run"),
    ],
)
def test_a_goal_is_judged_by_the_value_of_ours(goal, verdict):
    (judgement,) = judged([{"case": "c", "metric": "R@20", **goal}], ROWS)
    assert judgement.verdict == verdict


def test_a_question_sets_ours_beside_the_best_real_peer_in_the_direction_of_better():
    question = page.Question("q", "?", (page.Headline("more", "b", "c", "R@20"),))
    (answer,) = page._answers(question, {"b": {"rows": ROWS}})
    assert answer.peer["contender"] == "EASE" and page._times_better(answer) == pytest.approx(1.2)
    less = page.Headline("less", "b", "c", "R@20", less_is_better=True)
    (answer,) = page._answers(page.Question("q", "?", (less,)), {"b": {"rows": ROWS}})
    assert page._times_better(answer) == pytest.approx(0.5 / 0.6)


def test_the_stored_pages_are_those_of_the_stored_rows(tmp_path):
    """`./zhiyin bench --table` was run after the last result: every page is what it would write."""
    stored = page.Path(page.__file__).parent
    (tmp_path / "results").mkdir()
    for file in (stored / "results").iterdir():
        if file.suffix in (".json", ".svg"):
            (tmp_path / "results" / file.name).write_bytes(file.read_bytes())
    assert page.write(tmp_path) == len(list((stored / "results").glob("*.json")))
    for file in [tmp_path / "README.md", *(tmp_path / "results").glob("*.md")]:
        assert file.read_text(encoding="utf-8") == (stored / file.relative_to(tmp_path)).read_text(encoding="utf-8"), (
            file.name
        )


def test_every_headline_of_the_page_has_a_stored_row():
    stored = page.Path(page.__file__).parent / "results"
    results = {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in stored.glob("*.json")}
    for question in page.QUESTIONS:
        assert len([*page._answers(question, results)]) == len(question.headlines), question.title


def test_numbers_are_read_without_exponents():
    assert [number(value) for value in (None, 0.28812, 49331.4, 0.0213)] == ["–", "0.2881", "49,331", "0.0213"]
