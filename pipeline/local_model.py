"""Answers of the newest pushed model, in this process: what `recommend`, `similar` and the demo print."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from components.settings import SettingsError
from pipeline.config import Config

if TYPE_CHECKING:
    from serving.export.catalog_updates import Item

USERS_AT_ONCE = 256


@dataclass(frozen=True)
class Answer:
    """One person's (or item's) list, best first."""

    key: str
    item_ids: list[str]
    scores: list[float]
    fallback: bool = False  # nothing is known of the person: the list of new people


class ServedModel:
    """The newest version of a pipeline's exact model."""

    def __init__(self, config: Config):
        """Raises SettingsError where nothing has been pushed yet."""
        self.path = newest_version(config.serving_path / config.name)
        from serving.export import catalog_updates, saved_model

        self._signatures = saved_model.load(str(self.path)).signatures
        self._changes = catalog_updates.read(str(self.path))
        catalog_updates.apply(self._signatures, self._changes)

    def recommend(self, user_ids: Sequence[str], k: int) -> Iterator[Answer]:
        """A list for each person, from what training knew of them."""
        yield from self._answers("recommend_user", "user_id", user_ids, k)

    def similar(self, item_id: str, k: int) -> Answer:
        """The items nearest to one."""
        import tensorflow as tf

        nothing = {name: tf.constant([[]], tf.string) for name in ("exclude_ids", "allow_ids")} | {
            "domain": tf.constant([""])
        }
        nothing |= {"max_per_creator": tf.constant([0])}
        nothing |= {name: tf.constant([0], tf.int64) for name in ("max_item_age_s", "time_s")}
        (answer,) = self._answers("similar", "item_id", [item_id], k, nothing)
        return answer

    def explain(self, user_id: str, item_id: str) -> dict[str, Any]:
        """The outputs of the signature `explain` for one item (docs/architecture.md), without their batch. SettingsError: no such item."""
        import tensorflow as tf

        if item_id not in set(self.ids("item")) | set(self._changes.added):
            raise SettingsError(f"--item: the model knows no item {item_id!r}")
        nothing, no_numbers = tf.fill([1, 0], ""), tf.zeros([1, 0])
        inputs = {
            "user_id": tf.constant([user_id]),
            "item_ids": tf.constant([[item_id]]),
            "time_s": tf.zeros([1], tf.int64),
        }
        inputs |= {
            "history_ids": nothing,
            "history_events": nothing,
            "history_age_s": no_numbers,
            "objective_weights": no_numbers,
        }
        return {name: value.numpy()[0] for name, value in self._signatures["explain"](**inputs).items()}

    def query(self, user_id: str) -> np.ndarray:
        """A person's vector float32 [D], from what training knew of them."""
        import tensorflow as tf

        nothing = tf.fill([1, 0], "")
        inputs = {"history_ids": nothing, "history_events": nothing, "history_age_s": tf.zeros([1, 0])}
        return self._signatures["encode_user"](user_id=tf.constant([user_id]), **inputs)["vector"].numpy()[0]

    def ids(self, kind: str) -> list[str]:
        """The `user` or `item` ids that the model knows."""
        lines = (self.path / "assets" / f"{kind}_ids.txt").read_text(encoding="utf-8").split("\n")
        return lines[1:-1]  # the first line stands for what is unknown, the last is empty

    def encode(self, folder: str) -> dict[str, Item]:
        """The items in a folder of item examples, by id, as they can be added to the answer."""

        from components.datasets.items import encode_item_batches, read_item_metadata
        from serving.export.catalog_updates import Item

        encoder = self._signatures["encode_item"]
        vectors: dict[str, np.ndarray] = {}
        for ids, inputs in encode_item_batches(encoder, folder):
            vectors |= zip(map(bytes.decode, ids), encoder(**inputs)["vector"].numpy())
        facts = read_item_metadata(folder, list(vectors))
        return {
            item_id: Item(*parts) for item_id, *parts in zip(vectors, vectors.values(), facts.domains, facts.creators)
        }

    def add(self, items: Mapping[str, Item]) -> None:
        """Show these items too, in this process. Raises RuntimeError where the model cannot take them."""
        import tensorflow as tf

        from serving.export import catalog_updates

        state = catalog_updates.Changes()
        state.add(items)
        try:
            catalog_updates.apply(self._signatures, state)
        except tf.errors.InvalidArgumentError as error:
            said = " ".join(error.message.split())
            reason = said.partition("assertion failed: [")[2].partition("]")[0]  # the rest is where in the graph
            raise RuntimeError(f"version {self.path.name} cannot take the items: {reason or said}") from error

    def items(self, item_ids: Sequence[str]) -> dict[str, Item]:
        """What can be said of items that are in the index already: that they are shown."""
        from serving.export.catalog_updates import Item

        size = self._signatures["add_items"].structured_input_signature[1]["vector"].shape[1]
        return {item_id: Item(np.zeros(size, np.float32)) for item_id in item_ids}

    def _answers(
        self, signature: str, name: str, keys: Sequence[str], k: int, others: Mapping[str, Any] | None = None
    ) -> Iterator[Answer]:
        import tensorflow as tf

        for start in range(0, len(keys), USERS_AT_ONCE):
            batch = list(keys[start : start + USERS_AT_ONCE])
            answer = self._signatures[signature](
                **{name: tf.constant(batch), "k": tf.fill([len(batch)], k)}, **(others or {})
            )
            arrays: dict[str, Any] = {output: value.numpy() for output, value in answer.items()}
            for row, key in enumerate(batch):
                count = int(arrays["count"][row])
                yield Answer(
                    key=key,
                    item_ids=[item_id.decode() for item_id in arrays["item_ids"][row, :count]],
                    scores=[float(score) for score in arrays["scores"][row, :count]],
                    fallback=bool(arrays["fallback"][row]) if "fallback" in arrays else False,
                )


def newest_version(folder: Path) -> Path:
    """The newest version in a served model's folder. Raises SettingsError where nothing has been pushed yet."""
    versions = [version for version in folder.glob("*") if version.name.isdigit()]
    if not versions:
        raise SettingsError(f"no model has been pushed under {folder}; run the pipeline first")
    return max(versions, key=lambda version: int(version.name))


def titles(config: Config, item_ids: set[str]) -> dict[str, str]:
    """`domain: title` of the items, from the newest catalogue that a run has read; the id where there is none."""
    import tensorflow as tf

    folders = [
        folder
        for folder in (config.work_path / "artifacts" / "CatalogGen" / "examples").glob("*")
        if folder.name.isdigit()
    ]
    found = dict.fromkeys(item_ids, "")
    if folders:
        newest = max(folders, key=lambda folder: int(folder.name))
        files = [str(file) for file in sorted((newest / "Split-train").glob("*.gz"))]
        for record in tf.data.TFRecordDataset(files, "GZIP").as_numpy_iterator():
            features = tf.train.Example.FromString(record).features.feature
            item_id = features["item_id"].bytes_list.value[0].decode()
            if item_id in found:
                parts = [
                    features[name].bytes_list.value[0].decode()
                    for name in ("domain", "title")
                    if features[name].bytes_list.value
                ]
                found[item_id] = ": ".join(parts)
    return {item_id: title or item_id for item_id, title in found.items()}


def write_bulk(answers: Iterator[Answer], output: Path, total: int) -> int:
    """Write user_id, rank, item_id, score to CSV or Parquet, whole or not at all; returns the number of rows."""
    import pandas as pd
    from tqdm import tqdm

    columns: dict[str, list[Any]] = {"user_id": [], "rank": [], "item_id": [], "score": []}
    for answer in tqdm(answers, total=total, unit="user", disable=None, leave=False):
        columns["user_id"].extend([answer.key] * len(answer.item_ids))
        columns["rank"].extend(range(1, len(answer.item_ids) + 1))
        columns["item_id"].extend(answer.item_ids)
        columns["score"].extend(np.float32(score) for score in answer.scores)
    table = pd.DataFrame(columns).astype({"rank": "int32", "score": "float32"})
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(f".{output.name}.partial")
    if output.suffix == ".parquet":
        table.to_parquet(partial, index=False)
    else:
        table.to_csv(partial, index=False)
    partial.replace(output)
    return len(table)
