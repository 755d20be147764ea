"""Audio and video features for catalogue examples, on Beam: every item comes out, each failure is counted and listed.

The rule for a broken medium: its item stays, as one without audio and video (`has_audio` and `has_video` are 0), since
its text and its interactions still serve it; the medium is a reject with a reason. Items without a `media_uri` are not
media and not rejects. What is used and yet not as it should be (cut off, channels that cancel out) is a note, with the
item.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import apache_beam as beam
import tensorflow as tf

from components.contract import AUDIO_FEATURES, VIDEO_FEATURES
from components.media.addresses import MediaRoots, is_address
from components.media.downloads import Downloads
from components.media.errors import MediaError
from components.media.extract import MediaArrays
from components.media.isolation import Decoder, Limits
from components.media.lengths import Note
from components.rejects import reject

ACCEPTED, REJECTS, NOTES = "accepted", "rejects", "notes"
NOTES_FEATURE = "media_notes"  # of an item: the codes of its notes


class TooManyRejects(RuntimeError):
    """The share of media that could not be used is above the limit: something is wrong with the whole, not with single
    files."""


class AddMediaFeatures(beam.PTransform):
    """Decodes the medium of each catalogue example.

    Takes serialized catalogue examples. Gives {"items": serialized item examples, "accepted": the ids of those whose
    medium could be used, "rejects": see `components.rejects`, "notes": the same objects for what is told of accepted
    media}.
    """

    def __init__(self, roots: MediaRoots, limits: Limits = Limits()) -> None:  # noqa: B008 - frozen
        super().__init__()
        self._roots = roots
        self._limits = limits

    def expand(self, examples):
        decoded = (
            examples
            | "Spread media over workers" >> beam.Reshuffle()
            | "Decode media"
            >> beam.ParDo(_DecodeMedia(self._roots, self._limits)).with_outputs(ACCEPTED, REJECTS, NOTES, main="items")
        )
        return {name: decoded[name] for name in ("items", ACCEPTED, REJECTS, NOTES)}


class MediaFiles:
    """Media as open descriptors, from local folders and buckets. One for each worker thread."""

    def __init__(self, roots: MediaRoots) -> None:
        self._roots = roots
        self._downloads = Downloads()

    @contextmanager
    def opened(self, media_uri: str) -> Iterator[int]:
        """The descriptor of a medium. Raises a MediaError: outside the roots, missing, unreadable, too large, no
        answer."""
        place = self._roots.place(media_uri)
        with self._downloads.fetched(place) if is_address(place) else self._roots.open_local(media_uri) as descriptor:
            yield descriptor


class _DecodeMedia(beam.DoFn):
    def __init__(self, roots: MediaRoots, limits: Limits) -> None:
        self._roots = roots
        self._limits = limits

    def setup(self) -> None:
        self._files = MediaFiles(self._roots)
        self._decoder = Decoder(self._limits)

    def process(self, record: bytes):
        example = tf.train.Example.FromString(record)
        media_uri, item_id = media_uri_of(example), _text(example, "item_id")
        if media_uri is None:
            yield item_example(example, None).SerializeToString()
            return
        source = self._roots.named(media_uri)
        try:
            with self._files.opened(media_uri) as descriptor:
                arrays = self._decoder.extract(descriptor)
        except MediaError as error:
            _count(f"rejected_{error.reason}")
            yield item_example(example, None).SerializeToString()
            yield beam.pvalue.TaggedOutput(REJECTS, _row(source, item_id, error.reason, error.detail))
            return
        _count(ACCEPTED)
        yield item_example(example, arrays).SerializeToString()
        yield beam.pvalue.TaggedOutput(ACCEPTED, item_id)
        for note in arrays.notes:
            _count(f"noted_{note.code}")
            yield beam.pvalue.TaggedOutput(NOTES, _row(source, item_id, note.code, note.detail))

    def teardown(self) -> None:
        self._decoder.close()


def check_reject_share(counts: Mapping, max_reject_share: float, what: str = "media") -> None:
    """Raises TooManyRejects, with the counts, where more than that share of the media could not be used.

    what: was counted, for the message.
    """
    rejected = sum(counts["rejects"].values())
    if counts["rows"] and rejected / counts["rows"] > max_reject_share:
        by_count = sorted(counts["rejects"].items(), key=lambda pair: (-pair[1], pair[0]))
        reasons = ", ".join(f"{reason} {count}" for reason, count in by_count)
        raise TooManyRejects(
            f"{rejected} of {counts['rows']} {what} could not be used ({rejected / counts['rows']:.1%}, "
            f"the limit max_reject_share is {max_reject_share:.1%}): {reasons}"
        )


def item_example(example: tf.train.Example, arrays: MediaArrays | None) -> tf.train.Example:
    """The item example (docs/artifacts.md) of a catalogue example; the features of what there is not are absent."""
    item = tf.train.Example()
    item.CopyFrom(example)
    feature = item.features.feature
    has_audio, has_video = arrays is not None and arrays.has_audio, arrays is not None and arrays.has_video
    present = (AUDIO_FEATURES if has_audio else ()) + (VIDEO_FEATURES if has_video else ())
    for spec in present:
        value = getattr(arrays, spec.name)
        if spec.dtype == "uint8":
            feature[spec.name].bytes_list.value.append(value.tobytes())
        elif spec.dtype == "int64":
            feature[spec.name].int64_list.value.extend([value] if not spec.shape else value.tolist())
        else:
            feature[spec.name].float_list.value.extend(value.tolist())
    feature["has_audio"].int64_list.value.append(int(has_audio))
    feature["has_video"].int64_list.value.append(int(has_video))
    if arrays is not None and arrays.notes:
        feature[NOTES_FEATURE].bytes_list.value.extend(_codes(arrays.notes))
    return item


def media_uri_of(example: tf.train.Example) -> str | None:
    """The address of an example's medium, None without; any bytes come back as they were written to a path."""
    return _text(example, "media_uri")


def _row(source: str, item_id: str | None, code: str, detail: str) -> dict:
    """A row of the reports; bytes of a name that are no text are shown by a replacement character."""
    shown = [os.fsencode(text).decode("utf-8", "replace") for text in (source, detail)]
    return reject("media", shown[0], None, item_id, code, shown[1])


def _codes(notes: tuple[Note, ...]) -> list[bytes]:
    return [code.encode() for code in dict.fromkeys(note.code for note in notes)]


def _text(example: tf.train.Example, name: str) -> str | None:
    values = example.features.feature[name].bytes_list.value if name in example.features.feature else ()
    return values[0].decode("utf-8", "surrogateescape") if values else None


def _count(outcome: str) -> None:
    beam.metrics.Metrics.counter("media", outcome).inc()
