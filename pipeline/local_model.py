"""The model that is current, asked in this process: the newest pushed version, and the artifacts that it was made from.

Whatever answers here (`recommend`, `similar`, `explain`, `tags`, the demo, `add`, `withdraw`) starts from
`CurrentModel`, so
that all speak of one model: a model that was trained and not blessed is no part of it; a refresh is; so are items that
were added or withdrawn since.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from components.contract import BOTH, CONTENT
from components.settings import SettingsError
from pipeline.config import Config
from pipeline.lineage import Part, parts_of_version
from pipeline.versions import versions_in

if TYPE_CHECKING:
    from serving.export.catalog_updates import AddedItem, CatalogUpdates

_KEYS_AT_ONCE, _USUAL_K = 256, 200  # people or items of one call, where their lists are no longer than that


@dataclass(frozen=True)
class RankedList:
    """One person's (or item's) list, best first."""

    key: str  # of the person or the item that was asked for
    item_ids: list[str]
    scores: list[float]
    fallback: bool = False  # nothing is known of the person: the list of new people
    by: str = ""  # of similar items: what orders them, content, behaviour or both


class CurrentModel:
    """The newest version of a pipeline's exact model, as it is served now; it is loaded when it is first asked."""

    def __init__(self, config: Config):
        """Raises SettingsError where nothing has been pushed yet."""
        self.config = config
        self.path = newest_version(config.serving_path / config.name)

    def __getstate__(self) -> dict[str, Any]:
        """What another process needs, which loads the model itself."""
        return {"config": self.config, "path": self.path}

    @cached_property
    def updates(self) -> CatalogUpdates:
        """The items that were added and withdrawn since the version was built."""
        from serving.export import catalog_updates

        return catalog_updates.read(str(self.path))

    @cached_property
    def signatures(self) -> Mapping[str, Any]:
        """The signatures of the loaded model (docs/artifacts.md), brought up to `updates`."""
        from serving.export import catalog_updates, saved_model

        loaded = saved_model.load(str(self.path)).signatures
        catalog_updates.apply(loaded, self.updates)
        return loaded

    @cached_property
    def parts(self) -> dict[str, Part]:
        """The artifacts that the version was made from (`pipeline.lineage`); none without a record."""
        return parts_of_version(self.config.work_path, self.config.name, self.path.name)

    def part(self, name: str) -> Part:
        """One of `parts`. Raises SettingsError where it is not known."""
        if name not in self.parts:
            raise SettingsError(f"the run that version {self.path.name} came from is not in {self.config.work_path}")
        return self.parts[name]

    @cached_property
    def retrieval_signatures(self) -> Mapping[str, Any]:
        """The signatures of the retrieval model that the version was made from.

        Raises SettingsError where it is not known.
        """
        import tensorflow as tf

        return tf.saved_model.load(str(self.part("model").path / "Format-Serving")).signatures

    def recommend(self, user_ids: Sequence[str], k: int, at_s: int = 0) -> Iterator[RankedList]:
        """A list for each person, from what training knew of them.

        user_ids: known or not; of somebody unknown the list is that of new people. k: the length of a list.
        at_s: the time of the question, seconds since 1970; 0 is the time of the last event known.
        """
        if at_s:
            yield from self._lists("recommend", "user_id", user_ids, k, {"time_s": at_s})
        else:
            yield from self._lists("recommend_user", "user_id", user_ids, k)

    def similar(self, item_ids: Sequence[str], k: int, by: str = BOTH) -> Iterator[RankedList]:
        """For each item the items nearest to it, by content, behaviour or both.

        Raises SettingsError for an item that the model does not know, or a version that can only tell by both.
        """
        self.require_items(item_ids)
        if by != BOTH and "by" not in self.signatures["similar"].structured_input_signature[1]:
            raise SettingsError(f"--by: version {self.path.name} is of an earlier release and tells by both alone")
        yield from self._lists("similar", "item_id", item_ids, k, {} if by == BOTH else {"by": by})

    def explain(self, user_id: str, item_id: str) -> dict[str, Any]:
        """The outputs of the signature `explain` for one item (docs/artifacts.md), without their batch."""
        import tensorflow as tf

        self.require_items([item_id])
        signature = self.signatures["explain"]
        inputs = saying_nothing(signature, 1) | {
            "user_id": tf.constant([user_id]),
            "item_ids": tf.constant([[item_id]]),
        }
        return {name: value.numpy()[0] for name, value in signature(**inputs).items()}

    def query(self, user_id: str) -> np.ndarray:
        """A person's vector float32 [D], from what training knew of them."""
        import tensorflow as tf

        signature = self.signatures["encode_user"]
        inputs = saying_nothing(signature, 1) | {"user_id": tf.constant([user_id])}
        return signature(**inputs)["vector"].numpy()[0]

    def ids(self, kind: str) -> list[str]:
        """The `user` or `item` ids that the version was built with."""
        lines = (self.path / "assets" / f"{kind}_ids.txt").read_text(encoding="utf-8").split("\n")
        return lines[1:-1]  # the first line stands for what is unknown, the last is empty

    def knows_items(self, item_ids: Sequence[str]) -> list[bool]:
        """For each id, whether the version was built with the item or it was added since."""
        known = set(self.ids("item")) | set(self.updates.added)
        return [item_id in known for item_id in item_ids]

    def require_items(self, item_ids: Sequence[str]) -> None:
        """Raises SettingsError naming the items that the model does not know."""
        unknown = [item_id for item_id, known in zip(item_ids, self.knows_items(item_ids)) if not known]
        if unknown:
            raise SettingsError(f"--item: the current model has no item {', '.join(map(repr, unknown))}")

    @cached_property
    def num_shown(self) -> int:
        """How many items can be shown at all."""
        return len((set(self.ids("item")) | set(self.updates.added)) - set(self.updates.withdrawn))

    def titles(self, item_ids: set[str]) -> dict[str, str]:
        """`domain: title` of items in the catalogue that the version was made from; the id of those that it has not."""
        return {item_id: self._title_of.get(item_id) or item_id for item_id in item_ids}

    @cached_property
    def _title_of(self) -> dict[str, str]:
        return _titles(self.parts["catalogue"].path / "Split-train") if "catalogue" in self.parts else {}

    def encode(self, folder: str) -> dict[str, AddedItem]:
        """The items in a folder of item examples, by id, as they can be added to the answer."""

        from components.datasets.items import encode_item_batches, read_item_metadata
        from serving.export.catalog_updates import AddedItem

        encoder = self.signatures["encode_item"]
        found: dict[str, dict[str, np.ndarray]] = {}
        for ids, inputs in encode_item_batches(encoder, folder):
            outputs = {name: value.numpy() for name, value in encoder(**inputs).items() if name in ("vector", CONTENT)}
            for row, item_id in enumerate(ids):
                found[item_id.decode()] = {name: values[row] for name, values in outputs.items()}
        facts = read_item_metadata(folder, list(found))
        takes_dates = "published_at_s" in self.signatures["add_items"].structured_input_signature[1]
        dates_s = np.nan_to_num(facts.published_at_s) * takes_dates  # versions of earlier releases take none
        columns = zip(facts.domains, facts.creators, dates_s.astype(np.int64).tolist())
        return {
            item_id: AddedItem(domain=domain, creator=creator, published_at_s=date_s, **vectors)
            for (item_id, vectors), (domain, creator, date_s) in zip(found.items(), columns)
        }

    def add(self, items: Mapping[str, AddedItem]) -> None:
        """Show these items too, in this process. Raises RuntimeError where the model cannot take them."""
        import tensorflow as tf

        from serving.export import catalog_updates

        state = catalog_updates.CatalogUpdates()
        state.add(items)
        try:
            catalog_updates.apply(self.signatures, state)
        except tf.errors.InvalidArgumentError as error:
            said = " ".join(error.message.split())
            reason = said.partition("assertion failed: [")[2].partition("]")[0]  # what follows is where in the graph
            raise RuntimeError(f"version {self.path.name} cannot take the items: {reason or said}") from error

    def items(self, item_ids: Sequence[str]) -> dict[str, AddedItem]:
        """What can be said of items that are in the index already: that they are shown."""
        from serving.export.catalog_updates import AddedItem

        size = self.signatures["add_items"].structured_input_signature[1]["vector"].shape[1]
        return {item_id: AddedItem(np.zeros(size, np.float32)) for item_id in item_ids}

    def _lists(
        self, name: str, key: str, keys: Sequence[str], k: int, others: Mapping[str, int | str] | None = None
    ) -> Iterator[RankedList]:
        """The lists of a signature for people or items.

        key: its input that takes their ids. others: further inputs, alike for all.
        """
        import tensorflow as tf

        signature = self.signatures[name]
        size = keys_at_once(k)
        for start in range(0, len(keys), size):
            batch = list(keys[start : start + size])
            inputs = saying_nothing(signature, len(batch))
            for given, value in {**(others or {}), "k": k}.items():
                inputs[given] = tf.fill([len(batch)], tf.constant(value, inputs[given].dtype))
            answer = signature(**inputs | {key: tf.constant(batch)})
            yield from _ranked_lists(batch, {output: value.numpy() for output, value in answer.items()})


def keys_at_once(k: int) -> int:
    """How many people or items one call asks for, so that its memory does not grow with the length of the lists."""
    return max(1, _KEYS_AT_ONCE * _USUAL_K // max(_USUAL_K, k))


def newest_version(folder: Path) -> Path:
    """The newest version in a served model's folder. Raises SettingsError where nothing has been pushed yet."""
    versions = versions_in(folder)
    if not versions:
        raise SettingsError(f"no model has been pushed under {folder}; run the pipeline first")
    return versions[-1]


def saying_nothing(signature: Any, batch: int) -> dict[str, Any]:
    """Every input of a signature for a batch, at the value that says nothing: no list, an empty text, 0."""
    import tensorflow as tf

    return {
        name: tf.zeros([batch, *[0] * (spec.shape.rank - 1)], spec.dtype)
        for name, spec in signature.structured_input_signature[1].items()
    }


def _ranked_lists(keys: Sequence[str], answer: Mapping[str, np.ndarray]) -> Iterator[RankedList]:
    for row, key in enumerate(keys):
        count = int(answer["count"][row])
        yield RankedList(
            key=key,
            item_ids=[item_id.decode() for item_id in answer["item_ids"][row, :count]],
            scores=[float(score) for score in answer["scores"][row, :count]],
            fallback=bool(answer["fallback"][row]) if "fallback" in answer else False,
            by=answer["by"][row].decode() if "by" in answer else "",
        )


def _titles(folder: Path) -> dict[str, str]:
    """`domain: title` of the items in a folder of catalogue examples."""
    import tensorflow as tf

    found = {}
    files = [str(file) for file in sorted(folder.glob("*.gz"))]
    for record in tf.data.TFRecordDataset(files, "GZIP").as_numpy_iterator():
        features = tf.train.Example.FromString(record).features.feature
        texts = [features[name].bytes_list.value[:1] for name in ("domain", "title")]
        item_id = features["item_id"].bytes_list.value[0].decode()
        found[item_id] = ": ".join(text.decode() for values in texts for text in values)
    return found
