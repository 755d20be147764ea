"""Audio and video features for catalogue examples, on Beam: every item comes out, what could not be decoded is counted and listed.

The rule for a broken medium: its item stays, as one without audio and video (`has_audio` and `has_video` are 0), since its text and
its listeners still serve it; the medium is a reject with a reason. Items without a `media_uri` are not media and not rejects.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import unicodedata
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import apache_beam as beam
import tensorflow as tf
from apache_beam.io.filesystem import BeamIOError, CompressionTypes
from apache_beam.io.filesystems import FileSystems

from components.contract import AUDIO_FEATURES, VIDEO_FEATURES
from components.media.errors import MediaError, MissingFile, TooLarge, UnreadableFile, UnsupportedUri
from components.media.extract import MediaArrays
from components.media.isolation import Decoder, Limits

ACCEPTED = "accepted"
REJECTS, OUTCOMES = "rejects", "outcomes"
DOWNLOAD_LIMIT_BYTES = 4 << 30  # of a medium in a bucket: it is copied to a temporary file, so that it can be sought


class TooManyRejects(RuntimeError):
    """The share of media that could not be used is above the limit: something is wrong with the whole, not with single files."""


class AddMediaFeatures(beam.PTransform):
    """Serialized catalogue examples -> {"items": item examples, "rejects": objects of the rejects report, "outcomes": a word a medium}.

    An outcome is ACCEPTED or the reason code of a MediaError.
    """

    def __init__(self, media_root: str = "", limits: Limits = Limits()) -> None:  # noqa: B008 - frozen
        """media_root: relative media_uri are resolved against it; a local folder, or a bucket."""
        super().__init__()
        self._media_root = media_root
        self._limits = limits

    def expand(self, examples):
        decoded = (
            examples
            | "Spread media over workers" >> beam.Reshuffle()
            | "Decode media"
            >> beam.ParDo(_DecodeMedia(self._media_root, self._limits)).with_outputs(REJECTS, OUTCOMES, main="items")
        )
        return {"items": decoded["items"], REJECTS: decoded[REJECTS], OUTCOMES: decoded[OUTCOMES]}


class _DecodeMedia(beam.DoFn):
    def __init__(self, media_root: str, limits: Limits) -> None:
        self._media_root = media_root
        self._limits = limits

    def setup(self) -> None:
        self._decoder = Decoder(self._limits)

    def process(self, record: bytes):
        example = tf.train.Example.FromString(record)
        media_uri = _text(example, "media_uri")
        if media_uri is None:
            yield item_example(example, None).SerializeToString()
            return
        path = resolve(media_uri, self._media_root)
        try:
            with local_file(path) as source:
                arrays = self._decoder.extract(source)
        except MediaError as error:
            _count(f"rejected_{error.reason}")
            yield item_example(example, None).SerializeToString()
            yield beam.pvalue.TaggedOutput(REJECTS, reject_row(path, _text(example, "item_id"), error))
            yield beam.pvalue.TaggedOutput(OUTCOMES, error.reason)
            return
        for outcome in (ACCEPTED, *(f"damaged_{damage}" for damage in arrays.damage)):
            _count(outcome)
        yield item_example(example, arrays).SerializeToString()
        yield beam.pvalue.TaggedOutput(OUTCOMES, ACCEPTED)

    def teardown(self) -> None:
        self._decoder.close()


class SummariseOutcomes(beam.PTransform):
    """Outcomes -> one JSON text: `{"rows": media, "accepted": n, "rejects": {reason: n}}`."""

    def expand(self, outcomes):
        return (
            outcomes
            | "Count each outcome" >> beam.combiners.Count.PerElement()
            | "Gather counts" >> beam.CombineGlobally(beam.combiners.ToDictCombineFn())
            | "Format summary" >> beam.Map(lambda counts: json.dumps(summary(counts)))
        )


def summary(outcomes: Mapping[str, int]) -> dict:
    """How many media there were, how many could be used, and why not."""
    rejects = {reason: count for reason, count in sorted(outcomes.items()) if reason != ACCEPTED}
    return {"rows": sum(outcomes.values()), "accepted": outcomes.get(ACCEPTED, 0), "rejects": rejects}


def check_reject_share(counts: Mapping, max_reject_share: float) -> None:
    """Raises TooManyRejects, with the counts, where more than that share of the media could not be used."""
    rejected = sum(counts["rejects"].values())
    if counts["rows"] and rejected / counts["rows"] > max_reject_share:
        by_count = sorted(counts["rejects"].items(), key=lambda pair: (-pair[1], pair[0]))
        reasons = ", ".join(f"{reason} {count}" for reason, count in by_count)
        raise TooManyRejects(
            f"{rejected} of {counts['rows']} media could not be used ({rejected / counts['rows']:.1%}, "
            f"the limit max_reject_share is {max_reject_share:.1%}): {reasons}"
        )


def reject_row(source: str, item_id: str | None, error: MediaError) -> dict:
    """One object of the rejects report."""
    return {
        "stage": "media",
        "source": source,
        "line": None,
        "item_id": item_id,
        "reason": error.reason,
        "detail": error.detail,
    }


def item_example(example: tf.train.Example, arrays: MediaArrays | None) -> tf.train.Example:
    """The item example (docs/architecture.md) of a catalogue example; the features of what there is not are absent."""
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
    return item


def resolve(media_uri: str, media_root: str) -> str:
    """Where a `media_uri` of the catalogue lies: a local path without any scheme, or an address for Beam's file systems."""
    if media_uri.startswith("file://"):
        return urllib.parse.unquote(urllib.parse.urlsplit(media_uri).path)
    if _is_address(media_uri) or os.path.isabs(media_uri) or not media_root:  # noqa: PTH117
        return media_uri
    if _is_address(media_root):
        return media_root.rstrip("/") + "/" + media_uri
    return os.path.join(media_root, media_uri)  # noqa: PTH118 - pathlib would normalise the name


@contextmanager
def local_file(path: str) -> Iterator[str]:
    """A local path to the medium: itself, or a temporary copy of what lies in a bucket.

    Raises MissingFile, UnreadableFile, UnsupportedUri, TooLarge.
    """
    if not _is_address(path):
        yield _existing(path)
        return
    with tempfile.NamedTemporaryFile(prefix="medium-") as copy:
        _download(path, copy)
        yield copy.name


def media_fingerprint(media_uris: Iterable[str], media_root: str) -> str:
    """Changes when a referenced file is added, removed, replaced or touched: blake2b over its name, size and time of change (ns).

    Contents are not read: 20,000 files take a tenth of a second.
    """
    digest = hashlib.blake2b(digest_size=16)
    for media_uri in sorted(set(media_uris)):
        digest.update(json.dumps([media_uri, *_size_and_time(resolve(media_uri, media_root))]).encode())
    return digest.hexdigest()


def _size_and_time(path: str) -> tuple[int, float]:
    try:
        if _is_address(path):
            found = FileSystems.match([path])[0].metadata_list
            return (found[0].size_in_bytes, found[0].last_updated_in_seconds) if found else (-1, 0)
        status = Path(_existing(path)).stat()
        return status.st_size, status.st_mtime_ns
    except (OSError, ValueError, BeamIOError, MissingFile):
        return -1, 0  # not there now; its coming changes the fingerprint


def _is_address(path: str) -> bool:
    return FileSystems.get_scheme(path) is not None


def _existing(path: str) -> str:
    """The path, in the Unicode form in which it exists: archives made on other systems decompose accents, tables compose them."""
    try:
        for form in (path, *(unicodedata.normalize(form, path) for form in ("NFC", "NFD"))):
            if os.path.lexists(form):
                return form
    except ValueError as error:
        raise MissingFile(str(error)) from error
    return path


def _download(address: str, copy: IO[bytes]) -> None:
    try:
        with FileSystems.open(address, compression_type=CompressionTypes.UNCOMPRESSED) as remote:
            _copy(remote, copy)
        copy.flush()
    except FileNotFoundError as error:
        raise MissingFile("no such file") from error
    except ValueError as error:  # Beam knows no file system for the scheme
        raise UnsupportedUri(str(error)) from error
    except (BeamIOError, OSError) as error:
        raise UnreadableFile(str(error)) from error


def _copy(remote: IO[bytes], copy: IO[bytes]) -> None:
    copied = 0
    while chunk := remote.read(1 << 20):
        copied += len(chunk)
        if copied > DOWNLOAD_LIMIT_BYTES:
            raise TooLarge(f"more than {DOWNLOAD_LIMIT_BYTES >> 30} GiB")
        copy.write(chunk)


def _text(example: tf.train.Example, name: str) -> str | None:
    values = example.features.feature[name].bytes_list.value if name in example.features.feature else ()
    return values[0].decode("utf-8", "surrogateescape") if values else None


def _count(outcome: str) -> None:
    beam.metrics.Metrics.counter("media", outcome).inc()
