"""The benchmarks' page: a first screen with a table and a picture for each question, and a file of all rows for each
benchmark."""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.goals import Row, judged, number
from benchmarks.stored import commit_of

OURS_COLOUR, EVEN_COLOUR = "#c0392b", "#4a5a6a"
NOT_PEERS = ("ours", "best peer", "best linear", "halfway", "linear on", "oracle", "retrieval order", "random")


@dataclass(frozen=True)
class Headline:
    """One number of a benchmark that answers a question, beside the best of its peers."""

    label: str  # as a reader would say it
    benchmark: str
    case: str
    metric: str
    contender: str = "ours"
    peer: str = ""  # prefix of the contender that stands beside ours; empty = the best of the peers, whoever it is
    less_is_better: bool = False


@dataclass(frozen=True)
class Question:
    """A question that somebody has who has to choose a recommender."""

    name: str  # of its picture
    title: str
    headlines: tuple[Headline, ...]


QUESTIONS = (
    Question(
        "good",
        "How good are the lists?",
        (
            Headline("MovieLens-1M, Recall@20", "quality", "ML1M-U", "R@20"),
            Headline("MovieLens-1M, NDCG@20", "quality", "ML1M-U", "NDCG@20"),
            Headline("Last.fm-2K with content, Recall@20", "quality", "LFM", "R@20"),
            Headline("MovieLens-100K, random 8:1:1, NDCG@10", "quality", "ML100K-R", "NDCG@10"),
            Headline("MovieLens-100K, 75:25, NDCG@10", "quality", "ML100K-S", "NDCG@10"),
            Headline("MovieLens-100K, last item by time, NDCG@10", "quality", "ML100K-T", "NDCG@10"),
            Headline("TFRS tutorial's split, seen hidden, accuracy@100", "quality", "TFRS-A-hidden", "accuracy@100"),
            Headline("ranker, MovieLens-100K, AUC", "ranking", "movielens-100k", "AUC"),
            Headline("ranker, demo world, AUC", "ranking", "demo", "AUC"),
        ),
    ),
    Question(
        "cold",
        "How good for items that nobody has played?",
        (
            Headline("Last.fm-2K, cold artists, Recall@20", "cold", "LFM-cold", "R@20"),
            Headline("Last.fm-2K, cold artists, NDCG@20", "cold", "LFM-cold", "NDCG@20"),
            Headline("demo world, all modalities, NDCG@10", "demo", "fused", "NDCG@10"),
            Headline("tags told from the content, Last.fm-2K, mAP", "tags", "LFM-cold", "mAP", peer="frequency"),
        ),
    ),
    Question(
        "fast",
        "How fast?",
        (
            Headline("search in 100,000 items, queries/s at recall .95", "ann", "100k", "qps_at_recall_0.95"),
            Headline("search in 1,000,000 items, queries/s at recall .95", "ann", "1M", "qps_at_recall_0.95"),
            Headline("sound of whole clips, times real time", "media", "audio_clips", "times_real_time"),
            Headline("sound of full tracks, times real time", "media", "audio_full_tracks", "times_real_time"),
            Headline(
                "training to the best linear peer's quality, cpu seconds",
                "quality",
                "ML1M-U",
                "cpu_seconds_to_best_linear",
                less_is_better=True,
            ),
            Headline(
                "one answer, 100,000 items, 100 requests/s, p99 ms",
                "serving",
                "full_100k_100rps",
                "p99_ms",
                less_is_better=True,
            ),
            Headline(
                "one answer, 100,000 items, 200 requests/s, p99 ms",
                "serving",
                "full_100k_200rps",
                "p99_ms",
                less_is_better=True,
            ),
        ),
    ),
    Question(
        "far",
        "How far does it go?",
        (
            Headline(
                "800,000 interactions, one fit, cpu seconds",
                "growth",
                "events_100",
                "cpu_seconds",
                less_is_better=True,
            ),
            Headline(
                "80,000 interactions, one fit, cpu seconds", "growth", "events_10", "cpu_seconds", less_is_better=True
            ),
            Headline(
                "100,000 events through the whole line, cpu seconds",
                "scale",
                "100k",
                "cpu_seconds",
                peer="another whole line",
                less_is_better=True,
            ),
            Headline(
                "1,000,000 items, 50 requests/s, p99 ms", "serving", "full_1M_50rps", "p99_ms", less_is_better=True
            ),
            Headline(
                "a new item shown, 100,000 items, seconds",
                "refresh",
                "100k",
                "add_to_searchable_s",
                less_is_better=True,
            ),
        ),
    ),
)


class Answer(NamedTuple):
    """A headline with its numbers."""

    headline: Headline
    ours: Row
    peer: Row | None


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
    lines = [
        "# Benchmarks",
        "",
        "How good, how fast and how far zhiyin is, beside whom. Every peer ran the same protocol on the",
        "same machine, tuned on validation under one budget; the test data were looked at once. `./zhiyin bench NAME`",
        "runs one of them again, `./zhiyin bench --table` writes these pages from `results/`.",
        "",
        f"**{sum(bool(each.is_met) for each in told)} of {len(told)} goals are met**; the missed ones are below.",
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
    lines += [
        "## Goals that are missed",
        "",
        "| benchmark | case | metric | ours | goal |",
        "| --- | --- | --- | ---: | --- |",
    ]
    lines += [
        f"| [{name}](results/{name}.md) | {each.case} | {each.metric} | {number(each.value)} | {each.bound} |"
        for name, each in judgements
        if each.is_met is False
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
        lines.append(f"| [{name}](results/{name}.md) | {first} | {result['commit']} | {len(result['rows'])} |")
    return "\n".join([*lines, ""])


def section(name: str, result: dict[str, Any], folder: Path) -> str:
    """All rows of one benchmark, goals beside values, its picture where it has one."""
    goals: dict[tuple[str, str], list[str]] = {}
    for each in judged(_goals(name), result["rows"]):
        goals.setdefault((each.case, each.metric), []).append(f"{each.bound}: {each.verdict}")
    lines = [f"# {name}", "", f"`{result['command']}` at {result['commit']}, {result['cores']} cores", ""]
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
        peers = [row for row in rows if _is_peer(row, headline) and row["value"] is not None]
        if ours:
            best = min if headline.less_is_better else max
            yield Answer(headline, ours, best(peers, key=lambda row: row["value"]) if peers else None)


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
    beside = f"{peer['contender']} {number(peer['value'])}" if peer else "–"
    label = f"[{answer.headline.label}](results/{answer.headline.benchmark}.md)"
    less = " (less is better)" if answer.headline.less_is_better else ""
    return f"| {label}{less} | {number(answer.ours['value'])} | {beside} | {'–' if ratio is None else f'{ratio:.2f}'} |"


def _goals(name: str) -> Sequence[dict[str, Any]]:
    return importlib.import_module(f"benchmarks.{name}").GOALS
