"""A few ranked lists of a run's own servable, with what the people had before. Nobody is named."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.report.items import Item, Look, read_items, read_looks
from pipeline.run_history import RunRecord

PEOPLE = 3  # with a history; somebody new comes beside them
SHOWN_HISTORY = 5
LIST_LENGTH = 8


@dataclass(frozen=True)
class Entry:
    """One item of a list."""

    item: Item
    look: Look
    score: float = 0.0


@dataclass(frozen=True)
class SampleList:
    """One person's list."""

    history: list[Entry]  # the last few, the latest first; empty for somebody new
    num_history: int
    entries: list[Entry]


def read_sample_lists(run: RunRecord) -> list[SampleList]:
    """The lists of a few people of the test split and of somebody new; none where the servable is gone."""
    servable, sequences = run.output("Recommender", "exact"), run.output("Interactions", "sequences")
    catalogue = run.output("CatalogGen", "examples")
    if servable is None or sequences is None or catalogue is None:
        return []
    people = _people(sequences / "Split-test")
    lists = _ask(servable / "Format-Serving", [*people, ""])
    shown = {item_id for history in people.values() for item_id in history[-SHOWN_HISTORY:]}
    shown |= {item_id for ranked in lists for item_id, _ in ranked}
    items, looks = read_items(catalogue, shown), read_looks(run, shown)

    def entry(item_id: str, score: float = 0.0) -> Entry:
        return Entry(items.get(item_id, Item(item_id, item_id, "")), looks.get(item_id, Look()), score)

    return [
        SampleList(
            [entry(one) for one in history[: -SHOWN_HISTORY - 1 : -1]], len(history), [entry(*x) for x in ranked]
        )
        for history, ranked in zip([*people.values(), []], lists)
    ]


def _people(folder: Path) -> dict[str, list[str]]:
    """The history of a few people by id, oldest first."""
    import tensorflow as tf

    people: dict[str, list[str]] = {}
    files = [str(file) for file in sorted(folder.glob("*.gz"))]
    for record in tf.data.TFRecordDataset(files, "GZIP").as_numpy_iterator():
        features = tf.train.Example.FromString(record).features.feature
        if not features["num_history"].int64_list.value[0]:
            continue
        items = [item.decode("utf-8", "replace") for item in features["item_ids"].bytes_list.value]
        people[features["user_id"].bytes_list.value[0].decode("utf-8", "replace")] = items
        if len(people) == PEOPLE:
            break
    return people


def _ask(servable: Path, user_ids: list[str]) -> list[list[tuple[str, float]]]:
    """Item ids and scores for each person, best first."""
    import tensorflow as tf

    from serving.loaded import load_once

    signature = load_once(str(servable)).signatures["recommend_user"]
    answer = signature(user_id=tf.constant(user_ids), k=tf.fill([len(user_ids)], LIST_LENGTH))
    found = {name: value.numpy() for name, value in answer.items()}
    return [
        [(item.decode("utf-8", "replace"), float(score)) for item, score in zip(ids[:count], scores[:count])]
        for ids, scores, count in zip(found["item_ids"], found["scores"], found["count"])
    ]
