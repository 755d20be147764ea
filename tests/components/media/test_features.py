"""MediaFeatures on Beam, and the TFX node: C12, C24, C25, and the rule that a broken medium never costs its item."""

import json
import unicodedata

import apache_beam as beam
import numpy as np
import pytest
import tensorflow as tf
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.util import assert_that, equal_to

from components.contract import AUDIO_FEATURES, VIDEO_FEATURES
from components.media.addresses import MediaRoots
from components.media.extract import extract
from components.media.features import (
    ACCEPTED,
    NOTES,
    NOTES_FEATURE,
    REJECTS,
    AddMediaFeatures,
    TooManyRejects,
    check_reject_share,
    item_example,
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
    """Through Beam: items by id, reject rows, note rows, counters."""

    def through_beam(examples, media_root):
        out = tmp_path_factory.mktemp("out")
        with beam.Pipeline() as pipeline:
            found = pipeline | beam.Create(examples, reshuffle=False) | AddMediaFeatures(MediaRoots(str(media_root)))
            _ = found["items"] | beam.io.WriteToTFRecord(str(out / "items"))
            for name in (ACCEPTED, REJECTS, NOTES):
                lines = found[name] | f"Format {name}" >> beam.Map(json.dumps)
                _ = lines | f"Write {name}" >> beam.io.WriteToText(str(out / name))
        counters = {
            counter.key.metric.name: counter.committed for counter in pipeline.result.metrics().query()["counters"]
        }
        records = tf.data.TFRecordDataset([str(path) for path in out.glob("items*")])
        items = [tf.train.Example.FromString(record.numpy()) for record in records]
        lines = {
            name: [json.loads(line) for path in out.glob(f"{name}-*") for line in path.read_text().splitlines()]
            for name in (ACCEPTED, REJECTS, NOTES)
        }
        by_id = {values(item, "item_id")[0].decode(): item for item in items}
        assert len(by_id) == len(items)
        assert set(lines[ACCEPTED]) | {row["item_id"] for row in lines[REJECTS]} <= set(by_id)
        return by_id, lines[REJECTS], lines[NOTES], counters

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
    items, rejects, _, counters = run([*catalogue(folder), catalogue_example("no_medium")], folder)
    assert sorted(items) == [*map(str, range(10)), "no_medium"]
    assert {(row["item_id"], row["reason"]) for row in rejects} == {("8", "empty_file"), ("9", "not_media")}
    assert all(row["stage"] == "media" and row["line"] is None for row in rejects)
    assert {row["source"] for row in rejects} == {str(folder / "8.mp3"), str(folder / "9.mp3")}
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
    items, rejects, notes, counters = run([catalogue_example("a"), catalogue_example("b")], "")
    assert len(items) == 2
    assert rejects == notes == []
    assert counters == {}
    check_reject_share({"rows": 0, "accepted": 0, "rejects": {}}, 0.0)


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


def test_all_broken_fails_with_the_counts():
    """C25, and the limit itself: at the limit goes, above it stops."""
    check_reject_share({"rows": 20, "accepted": 19, "rejects": {"not_media": 1}}, 0.05)
    with pytest.raises(TooManyRejects, match=r"10 of 10 media .* 5\.0%\): not_media 7, empty_file 3"):
        check_reject_share({"rows": 10, "accepted": 0, "rejects": {"empty_file": 3, "not_media": 7}}, 0.05)


def test_what_is_used_and_not_as_it_should_be_is_noted_with_its_item(clips, tmp_path, run):
    """Cut off, and channels that cancel out: both are accepted, and the item and a row say so."""
    whole = clips.audio(clips.tone(4.0))
    (tmp_path / "cut.wav").write_bytes(whole[: len(whole) // 2])
    tone = clips.tone()
    (tmp_path / "opposite.wav").write_bytes(clips.audio(np.stack([tone, -tone]), layout="stereo"))
    (tmp_path / "good.wav").write_bytes(whole)
    names = ["cut", "opposite", "good"]
    items, rejects, notes, counters = run([catalogue_example(name, f"{name}.wav") for name in names], tmp_path)
    assert rejects == []
    assert {(row["item_id"], row["reason"]) for row in notes} == {("cut", "truncated"), ("opposite", "channels_cancel")}
    assert values(items["cut"], NOTES_FEATURE) == [b"truncated"]
    assert NOTES_FEATURE not in items["good"].features.feature
    assert counters == {"accepted": 3, "noted_truncated": 1, "noted_channels_cancel": 1}


def test_one_address_never_ends_a_run(folder, run):
    """Schemes without their packages, malformed addresses: each is one reject, with a reason, and the others are
    decoded."""
    addresses = {
        **dict.fromkeys(
            ("azfs://a/b/x.mp3", "s3://b/x", "hdfs://h/x", "gs://", "no://x", "/", ".."), "outside_media_roots"
        ),
        "a\0b": "missing_file",
        " ": "missing_file",
        ".": "outside_media_roots",
    }
    odd = [catalogue_example(uri, uri) for uri in addresses]
    undecodable = tf.train.Example.FromString(catalogue_example("latin"))
    undecodable.features.feature["media_uri"].bytes_list.value.append(b"caf\xe9.mp3")
    items, rejects, _, _ = run([catalogue_example("0", "0.wav"), *odd, undecodable.SerializeToString()], folder)
    assert values(items["0"], "has_audio") == [1]
    assert {row["item_id"]: row["reason"] for row in rejects} == {**addresses, "latin": "missing_file"}


def test_an_item_example_does_not_change_its_catalogue_example():
    example = tf.train.Example.FromString(catalogue_example("a"))
    before = example.SerializeToString()
    item_example(example, None)
    assert example.SerializeToString() == before


@pytest.mark.slow
def test_several_processes_give_the_same(folder, tmp_path_factory):
    """Beam's multi_processing mode, two workers: the records of the in-memory runner."""
    records = []
    for options in ([], ["--direct_running_mode=multi_processing", "--direct_num_workers=2"]):
        out = tmp_path_factory.mktemp("out")
        with beam.Pipeline(options=PipelineOptions(["--runner=DirectRunner", *options])) as pipeline:
            found = pipeline | beam.Create(catalogue(folder)) | AddMediaFeatures(MediaRoots(str(folder)))
            _ = found["items"] | beam.io.WriteToTFRecord(str(out / "items"))
        files = [str(path) for path in out.glob("items*")]
        records.append(sorted(_canonical(record.numpy()) for record in tf.data.TFRecordDataset(files)))
    assert records[0] == records[1]
    assert len(records[0]) == 10


def _canonical(record):
    features = tf.train.Example.FromString(record).features.feature
    return sorted((name, features[name].SerializeToString()) for name in features)


def test_limits_reach_the_decoder(folder):
    """An item that takes too long is a counted reject: with no time at all, that is every one."""
    with beam.Pipeline() as pipeline:
        roots = MediaRoots(str(folder))
        found = pipeline | beam.Create(catalogue(folder)[:2]) | AddMediaFeatures(roots, Limits(time_s=1e-6))
        reasons = found[REJECTS] | beam.Map(lambda row: (row["item_id"], row["reason"]))
        assert_that(reasons, equal_to([("0", "timeout"), ("1", "timeout")]))
