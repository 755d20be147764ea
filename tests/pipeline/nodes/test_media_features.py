"""The TFX node without an orchestrator: what it writes, and when it fails."""

import json
from dataclasses import replace
from pathlib import Path

import apache_beam as beam
import pytest
import tensorflow as tf
from tfx.types import artifact_utils
from tfx.types.standard_artifacts import Examples

from components.account import remarks
from components.config import DataConfig, TableConfig
from components.media.features import TooManyRejects
from components.rejects import read_summary
from components.settings import to_json
from pipeline.nodes.media_features import MediaFeatures
from zhiyin_artifacts import Rejects

NO_TABLES = DataConfig(catalogue=TableConfig(path=""), events=TableConfig(path=""))


@pytest.fixture
def call(tmp_path, clips):
    """Run the node on a catalogue of `good` clips and `bad` ones; returns its output artifacts."""

    def artifact(kind, name):
        made = kind()
        made.uri = str(tmp_path / name)
        Path(made.uri).mkdir()
        return made

    def run(good, bad, max_reject_share, without=0, cut=b""):
        catalogue, examples, rejects = (
            artifact(Examples, "catalogue"),
            artifact(Examples, "examples"),
            artifact(Rejects, "rejects"),
        )
        catalogue.split_names = artifact_utils.encode_split_names(["train"])
        split = Path(artifact_utils.get_split_uri([catalogue], "train"))
        split.mkdir(parents=True)
        with tf.io.TFRecordWriter(str(split / "data_tfrecord-00000-of-00001.gz"), "GZIP") as writer:
            for number in range(good + bad + without):
                example = tf.train.Example()
                example.features.feature["item_id"].bytes_list.value.append(b"%d" % number)
                if number < good + bad:
                    example.features.feature["media_uri"].bytes_list.value.append(b"%d.wav" % number)
                    (tmp_path / f"{number}.wav").write_bytes(clips.audio(clips.tone(0.2)) if number < good else b"")
                writer.write(example.SerializeToString())
            if cut:
                example = tf.train.Example()
                example.features.feature["item_id"].bytes_list.value.append(b"cut")
                example.features.feature["media_uri"].bytes_list.value.append(b"cut.wav")
                (tmp_path / "cut.wav").write_bytes(cut)
                writer.write(example.SerializeToString())
        MediaFeatures.test_call(
            catalogue=catalogue,
            examples=examples,
            rejects=rejects,
            data=to_json(replace(NO_TABLES, media_root=str(tmp_path), max_reject_share=max_reject_share)),
            fingerprint="f",
            code="c",
            beam_pipeline=beam.Pipeline(),
        )
        return examples, rejects

    return run


def test_what_the_node_writes(call):
    """Gzipped TFRecords of one split, the rejects line by line, the summary."""
    examples, rejects = call(good=3, bad=1, max_reject_share=0.25, without=1)
    assert artifact_utils.decode_split_names(examples.split_names) == ["train"]
    assert examples.get_string_custom_property("payload_format") == "FORMAT_TF_EXAMPLE"
    assert examples.get_string_custom_property("file_format") == "tfrecords_gzip"
    files = [str(path) for path in Path(artifact_utils.get_split_uri([examples], "train")).iterdir()]
    assert all(name.endswith(".gz") for name in files)
    items = [tf.train.Example.FromString(record.numpy()) for record in tf.data.TFRecordDataset(files, "GZIP")]
    assert len(items) == 5
    assert sum(item.features.feature["has_audio"].int64_list.value[0] for item in items) == 3
    (row,) = [json.loads(line) for line in (Path(rejects.uri) / "rejects.jsonl").read_text().splitlines()]
    assert (row["stage"], row["item_id"], row["reason"]) == ("media", "3", "empty_file")
    summary = read_summary(rejects.uri)
    assert (summary["rows"], summary["accepted"], summary["rejects"]) == (4, 3, {"empty_file": 1})
    assert summary["notes"] == {}
    assert (Path(rejects.uri) / "notes.jsonl").read_text() == ""


def test_no_rejects_leave_an_empty_list(call):
    _, rejects = call(good=2, bad=0, max_reject_share=0.0)
    assert (Path(rejects.uri) / "rejects.jsonl").read_text() == ""


def test_all_broken_fails(call):
    """C25."""
    with pytest.raises(TooManyRejects, match=r"4 of 4 media .*empty_file 4"):
        call(good=0, bad=4, max_reject_share=0.5)


def test_what_is_told_at_the_start_and_in_the_end(call, clips, tmp_path, capfd):
    """What confines the decoder; and how many media are not as they should be."""
    whole = clips.audio(clips.tone(4.0))
    _, rejects = call(good=1, bad=0, max_reject_share=0.0, cut=whole[: len(whole) // 2])
    assert "decoder confined by: empty environment" in capfd.readouterr().err
    (note,) = [json.loads(line) for line in (Path(rejects.uri) / "notes.jsonl").read_text().splitlines()]
    assert (note["item_id"], note["reason"]) == ("cut", "truncated")
    assert "states 4.00 s" in note["detail"]
    summary = read_summary(rejects.uri)
    assert summary["notes"] == {"truncated": 1}
    assert remarks(summary) == ["1 media are cut off: less is there than the header states (notes.jsonl)"]
