"""The benchmarks' page: a first screen with a table and a picture for each question, and a file of all rows for each
benchmark."""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.goals import LOWER_END, NOT_RUN, Judgement, Row, judged, number
from benchmarks.questions import QUESTIONS, Headline, Question
from benchmarks.stored import commit_of, commits_of

OURS_COLOUR, EVEN_COLOUR = "#c0392b", "#4a5a6a"
UNRESERVED = "All had one budget, and the test data were looked at once."
RESERVED = (
    "Some tests were looked at before, some settings of ours\nfound elsewhere, some peers held short: rows marked † "
    "stand under [reservations](#reservations)."
)
NOT_PEERS = ("ours", "best peer", "best linear", "halfway", "linear on", "oracle", "retrieval order", "random")


class Answer(NamedTuple):
    """A headline with its numbers."""

    headline: Headline
    ours: Row
    peer: Row | None  # the best
    num_peers: int  # those that never got there, too


def write(folder: Path) -> int:
    """Write README.md and the pictures and a page a benchmark in `results/`, from the stored rows; how many benchmarks
    there are.

    folder: `benchmarks/`.
    """
    results = {
        path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted((folder / "results").glob("*.json"))
    }
    answers = {question.name: [*_answers(question, results)] for question in QUESTIONS}
    for question in QUESTIONS:
        draw(question, answers[question.name], folder / "results" / f"question_{question.name}.svg")
    (folder / "README.md").write_text(first_screen(results, answers), encoding="utf-8")
    for name, result in results.items():
        (folder / "results" / f"{name}.md").write_text(section(name, result, folder / "results"), encoding="utf-8")
    return len(results)


def first_screen(results: dict[str, Any], answers: dict[str, list[Answer]]) -> str:
    """The page that is read in a minute."""
    judgements = [(name, each) for name, result in results.items() for each in judged(_goals(name), result["rows"])]
    told = [each for _, each in judgements if each.is_met is not None]
    reserved = [(name, words, cases) for name in results for words, cases in reservations(name).items()]
    lines = [
        "# Benchmarks",
        "",
        "How good, how fast and how far zhiyin is, beside whom. Every peer ran the same protocol on the",
        f"same machine, tuned on validation. {RESERVED if reserved else UNRESERVED}",
        "`./zhiyin bench NAME` runs a benchmark again, `./zhiyin bench --table` writes these pages from `results/`.",
        "",
        f"**{sum(bool(each.is_met) for each in told)} of {len(told)} goals are met**; the missed ones are below, with"
        f" {len(judgements) - len(told)} not run.",
        f"“{LOWER_END[2:].capitalize()}” means that of the 95 % interval of ours, or of its paired difference to the",
        "peer where that was measured. All other goals are judged by point estimates.",
        "",
    ]
    for question in QUESTIONS:
        lines += [
            f"## {question.title}",
            "",
            "| | ours | best peer | ours ÷ peer |",
            "| --- | ---: | ---: | ---: |",
            *(_cells(answer) for answer in answers[question.name]),
            "",
            f"![{question.title}](results/question_{question.name}.svg)",
            "",
        ]
    if reserved:
        lines += ["## Reservations", "", "| benchmark | cases | what |", "| --- | --- | --- |"]
        lines += [f"| [{name}](results/{name}.md) | {', '.join(cases)} | {words} |" for name, words, cases in reserved]
        lines.append("")
    lines += [
        "## Goals that are missed",
        "",
        "| benchmark | case | metric | ours | goal |",
        "| --- | --- | --- | ---: | --- |",
    ]
    lines += [
        f"| [{name}](results/{name}.md) | {each.case} | {each.metric} | {number(each.value)} | {_bound(each)} |"
        for name, each in judgements
        if not each.is_met
    ]
    lines += ["", "## All rows", "", "| benchmark | question | commit | rows |", "| --- | --- | --- | ---: |"]
    for name, result in results.items():
        first = (
            (importlib.import_module(f"benchmarks.{name}").__doc__ or "")
            .strip()
            .partition("\n\n")[0]
            .replace("\n", " ")
            .rstrip(".")
        )
        lines.append(f"| [{name}](results/{name}.md) | {first} | {commits_of(result)} | {len(result['rows'])} |")
    return "\n".join([*lines, ""])


def section(name: str, result: dict[str, Any], folder: Path) -> str:
    """All rows of one benchmark, goals beside values, its picture where it has one."""
    goals: dict[tuple[str, str], list[str]] = {}
    judgements = list(judged(_goals(name), result["rows"]))
    for each in judgements:
        goals.setdefault((each.case, each.metric), []).append(f"{each.bound}: {each.verdict}")
    lines = [f"# {name}", "", f"`{result['command']}` at {commits_of(result)}, {result['cores']} cores", ""]
    lines += [f"- {', '.join(cases)}: {words}" for words, cases in reservations(name).items()]
    lines += [""] if reservations(name) else []
    if (folder / f"{name}.svg").is_file():
        lines += [f"![{name}]({name}.svg)", ""]
    lines += [
        "The range is the 95 % interval of a quality, of a cost the smallest and the largest run.",
        "",
        "| case | contender | metric | value | range | runs | commit | goal |",
        "| --- | --- | --- | ---: | --- | ---: | --- | --- |",
    ]
    for row in result["rows"]:
        interval = f"{number(row['low'])} – {number(row['high'])}" if row.get("low") is not None else ""
        goal = "; ".join(goals.get((row["case"], row["metric"]), [])) if row["contender"] == "ours" else ""
        cells = (
            row["case"],
            row["contender"],
            row["metric"],
            number(row["value"]),
            interval,
            str(row.get("runs", "")),
            commit_of(row, result),
            goal,
        )
        lines.append(f"| {' | '.join(cells)} |")
    not_run = [f"{each.case}, {each.metric} {each.bound}" for each in judgements if each.missing == NOT_RUN]
    lines += ["", f"Goals that were not run: {'; '.join(not_run)}."] if not_run else []
    return "\n".join([*lines, ""])


def draw(question: Question, answers: Sequence[Answer], path: Path) -> None:
    """Write an SVG with a line for each headline: ours as a multiple of its best peer, right of 1 is better."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    ratios = [(answer.headline.label, _times_better(answer)) for answer in answers]
    compared = [(label, ratio) for label, ratio in ratios if ratio is not None]
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": question.name, "font.size": 9}):
        figure = Figure(figsize=(8.0, 0.9 + 0.32 * len(compared)), layout="constrained")
        FigureCanvasSVG(figure)
        figure.patch.set_facecolor("white")
        axis = figure.subplots()
        for place, (_, ratio) in enumerate(reversed(compared)):
            axis.plot([1, ratio], [place, place], color=EVEN_COLOUR, linewidth=1.2)
            axis.plot(ratio, place, "o", color=OURS_COLOUR, markersize=6)
            axis.annotate(
                f"{ratio:.2f}", (ratio, place), xytext=(0, 6), textcoords="offset points", ha="center", fontsize=8
            )
        axis.axvline(1, color=EVEN_COLOUR, linewidth=1)
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter(mpl.ticker.FuncFormatter(lambda value, _: f"{value:g} ×"))
        axis.xaxis.set_minor_formatter(mpl.ticker.NullFormatter())
        axis.set_yticks(range(len(compared)), [label for label, _ in reversed(compared)])
        axis.set_ylim(-0.6, len(compared) - 0.2)
        axis.margins(x=0.15)
        axis.set_title("ours as a multiple of the best peer; right of 1 is better", loc="left", fontsize=9)
        axis.spines[["top", "right"]].set_visible(False)
        figure.savefig(path, format="svg", metadata={"Date": None})


def _answers(question: Question, results: dict[str, Any]):
    for headline in question.headlines:
        rows = [
            row
            for row in results.get(headline.benchmark, {"rows": []})["rows"]
            if (row["case"], row["metric"]) == (headline.case, headline.metric)
        ]
        ours = next((row for row in rows if row["contender"] == headline.contender), None)
        all_peers = [row for row in rows if _is_peer(row, headline)]
        peers = [row for row in all_peers if row["value"] is not None]
        if ours:
            best = min if headline.less_is_better else max
            peer = best(peers, key=lambda row: row["value"]) if peers else None
            yield Answer(headline, ours, peer, len(all_peers))


def _is_peer(row: Row, headline: Headline) -> bool:
    if headline.peer:
        return row["contender"].startswith(headline.peer)
    return not row["contender"].startswith(NOT_PEERS) and not row["contender"].endswith(" alone")


def _times_better(answer: Answer) -> float | None:
    if answer.peer is None or not answer.peer["value"] or not answer.ours["value"]:
        return None
    ratio = answer.ours["value"] / answer.peer["value"]
    return 1 / ratio if answer.headline.less_is_better else ratio


def _cells(answer: Answer) -> str:
    peer, ratio = answer.peer, _times_better(answer)
    if answer.headline.less_is_better and ratio is not None:
        ratio = 1 / ratio
    alone = ", the only peer" if answer.num_peers == 1 else ""
    beside = f"{peer['contender']} {number(peer['value'])}{alone}" if peer else "–"
    name, case = answer.headline.benchmark, answer.headline.case
    mark = " †" if any(case in cases for cases in reservations(name).values()) else ""
    label = f"[{answer.headline.label}](results/{name}.md){mark}"
    less = " (less is better)" if answer.headline.less_is_better else ""
    return f"| {label}{less} | {number(answer.ours['value'])} | {beside} | {'–' if ratio is None else f'{ratio:.2f}'} |"


def reservations(name: str) -> dict[str, Sequence[str]]:
    """What a benchmark's own module says against its rows -> the cases that it is about."""
    return getattr(importlib.import_module(f"benchmarks.{name}"), "RESERVATIONS", {})


def _bound(judgement: Judgement) -> str:
    return f"{judgement.bound}: {judgement.missing}" if judgement.missing else judgement.bound


def _goals(name: str) -> Sequence[dict[str, Any]]:
    return importlib.import_module(f"benchmarks.{name}").GOALS
