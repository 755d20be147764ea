"""Pretrained encoders over item examples, on Beam: each runs once an item, not in each step of a training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import tensorflow as tf
from apache_beam.ml.inference.base import ModelHandler, RunInference

from components.examples import floats_feature, ints_feature
from components.media.addresses import MediaRoots
from components.media.errors import MediaError
from components.media.features import ACCEPTED, REJECTS, MediaFiles, media_uri_of
from components.media.isolation import Decoder, Limits
from components.pretrained_config import Encoders, PretrainedConfig
from components.rejects import reject

_ITEMS_AT_ONCE = 32
SOUND, PICTURES = ("has_audio", Decoder.segments), ("has_video", Decoder.pictures)

Prepared = tuple[bytes, Any]  # a serialized item example, and what an encoder reads of it: None = nothing is there
Encoded = tuple[bytes, Mapping[str, np.ndarray] | None]  # an example, and what the encoder gives: None = likewise


class AddEmbeddings(beam.PTransform):
    """Adds the features of pretrained encoders to serialized item examples: `embedding_<name>` above all.

    They are absent where an item has nothing to encode, or an encoder gives a number that is not finite.
    Gives {"items": serialized item examples, "accepted": an item id for each encoder's features, "rejects": see
    `components.rejects`, of those that are not finite}.

    load: makes an encoder from its settings; runs on the workers.
    """

    def __init__(self, encoders: Encoders, load: Callable[[PretrainedConfig], Any], roots: MediaRoots):
        super().__init__()
        self._encoders, self._load, self._roots = encoders, load, roots

    def expand(self, items: beam.PCollection) -> Any:
        found: dict[str, list[beam.PCollection]] = {ACCEPTED: [], REJECTS: []}
        for encoder in self._encoders.each:
            if encoder.kind == "text":
                read = beam.Map(with_text, encoder.columns)
            else:
                is_sound = encoder.kind.startswith("audio")
                read = beam.ParDo(_WithMedium(self._roots, *(SOUND if is_sound else PICTURES)))
            encoded = (
                items
                | f"Read for {encoder.name}" >> read
                | f"Encode by {encoder.name}" >> RunInference(_Handler(encoder, self._load))
                | f"Keep what is finite of {encoder.name}"
                >> beam.FlatMap(with_features, encoder.name).with_outputs(ACCEPTED, REJECTS, main="items")
            )
            items = encoded["items"]
            for name, parts in found.items():
                parts.append(encoded[name])
        return {"items": items} | {name: parts | f"Join {name}" >> beam.Flatten() for name, parts in found.items()}


def with_text(record: bytes, columns: Sequence[str]) -> tuple[bytes, str | None]:
    """An item with the text of its columns, as sentences; the values of a list are joined by commas."""
    feature = tf.train.Example.FromString(record).features.feature
    parts = [
        ", ".join(value.decode() for value in feature[name].bytes_list.value) for name in columns if name in feature
    ]
    text = ". ".join(part for part in parts if part)
    return record, text or None


class _WithMedium(beam.DoFn):
    """An item with what an encoder reads of its medium. What cannot be decoded is a reject of MediaFeatures already:
    here it has none.

    has: the feature that says whether there is any; decode: the decoder's method.
    """

    def __init__(self, roots: MediaRoots, has: str, decode: Callable[[Decoder, int], Any]):
        self._roots, self._has, self._decode = roots, has, decode

    def setup(self) -> None:
        self._files = MediaFiles(self._roots)
        self._decoder = Decoder(Limits())

    def process(self, record: bytes) -> Iterable[Prepared]:
        example = tf.train.Example.FromString(record)
        feature, media_uri, found = example.features.feature, media_uri_of(example), None
        if media_uri is not None and self._has in feature and feature[self._has].int64_list.value[0]:
            try:
                with self._files.opened(media_uri) as descriptor:
                    found = self._decode(self._decoder, descriptor)
            except MediaError as error:
                beam.metrics.Metrics.counter(
                    "encoders", f"without_{self._has.removeprefix('has_')}_{error.reason}"
                ).inc()
        yield record, found

    def teardown(self) -> None:
        self._decoder.close()


class _Handler(ModelHandler):
    """Runs one encoder over prepared items and gives each with its features."""

    def __init__(self, encoder: PretrainedConfig, load: Callable[[PretrainedConfig], Any]):
        super().__init__()
        self._encoder, self._load = encoder, load

    def load_model(self) -> Any:
        return self._load(self._encoder)

    def run_inference(
        self, batch: Sequence[Prepared], model: Any, inference_args: dict[str, Any] | None = None
    ) -> Iterable[Encoded]:
        having = [row for row, (_, prepared) in enumerate(batch) if prepared is not None]
        encoded: list[Encoded] = [(record, None) for record, _ in batch]
        features = model([batch[row][1] for row in having]) if having else {}
        for place, row in enumerate(having):
            encoded[row] = (batch[row][0], {name: values[place] for name, values in features.items()})
        return encoded

    def batch_elements_kwargs(self) -> Mapping[str, Any]:
        return {"min_batch_size": _ITEMS_AT_ONCE, "max_batch_size": _ITEMS_AT_ONCE}


def with_features(encoded: Encoded, encoder: str) -> Iterable[bytes | beam.pvalue.TaggedOutput]:
    """A serialized item example with an encoder's features, floats or integers, and the item's id as accepted; where a
    number is not finite the example as it was, and a reject.

    encoder: its name.
    """
    record, features = encoded
    if features is None:
        yield record
        return
    example = tf.train.Example.FromString(record)
    item_id = example.features.feature["item_id"].bytes_list.value[0].decode()
    broken = [name for name, values in features.items() if not np.isfinite(values).all()]
    if broken:
        detail = f"{', '.join(broken)}: the encoder gave a number that is not finite"
        yield record
        yield beam.pvalue.TaggedOutput(REJECTS, reject("encoders", encoder, None, item_id, "not_finite", detail))
        return
    for name, values in features.items():
        make = floats_feature if values.dtype.kind == "f" else ints_feature
        example.features.feature[name].CopyFrom(make(values.tolist()))
    yield example.SerializeToString(deterministic=True)
    yield beam.pvalue.TaggedOutput(ACCEPTED, item_id)
