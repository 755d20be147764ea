"""The benchmarks' page: what stands beside what, and what it says of goals."""

import json

import pytest

from benchmarks import page, quality
from benchmarks.goals import judged, number, row_of
from components.interpreter import ROOT

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


def row(contender, value, low=None, metric="R@20"):
    return {**row_of("c", contender, metric, value), "low": low, "high": low}


@pytest.mark.parametrize(
    ("peer", "found"),
    [
        ("faiss IVF", "faiss IVF 1.8.0.post1"),
        ("faiss IVF-PQ", "faiss IVF-PQ 1.8.0.post1"),
        ("librosa", "librosa 0.11.0"),
        ("librosa 0.11.0, offset and duration", "librosa 0.11.0, offset and duration"),
        ("BPR", "BPR (RecBole 1.2.1)"),
        ("best peer", "best peer (SASRec (RecTools 0.19.0))"),
    ],
)
def test_a_goal_means_the_contender_of_that_name_and_no_other_that_begins_alike(peer, found):
    names = (
        *("faiss IVF-PQ 1.8.0.post1", "faiss IVF 1.8.0.post1", "librosa 0.11.0, offset and duration", "librosa 0.11.0"),
        *("BPR (RecBole 1.2.1)", "BPRMF", "best peer (SASRec (RecTools 0.19.0))"),
    )
    rows = [row("ours", 1.0), *(row(name, 0.5 if name == found else 2.0) for name in names)]
    (judgement,) = judged([{"case": "c", "metric": "R@20", "at_least": 1.0, "of": peer}], rows)
    assert (judgement.bound, judgement.verdict) == (f"≥ 1 × {found}", "met")


def test_a_goal_that_two_contenders_can_be_meant_by_is_refused():
    rows = [row("ours", 1.0), row("librosa 0.10.0", 1.0), row("librosa 0.11.0", 1.0)]
    with pytest.raises(ValueError, match="'librosa' can be any of librosa 0.10.0, librosa 0.11.0; name one"):
        list(judged([{"case": "c", "metric": "R@20", "at_least": 1.0, "of": "librosa"}], rows))


@pytest.mark.parametrize("lead", [("ours", "R@20 above best peer"), ("ours minus best peer (EASE)", "R@20")])
@pytest.mark.parametrize(("low", "verdict"), [(0.011, "met"), (0.009, "**missed**")])
def test_a_goal_above_a_peer_is_judged_by_the_lower_end_of_the_paired_difference(lead, low, verdict):
    """1.02 × .5 is .01 above it; ours is .1 above."""
    rows = [row("ours", 0.6), row("best peer (EASE)", 0.5), row(lead[0], 0.1, low, lead[1])]
    (judgement,) = judged([{"case": "c", "metric": "R@20", "at_least": 1.02, "of": "best peer"}], rows)
    assert (judgement.verdict, judgement.value) == (verdict, 0.6)
    assert judgement.bound == "≥ 1.02 × best peer (EASE), by the lower end"


def test_a_goal_by_the_lower_end_of_ours_says_so():
    goal = {"case": "c", "metric": "R@20", "at_least": 1.0, "of": "chance", "by": "low"}
    rows = [row("ours", 0.6, 0.5), row("chance", 0.55)]
    (judgement,) = judged([goal], rows)
    assert (judgement.bound, judgement.verdict) == ("≥ 1 × chance, by the lower end", "**missed**")
    (judgement,) = judged([goal], [row("ours", 0.6), row("chance", 0.55)])
    assert (judgement.bound, judgement.verdict) == ("≥ 1 × chance", "met")


def test_a_goal_without_a_row_of_ours_is_told_as_not_run(tmp_path):
    (judgement,) = judged([{"case": "d", "metric": "R@20", "at_least": 1.1, "of": "EASE"}], ROWS)
    assert (judgement.case, judgement.bound, judgement.verdict) == ("d", "≥ 1.1 × EASE", "not run")
    result = {"command": "x", "commit": "y", "cores": 2, "rows": ROWS}
    assert "Goals that were not run: ML1M-U, R@20 ≥ 0.2885; " in page.section("quality", result, tmp_path)
    text = page.first_screen({"quality": result}, {question.name: [] for question in page.QUESTIONS})
    assert f"0 of 0 goals are met**; the missed ones are below, with {len(quality.GOALS)} not run." in text
    assert "| [quality](results/quality.md) | ML1M-U | R@20 | – | ≥ 0.2885: not run |" in text


def stored_results():
    """Benchmark -> its stored result."""
    folder = page.Path(page.__file__).parent / "results"
    return {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in folder.glob("*.json")}


@pytest.mark.parametrize("name", sorted(stored_results()))
def test_no_goal_is_reached_by_chance_or_is_of_ours_under_another_name(name):
    rows = stored_results()[name]["rows"]
    values = {(row["case"], row["contender"], row["metric"]): row["value"] for row in rows}
    for goal in page._goals(name):
        if "at_least" in goal:
            by_chance = [
                value
                for (case, contender, metric), value in values.items()
                if contender.startswith("random") and (case, metric) == (goal["case"], goal["metric"])
            ]
            bound = goal["at_least"] * values.get((goal["case"], goal.get("of"), goal["metric"]), 1.0)
            assert "of" in goal or all(value < bound for value in by_chance), goal
            ours, peer = (values.get((goal["case"], who, goal["metric"])) for who in ("ours", goal.get("of")))
            assert ours is None or ours != peer, goal


def test_the_first_screen_promises_nothing_that_a_benchmark_lists_otherwise(monkeypatch):
    answers = {question.name: [*page._answers(question, stored_results())] for question in page.QUESTIONS}
    text = page.first_screen(stored_results(), answers)
    promises = ("one budget", "looked at once")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert not any(promise in page_text for promise in promises for page_text in (text, readme))
    assert "reservations" in readme
    for name in stored_results():
        for words, cases in page.reservations(name).items():
            assert f"| [{name}](results/{name}.md) | {', '.join(cases)} | {words} |" in text
    of_quality = [line for line in text.splitlines() if "](results/quality.md)" in line and "[quality]" not in line]
    assert of_quality and all("](results/quality.md) †" in line for line in of_quality)
    monkeypatch.setattr(page, "reservations", lambda name: {})
    text = page.first_screen(stored_results(), answers)
    assert all(promise in text for promise in promises) and "eservations" not in text and "†" not in text


def test_reservations_are_of_cases_that_were_run_or_have_a_goal():
    for name, result in stored_results().items():
        known = {row["case"] for row in result["rows"]} | {goal["case"] for goal in page._goals(name)}
        for words, cases in page.reservations(name).items():
            assert {*cases} <= known, words


def test_a_peer_that_has_no_other_beside_it_is_not_called_the_best():
    rows = [row("ours", 0.6), row("frequency", 0.5)]
    question = page.Question("q", "?", (page.Headline("more", "quality", "c", "R@20", peer="frequency"),))
    (answer,) = page._answers(question, {"quality": {"rows": rows}})
    assert "| frequency 0.5, the only peer |" in page._cells(answer)
    (answer,) = page._answers(question, {"quality": {"rows": [*rows, row("frequency 2", 0.4)]}})
    assert "| frequency 0.5 |" in page._cells(answer)


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
