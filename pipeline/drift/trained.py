"""What a version was trained on, as requests; and whether its export sees a history as the trainer does.

Everybody of the training data asks once more, just before their last interaction and at its time: as training asks of
that interaction, and as people ask in serving.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from components.datasets.interactions import Interactions, Window, latest, read_interactions, window
from components.datasets.items import read_item_metadata
from components.events.splits import SPLITS
from pipeline.drift.requests import PLACES, KnownItems, Request
from pipeline.lineage import Part
from pipeline.local_model import saying_nothing
from serving.index import load_index
from serving.loaded import load_once
from serving.offline.encoding import encode_users

MOST_PEOPLE = 2000  # who are asked for
MOST_COMPARED = 200  # whose vectors are computed twice
AT_ONCE = 100
PARTS = ("model", "index", "items", "sequences")


@dataclass(frozen=True)
class TrainedVersion:
    """A servable with the artifacts that it was made from.

    servable: folder of the SavedModel. parts: of `pipeline.lineage.parts_of_version`, those of PARTS at least.
    history_length: `data.history_length`.
    """

    servable: Path
    parts: dict[str, Part]
    history_length: int

    @classmethod
    def of(cls, servable: Path, parts: dict[str, Part], history_length: int) -> TrainedVersion | None:
        """None where a part is not known, or gone."""
        is_whole = all(name in parts and parts[name].path.is_dir() for name in PARTS)
        return cls(servable, parts, history_length) if is_whole else None

    def known_items(self) -> KnownItems:
        """Domains and positive interactions of the items of the index."""
        domains = read_item_metadata(str(self.parts["items"].path / "Split-train"), self._item_ids).domains.tolist()
        counts = self._people.counts(len(self._item_ids)).tolist()
        return KnownItems(dict(zip(self._item_ids, domains)), dict(zip(self._item_ids, counts)))

    def requests(self) -> list[Request]:
        """Of up to MOST_PEOPLE people, each with the list that the exported model gives them."""
        found = []
        for people, asked in self._asked(MOST_PEOPLE):
            lists = self._answer("recommend", people, asked, k=np.full(len(people), PLACES, np.int32))
            shown = [ids[:count].tolist() for ids, count in zip(lists["item_ids"], lists["count"])]
            for row, length in enumerate(asked.is_there.sum(1)):
                found.append(
                    Request(
                        tuple(self._item_ids[item] for item in asked.items[row, :length]),
                        tuple(people.event_texts(asked.events[row, :length])),
                        tuple(asked.age_s[row, :length].tolist()),
                        tuple(item_id.decode() for item_id in shown[row]),
                    )
                )
        return found

    def vector_difference(self) -> float:
        """The largest difference, over people and dimensions, between a person's vector by the trained towers on the
        window that training cuts, and by the export's `encode_user` on the same interactions by name. NaN where nobody
        has two interactions.
        """
        towers = load_once(str(self.parts["model"].path / "Format-Serving")).signatures["user_tower"]
        differences = [np.nan]
        for people, asked in self._asked(MOST_COMPARED, fewest=2):
            trained = encode_users(towers, self._vectors, people, people.lengths - 1, self.history_length)
            served = self._answer("encode_user", people, asked)["vector"]
            differences.append(float(np.abs(trained - served).max()))
        return float(np.fmax.reduce(differences))

    @cached_property
    def _item_ids(self) -> list[str]:
        return self._index[1]

    @cached_property
    def _vectors(self) -> np.ndarray:
        return self._index[0].vectors.numpy()

    @cached_property
    def _index(self) -> Any:
        return load_index(str(self.parts["index"].path), "exact")

    @cached_property
    def _people(self) -> Interactions:
        folders = [self.parts["sequences"].path / f"Split-{split}" for split in SPLITS]
        return latest([read_interactions(str(folder), self._item_ids) for folder in folders])

    def _asked(self, most: int, fewest: int = 1) -> Iterator[tuple[Interactions, Window]]:
        """Batches of people, spread evenly over all with so many interactions, and what is known before the last."""
        rows = np.flatnonzero(self._people.lengths >= fewest)
        rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int))]
        for start in range(0, len(rows), AT_ONCE):
            people = self._people.select(rows[start : start + AT_ONCE])
            yield people, window(people, np.arange(len(people)), people.lengths - 1, self.history_length)

    def _answer(self, name: str, people: Interactions, asked: Window, **others: np.ndarray) -> dict[str, np.ndarray]:
        """What a signature of the export says to people with a history."""
        import tensorflow as tf

        signature = load_once(str(self.servable)).signatures[name]
        ids = np.array([*self._item_ids, ""], object)[asked.items]
        given = {
            "user_id": np.array(people.user_ids, object),
            "history_ids": ids,
            "history_events": people.event_texts(asked.events),
            "history_age_s": asked.age_s,
            **others,
        }
        inputs = saying_nothing(signature, len(people)) | {key: tf.constant(value) for key, value in given.items()}
        return {key: value.numpy() for key, value in signature(**inputs).items()}
