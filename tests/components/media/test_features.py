"""MediaFeatures on Beam, and the TFX node: C12, C24, C25, and the rule that a broken medium never costs its item."""

import json
import os
import unicodedata
from pathlib import Path

import apache_beam as beam
import numpy as np
import pytest
import tensorflow as tf
from apache_beam.io.filesystem import BeamIOError, FileMetadata, FileSystem
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.util import assert_that, equal_to

from components.contract import AUDIO_FEATURES, VIDEO_FEATURES
from components.media import features
from components.media.errors import MissingFile, TooLarge, UnreadableFile, UnsupportedUri
from components.media.extract import extract
from components.media.features import (
    OUTCOMES,
    REJECTS,
    AddMediaFeatures,
    SummariseOutcomes,
    TooManyRejects,
    check_reject_share,
    item_example,
    local_file,
    media_fingerprint,
    resolve,
    summary,
)
from components.media.isolation import Limits


def catalogue_example(item_id, media_uri=None, title="A title"):
    example = tf.train.Example()
    example.features.feature["item_id"].bytes_list.value.append(item_id.encode())
    example.features.feature["title"].bytes_list.value.append(title.encode())
    if media_uri is not None:
        example.features.feature["media_uri"].bytes_list.value.append(media_uri.encode())
    return example.SerializeToString()


def values(example, name):
    feature = example.features.feature[name]
    return list(getattr(feature, feature.WhichOneof("kind")).value)


@pytest.fixture
def run(tmp_path_factory):
    """Through Beam: items by id, reject rows, outcomes, counters."""

    def through_beam(examples, media_root):
        out = tmp_path_factory.mktemp("out")
        with beam.Pipeline() as pipeline:
            found = pipeline | beam.Create(examples, reshuffle=False) | AddMediaFeatures(str(media_root))
            _ = found["items"] | beam.io.WriteToTFRecord(str(out / "items"))
            _ = found[REJECTS] | beam.Map(json.dumps) | "Rejects" >> beam.io.WriteToText(str(out / "rejects"))
            _ = found[OUTCOMES] | "Outcomes" >> beam.io.WriteToText(str(out / "outcomes"))
        counters = {
            counter.key.metric.name: counter.committed for counter in pipeline.result.metrics().query()["counters"]
        }
        records = tf.data.TFRecordDataset([str(path) for path in out.glob("items*")])
        items = [tf.train.Example.FromString(record.numpy()) for record in records]
        lines = {
            name: [line for path in out.glob(name + "*") for line in path.read_text().splitlines()]
            for name in ("rejects", "outcomes")
        }
        rejects = [json.loads(line) for line in lines["rejects"]]
        return {values(item, "item_id")[0].decode(): item for item in items}, rejects, lines["outcomes"], counters

    return through_beam


@pytest.fixture
def folder(tmp_path, clips):
    """Ten clips, of which one is empty and one a web page."""
    for number in range(8):
        (tmp_path / f"{number}.wav").write_bytes(clips.audio(clips.tone(0.3, 200 + 100 * number)))
    (tmp_path / "8.mp3").write_bytes(b"")
    (tmp_path / "9.mp3").write_bytes(b"<html><body>404 Not Found</body></html>" * 50)
    return tmp_path


def catalogue(folder):
    return [
        catalogue_example(path.stem, path.name) for path in sorted(folder.iterdir()) if path.suffix in (".wav", ".mp3")
    ]


def test_broken_clips_are_rejects_and_their_items_stay(folder, run):
    """C12: 8 decoded, 2 rejects with item ids and reasons, 10 items."""
    items, rejects, outcomes, counters = run([*catalogue(folder), catalogue_example("no_medium")], folder)
    assert sorted(items) == [*map(str, range(10)), "no_medium"]
    assert {(row["item_id"], row["reason"]) for row in rejects} == {("8", "empty_file"), ("9", "not_media")}
    assert all(row["stage"] == "media" and row["line"] is None for row in rejects)
    assert {row["source"] for row in rejects} == {str(folder / "8.mp3"), str(folder / "9.mp3")}
    assert summary({word: outcomes.count(word) for word in outcomes}) == {
        "rows": 10,
        "accepted": 8,
        "rejects": {"empty_file": 1, "not_media": 1},
    }
    assert counters == {"accepted": 8, "rejected_empty_file": 1, "rejected_not_media": 1}
    for name in ("8", "9", "no_medium"):
        assert values(items[name], "has_audio") == values(items[name], "has_video") == [0]
        assert values(items[name], "title") == [b"A title"], "text still serves it"
        assert not any(feature.name in items[name].features.feature for feature in (*AUDIO_FEATURES, *VIDEO_FEATURES))


def test_item_examples_hold_the_contracts_features(clips, tmp_path, run):
    """Names, kinds, sizes as the contract has them; row-major bytes that come back as the arrays."""
    data = clips.video(clips.moving(50), sound=clips.tone(1.0))
    (tmp_path / "both.mp4").write_bytes(data)
    items, rejects, _, _ = run([catalogue_example("a", "both.mp4")], tmp_path)
    assert rejects == []
    arrays = extract(data)
    for feature in (*AUDIO_FEATURES, *VIDEO_FEATURES):
        stored = items["a"].features.feature[feature.name]
        expected = np.asarray(getattr(arrays, feature.name), feature.dtype)
        if feature.dtype == "uint8":
            assert stored.WhichOneof("kind") == "bytes_list"
            (raw,) = stored.bytes_list.value
            np.testing.assert_array_equal(np.frombuffer(raw, np.uint8).reshape(feature.shape), expected)
        else:
            assert stored.WhichOneof("kind") == {"int64": "int64_list", "float32": "float_list"}[feature.dtype]
            np.testing.assert_array_equal(np.reshape(values(items["a"], feature.name), feature.shape), expected)
    assert values(items["a"], "has_audio") == values(items["a"], "has_video") == [1]


def test_a_catalogue_without_media_is_no_fault(run):
    """Tables with texts alone: nothing to decode, nothing rejected, and no decoder started."""
    items, rejects, outcomes, _ = run([catalogue_example("a"), catalogue_example("b")], "")
    assert len(items) == 2
    assert rejects == outcomes == []
    check_reject_share(summary({}), 0.0)


def test_names_of_all_kinds(clips, tmp_path, run):
    """C24: as the catalogue writes them; also where the disk holds another Unicode form of the same name."""
    data = clips.audio(clips.tone(0.3))
    names = [
        "Part 1: Intro.wav",
        "a b.wav",
        "-rf.wav",
        "50%.wav",
        'it\'s "q".wav',
        "\U0001f3b5.wav",
        "[x]{y}*?.wav",
        "sub dir/a.wav",
        "#1.wav",
    ]
    for name in [*names, unicodedata.normalize("NFD", "Café.wav")]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    uris = [*names, unicodedata.normalize("NFC", "Café.wav"), str(tmp_path / names[0]), (tmp_path / names[3]).as_uri()]
    items, rejects, _, _ = run([catalogue_example(str(i), uri) for i, uri in enumerate(uris)], tmp_path)
    assert rejects == []
    assert len({values(item, "audio_log_mel")[0] for item in items.values()}) == 1


def test_resolve():
    assert resolve("a/b.mp3", "/media") == "/media/a/b.mp3"
    assert resolve("/x/b.mp3", "/media") == "/x/b.mp3"
    assert resolve("file:///x/a%20b.mp3", "/media") == "/x/a b.mp3"
    assert resolve("Part 1: x.mp3", "") == "Part 1: x.mp3"
    assert resolve("gs://bucket/a.mp3", "/media") == "gs://bucket/a.mp3"
    assert resolve("a b#1.mp3", "gs://bucket/media/") == "gs://bucket/media/a b#1.mp3"


class _Bucket(FileSystem):
    """A bucket in memory, for the paths that are not on this disk."""

    files: dict[str, bytes] = {}  # noqa: RUF012 - shared by the instances that Beam makes

    @classmethod
    def scheme(cls):
        return "testbucket"

    def open(self, path, mime_type=None, compression_type=None):
        import io

        if path.endswith("denied.wav"):
            raise BeamIOError("403 Forbidden")
        if path not in self.files:
            raise FileNotFoundError(path)
        return io.BytesIO(self.files[path])

    def match(self, patterns, limits=None):
        from apache_beam.io.filesystem import MatchResult

        return [MatchResult(p, [FileMetadata(p, len(self.files[p]), 1.0)] if p in self.files else []) for p in patterns]

    def _list(self, dir_or_prefix):
        raise NotImplementedError

    join = split = mkdirs = has_dirs = create = copy = rename = exists = size = last_updated = checksum = metadata = (
        delete
    ) = _list


def test_media_in_a_bucket(clips, monkeypatch):
    """Read through Beam's file systems, sought in a temporary copy that is gone afterwards."""
    data = clips.audio(clips.tone(0.3))
    monkeypatch.setattr(_Bucket, "files", {"testbucket://m/a b.wav": data})
    with local_file("testbucket://m/a b.wav") as copy:
        assert Path(copy).read_bytes() == data
    assert not Path(copy).exists()
    monkeypatch.setattr(features, "DOWNLOAD_LIMIT_BYTES", 10)
    for path, error in [
        ("testbucket://m/a b.wav", TooLarge),
        ("testbucket://m/no.wav", MissingFile),
        ("testbucket://m/denied.wav", UnreadableFile),
        ("nosuchscheme://m/a.wav", UnsupportedUri),
        ("https://example.org/a.wav", UnsupportedUri),
    ]:
        with pytest.raises(error), local_file(path):
            pass
    assert media_fingerprint(["a b.wav"], "testbucket://m") != media_fingerprint(["no.wav"], "testbucket://m")


def test_all_broken_fails_with_the_counts():
    """C25, and the limit itself: at the limit goes, above it stops."""
    check_reject_share({"rows": 20, "accepted": 19, "rejects": {"not_media": 1}}, 0.05)
    with pytest.raises(TooManyRejects, match=r"10 of 10 media .* 5\.0%\): not_media 7, empty_file 3"):
        check_reject_share({"rows": 10, "accepted": 0, "rejects": {"empty_file": 3, "not_media": 7}}, 0.05)


def test_summary_of_nothing_and_of_something():
    for outcomes, expected in [
        ([], {"rows": 0, "accepted": 0, "rejects": {}}),
        (["accepted", "accepted", "timeout"], {"rows": 3, "accepted": 2, "rejects": {"timeout": 1}}),
    ]:
        with beam.Pipeline() as pipeline:
            texts = pipeline | beam.Create(outcomes, reshuffle=False) | SummariseOutcomes()
            assert_that(texts | beam.Map(json.loads), equal_to([expected]))


def test_an_item_example_does_not_change_its_catalogue_example():
    example = tf.train.Example.FromString(catalogue_example("a"))
    before = example.SerializeToString()
    item_example(example, None)
    assert example.SerializeToString() == before


def test_fingerprint_sees_every_change(folder):
    """A file edited to the same size in the same second, replaced, removed, added; not the order of the catalogue."""
    uris = [f"{number}.wav" for number in range(8)]
    first = media_fingerprint(uris, str(folder))
    assert media_fingerprint(reversed(uris), str(folder)) == first
    seen = {first}
    path = folder / "3.wav"
    status = path.stat()
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1000))
    seen.add(media_fingerprint(uris, str(folder)))
    path.rename(folder / "moved.wav")
    seen.add(media_fingerprint(uris, str(folder)))
    seen.add(media_fingerprint([*uris, "moved.wav"], str(folder)))
    seen.add(media_fingerprint(uris[:-1], str(folder)))
    assert len(seen) == 5


@pytest.mark.slow
def test_several_processes_give_the_same(folder, tmp_path_factory):
    """Beam's multi_processing mode, two workers: the records of the in-memory runner."""
    records = []
    for options in ([], ["--direct_running_mode=multi_processing", "--direct_num_workers=2"]):
        out = tmp_path_factory.mktemp("out")
        with beam.Pipeline(options=PipelineOptions(["--runner=DirectRunner", *options])) as pipeline:
            found = pipeline | beam.Create(catalogue(folder)) | AddMediaFeatures(str(folder))
            _ = found["items"] | beam.io.WriteToTFRecord(str(out / "items"))
        files = [str(path) for path in out.glob("items*")]
        records.append(sorted(_canonical(record.numpy()) for record in tf.data.TFRecordDataset(files)))
    assert records[0] == records[1]
    assert len(records[0]) == 10


def _canonical(record):
    features = tf.train.Example.FromString(record).features.feature
    return sorted((name, features[name].SerializeToString()) for name in features)


def test_limits_reach_the_decoder(folder, monkeypatch):
    """An item that takes too long is a counted reject, the others are decoded."""
    (folder / "sitecustomize.py").write_text(
        "import components.media.extract as real, time\n"
        "def extract(source, good=real.extract):\n"
        "    if '3.wav' in source: time.sleep(60)\n"
        "    return good(source)\n"
        "real.extract = extract\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(folder))
    with beam.Pipeline() as pipeline:
        found = pipeline | beam.Create(catalogue(folder)[:6]) | AddMediaFeatures(str(folder), Limits(time_s=1.0))
        reasons = found[REJECTS] | beam.Map(lambda row: (row["item_id"], row["reason"]))
        assert_that(reasons, equal_to([("3", "timeout")]))
