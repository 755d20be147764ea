"""FrozenEncoders without an orchestrator: each item once through each encoder, and nothing where there is nothing."""

import json
from dataclasses import replace
from pathlib import Path

import apache_beam as beam
import pytest
import tensorflow as tf
from tfx.types.standard_artifacts import Examples

from components.artifacts import prepare_examples
from components.config import DataConfig, TableConfig
from components.examples import bytes_feature, ints_feature
from components.media.features import TooManyRejects
from components.pretrained_config import Encoders, PretrainedConfig, TuneConfig
from components.rejects import read_summary
from components.settings import to_json
from pipeline.nodes.frozen_encoders import FrozenEncoders
from serving.offline.frozen_embeddings import with_text
from tests.components.nodes import artifact, read_split, write_split
from tests.serving import fake_encoders
from zhiyin_artifacts import Rejects

NO_TABLES = DataConfig(catalogue=TableConfig(path=""), events=TableConfig(path=""))


def item(item_id, **features):
    example = tf.train.Example()
    example.features.feature["item_id"].CopyFrom(bytes_feature([item_id]))
    for name, value in features.items():
        example.features.feature[name].CopyFrom(
            ints_feature([value]) if isinstance(value, int) else bytes_feature(value)
        )
    return example


@pytest.fixture
def run(tmp_path, clips, monkeypatch):
    """Run the node over four items; returns the item examples by id, and what each encoder was asked."""
    (tmp_path / "a.wav").write_bytes(clips.audio(clips.tone(0.5, level=0.25)))
    items = [
        item("both", title=["Nocturne"], tags=["piano", "夜"], media_uri=["a.wav"], has_audio=1),
        item("text", description=["About rain"], has_audio=0),
        item("sound", media_uri=["a.wav"], has_audio=1),
        item("gone", media_uri=["gone.wav"], has_audio=1),
        item("nothing", has_audio=0),
    ]

    def call(*encoders, load=fake_encoders.load, items=items, max_reject_share=0.0):
        monkeypatch.setattr("trainer.encoders.frozen.load", load)
        given, made = artifact(Examples, tmp_path / "items"), artifact(Examples, tmp_path / "examples")
        prepare_examples(given, ["train"])
        write_split(given, "train", items)
        FrozenEncoders.test_call(
            items=given,
            examples=made,
            rejects=artifact(Rejects, call.rejects),
            encoders=to_json(Encoders(encoders)),
            data=to_json(replace(NO_TABLES, media_root=str(tmp_path), max_reject_share=max_reject_share)),
            fingerprint="",
            code="",
            beam_pipeline=beam.Pipeline(),
        )
        written = {
            example.features.feature["item_id"].bytes_list.value[0].decode(): example
            for example in read_split(made, "train")
        }
        asked = {
            encoder.name: [json.loads(line) for line in (tmp_path / f"{encoder.name}.jsonl").read_text().splitlines()]
            for encoder in encoders
        }
        return written, asked

    call.folder, call.rejects = str(tmp_path), tmp_path / "rejects"
    return call


def test_each_item_once_and_nothing_where_there_is_nothing(run):
    words = PretrainedConfig("words", "text", run.folder, dim=2)
    sound = PretrainedConfig("sound", "audio_savedmodel", run.folder, dim=2)
    items, asked = run(words, sound)
    assert read_names(items["nothing"]) == {"item_id", "has_audio"}
    assert read_names(items["both"]) == {
        "item_id",
        "title",
        "tags",
        "media_uri",
        "has_audio",
        "embedding_words",
        "embedding_sound",
    }
    assert sorted(asked["words"]) == ["About rain", "Nocturne. piano, 夜"]
    assert [counts[0] for counts in asked["sound"]] == [8000, 8000]  # half a second at 16 kHz
    vectors = {
        item_id: {
            name: list(example.features.feature[f"embedding_{name}"].float_list.value) for name in ("words", "sound")
        }
        for item_id, example in items.items()
    }
    assert {item_id: found["words"] for item_id, found in vectors.items()} == {
        "both": [18, -1], "text": [10, -1], "sound": [], "gone": [], "nothing": [],
    }  # fmt: skip
    assert vectors["both"]["sound"] == vectors["sound"]["sound"] == pytest.approx([0.25, 0.5], abs=0.01)
    assert vectors["text"]["sound"] == vectors["nothing"]["sound"] == []
    assert vectors["gone"]["sound"] == []  # MediaFeatures has it on its reject list


def test_pictures_are_read_large_where_there_are_any(run, clips):
    (Path(run.folder) / "b.webm").write_bytes(clips.video(clips.flat([(200, 100, 0)], 5), fps=10))
    seen = PretrainedConfig("seen", "picture_efficientnet_lite", run.folder, dim=2)
    items, asked = run(
        seen, items=[item("seen", media_uri=["b.webm"], has_video=1), item("heard", media_uri=["a.wav"])]
    )
    assert asked["seen"] == [[1, 224, 224, 3]]
    found = items["seen"].features.feature["embedding_seen"].float_list.value
    assert list(found) == pytest.approx([100, 0.5], abs=6)
    assert "embedding_seen" not in read_names(items["heard"])


def test_a_tuned_encoder_adds_wordpieces(run):
    items, _ = run(PretrainedConfig("words", "text", run.folder, dim=2, tune=TuneConfig(tokens=3)))
    assert list(items["text"].features.feature["pieces_words"].int64_list.value) == [7, -1, -1]
    assert "pieces_words" not in read_names(items["sound"])


def test_an_item_whose_vector_is_not_finite_has_none_and_is_named(run):
    words = PretrainedConfig("words", "text", run.folder, dim=2, tune=TuneConfig(tokens=3))
    items, _ = run(words, load=fake_encoders.load_broken, max_reject_share=0.5)
    assert read_names(items["text"]) == {"item_id", "description", "has_audio"}
    assert {"embedding_words", "pieces_words"} < read_names(items["both"])
    (line,) = (run.rejects / "rejects.jsonl").read_text().splitlines()
    assert json.loads(line) == {
        "stage": "encoders", "source": "words", "line": None, "item_id": "text", "reason": "not_finite",
        "detail": "embedding_words: the encoder gave a number that is not finite",
    }  # fmt: skip
    summary = read_summary(str(run.rejects))
    assert (summary["rows"], summary["accepted"], summary["rejects"]) == (2, 1, {"not_finite": 1})


def test_an_encoder_that_fails_on_many_items_stops_the_run(run):
    words = PretrainedConfig("words", "text", run.folder, dim=2)
    with pytest.raises(TooManyRejects, match=r"1 of 2 vectors could not be used \(50.0%.*: not_finite 1"):
        run(words, load=fake_encoders.load_broken, max_reject_share=0.4)


def test_what_a_text_encoder_reads():
    record = item("a", title=["T"], tags=["x", "y"]).SerializeToString()
    assert with_text(record, ("title", "description", "tags"))[1] == "T. x, y"
    assert with_text(record, ("tags", "title"))[1] == "x, y. T"
    assert with_text(record, ("description",))[1] is None


def read_names(example):
    return set(example.features.feature)
