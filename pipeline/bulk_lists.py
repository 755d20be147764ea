"""Ranked lists for many people on the engine of the Beam nodes: every batch of people is a file, answered by another.

A batch that an engine computes twice, since a machine was lost, is the same file written again.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from pipeline import beam_engine
from pipeline.local_model import CurrentModel, RankedList, keys_at_once


def lists(model: CurrentModel, user_ids: Sequence[str], k: int, at_s: int = 0) -> Iterator[RankedList]:
    """What `model.recommend(user_ids, k, at_s)` gives, computed on `engine.beam`, whose machines share the work folder.

    Raises SettingsError where the engine cannot be reached.
    """
    engine = model.config.engine.beam
    beam_engine.check(engine)
    size = keys_at_once(k)
    starts = range(0, len(user_ids), size)
    with tempfile.TemporaryDirectory(prefix="lists-", dir=model.config.work_path) as name:
        folder = Path(name)
        for number, start in enumerate(starts):
            batch = list(user_ids[start : start + size])
            _people_file(folder, number).write_text(json.dumps(batch), encoding="utf-8")
        with beam.Pipeline(options=PipelineOptions(engine.arguments)) as pipeline:
            _ = (
                pipeline
                | "NumberBatches" >> beam.Create(range(len(starts)))
                | "SpreadBatches" >> beam.Reshuffle()
                | "RankBatches" >> beam.ParDo(RankBatch(model, k, at_s, folder))
            )
        for number in range(len(starts)):
            for found in json.loads(_lists_file(folder, number).read_text(encoding="utf-8")):
                yield RankedList(**found)


class RankBatch(beam.DoFn):
    """Answers the people of one file into another, by the number of the batch."""

    def __init__(self, model: CurrentModel, k: int, at_s: int, folder: Path):
        self._model, self._k, self._at_s, self._folder = model, k, at_s, folder

    def setup(self) -> None:
        _ = self._model.signatures  # loads it

    def process(self, number: int) -> Iterable[None]:
        people = json.loads(_people_file(self._folder, number).read_text(encoding="utf-8"))
        found = [asdict(ranked) for ranked in self._model.recommend(people, self._k, self._at_s)]
        with tempfile.NamedTemporaryFile("w", dir=self._folder, encoding="utf-8", delete=False) as partial:
            json.dump(found, partial)
        Path(partial.name).replace(_lists_file(self._folder, number))
        return ()


def _people_file(folder: Path, number: int) -> Path:
    return folder / f"people-{number:07d}.json"


def _lists_file(folder: Path, number: int) -> Path:
    return folder / f"lists-{number:07d}.json"
