"""The Transform functions: the graph that trains is the graph that serves."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import apache_beam as beam
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_transform.tf_metadata import dataset_metadata, metadata_io, schema_utils
from tfx_bsl.public import tfxio

from components.config import DataConfig, TableConfig
from components.contract import FRAME_BYTES, LOG_MEL_BYTES, TAG_SLOTS, catalogue_columns, item_features
from components.examples import bytes_feature, ints_feature, row_example
from components.settings import to_json
from components.transform import preprocessing
from components.transform.schemas import catalogue_schema

DATA = DataConfig(
    catalogue=TableConfig("c"),
    events=TableConfig("e"),
    numeric=("year", "empty"),
    categorical=("label",),
    embeddings={"clip": 2},
)
ITEMS = [
    {
        "item_id": "0",
        "title": "Hello, WÖRLD!",
        "description": "don't say hello",
        "tags": ["Drama", "War"],
        "domain": "film",
        "duration_s": 9.0,
    },
    {"item_id": "1", "title": "日本のうた hello", "domain": "music", "creator": "Ann", "year": 1990.0},
    {
        "item_id": "2",
        "creator": "Ann",
        "label": "x",
        "year": 2010.0,
        "embedding:clip": [0.5, -1.0],
        "tags": ["t"] * (TAG_SLOTS + 4),
    },
    {"item_id": "3"},
    *({"item_id": str(n), "title": "wörld " * (n * 5), "domain": "film", "duration_s": float(n)} for n in range(4, 19)),
    {"item_id": "19", "title": "", "creator": "Bob"},
]
LOG_MEL, FRAMES = bytes(range(256)) * (LOG_MEL_BYTES // 256), b"\xff\x00\x80" * (FRAME_BYTES // 3)


def item_example(row):
    """Item "3" has media and nothing else."""
    example = row_example({name: value for name, value in row.items() if value != ""}, catalogue_columns(DATA))
    media = example.features.feature
    has_media = row["item_id"] == "3"
    media["has_audio"].CopyFrom(ints_feature([int(has_media)]))
    media["has_video"].CopyFrom(ints_feature([int(has_media)]))
    if has_media:
        media["audio_log_mel"].CopyFrom(bytes_feature([LOG_MEL]))
        media["audio_num_frames"].CopyFrom(ints_feature([300, 300, 12]))
        media["video_frames"].CopyFrom(bytes_feature([FRAMES]))
        media["video_times_s"].float_list.value.extend([0.0, 1.0, 2.0, 3.5])
        media["video_num_frames"].CopyFrom(ints_feature([4]))
    return example


def transform(examples, schema, function, folder):
    """Analyze and transform; the transform output is in `folder`, the result a dict of lists."""
    source = tfxio.TFExampleBeamRecord(physical_format="memory", schema=schema, telemetry_descriptors=["test"])
    results: list = []
    with tft_beam.Context(temp_dir=tempfile.mkdtemp(dir=folder)), beam.Pipeline() as pipeline:
        raw = pipeline | beam.Create([example.SerializeToString() for example in examples]) | source.BeamSource()
        (data, _), graph = (raw, source.TensorAdapterConfig()) | tft_beam.AnalyzeAndTransformDataset(
            function, output_record_batches=True
        )
        _ = graph | tft_beam.WriteTransformFn(str(folder))
        _ = (
            data
            | beam.Map(lambda batch: json.dumps(_plain(batch[0].to_pydict())))
            | beam.io.WriteToText(f"{folder}/out", num_shards=1)
        )
    metadata_io.write_metadata(dataset_metadata.DatasetMetadata(schema), f"{folder}/metadata")
    for path in Path(folder).glob("out*"):
        for line in path.read_text().splitlines():
            batch = json.loads(line)
            results += [dict(zip(batch, row)) for row in zip(*batch.values())]
    return results


def _plain(batch):
    return {
        name: [[v.decode("latin-1") if isinstance(v, bytes) else v for v in row] for row in rows]
        for name, rows in batch.items()
    }


@pytest.fixture(scope="module")
def items(tmp_path_factory):
    """(transformed rows by item id, folder of the transform output)."""
    folder = tmp_path_factory.mktemp("items")
    config = {"data": to_json(DATA)}
    rows = transform(
        [item_example(row) for row in ITEMS],
        catalogue_schema(DATA),
        lambda inputs: preprocessing.items(inputs, config),
        folder,
    )
    return {row["item_id"][0]: row for row in rows}, folder


def vocabulary(folder, name):
    return tft.TFTransformOutput(str(folder)).vocabulary_by_name(name)


def test_the_output_is_the_contract(items):
    _, folder = items
    spec = tft.TFTransformOutput(str(folder)).transformed_feature_spec()
    dtypes = {"string": tf.string, "uint8": tf.string, "int64": tf.int64, "float32": tf.float32}
    assert {name: (feature.dtype, tuple(feature.shape)) for name, feature in spec.items()} == {
        feature.name: (dtypes[feature.dtype], () if feature.dtype == "uint8" else feature.shape)
        for feature in item_features(DATA)
    }


@pytest.mark.parametrize(
    "text, expected",
    [
        ("Hello, WÖRLD!", ["hello", "wörld"]),
        ("don't stop—now", ["dont", "stop", "now"]),
        ("日本のうたBGM", ["日", "本", "の", "う", "た", "bgm"]),
        ("Привет, नमस्ते 한국 노래", ["привет", "नमस्ते", "한국", "노래"]),
        ("24/7 rock'n’roll", ["24", "7", "rocknroll"]),
        (" ... ", []),
    ],
)
def test_words(text, expected):
    tokens = [token.decode() for token in preprocessing.words(tf.constant([text]))[0].numpy()]
    assert tokens == expected + [""] * (48 - len(expected))


def test_words_get_ids_by_frequency_and_rare_ones_are_unknown(items):
    """hello: 3 times in all, wörld: many; what stands in one place alone is 1."""
    rows, folder = items
    words = [word.decode() for word in vocabulary(folder, "words")]
    assert words == ["wörld", "hello"]
    assert rows["0"]["text_tokens"] == [3, 2, 1, 1, 3] + [0] * 43
    assert rows["1"]["text_tokens"] == [1, 1, 1, 1, 1, 3] + [0] * 42
    assert rows["18"]["text_tokens"] == [2] * 48
    assert (rows["0"]["has_text"], rows["2"]["has_text"], rows["19"]["has_text"]) == ([1], [0], [0])


def test_tags_and_categories(items):
    """C06: an item without tags is finite and there; the vocabulary holds no placeholder."""
    rows, folder = items
    assert set(vocabulary(folder, "tags")) == {b"Drama", b"War", b"t"} and vocabulary(folder, "creator") == [b"Ann"]
    assert set(rows["0"]["tag_ids"][:2]) == {3, 4} and rows["0"]["tag_ids"][2:] == [0] * (TAG_SLOTS - 2)
    assert (
        rows["2"]["tag_ids"] == [2] * TAG_SLOTS
        and rows["3"]["tag_ids"] == [0] * TAG_SLOTS
        and rows["3"]["has_tags"] == [0]
    )
    assert (rows["0"]["domain_id"], rows["1"]["domain_id"], rows["3"]["domain_id"]) == ([2], [3], [0])
    assert (rows["1"]["creator_id"], rows["19"]["creator_id"], rows["0"]["creator_id"]) == ([2], [1], [0])
    assert (rows["2"]["label_id"], rows["0"]["label_id"]) == ([2], [0])


def test_numbers_are_z_scores_of_what_is_there(items):
    """C28: 0 with a 0 beside it where absent; the statistics are those of NumPy over the present values."""
    rows, _ = items
    logged = {row["item_id"]: np.log1p(row["duration_s"]) for row in ITEMS if "duration_s" in row}
    mean, stddev = np.mean(list(logged.values())), np.std(list(logged.values()))
    for row in ITEMS:
        name = row["item_id"]
        expected = (logged[name] - mean) / stddev if name in logged else 0.0
        assert rows[name]["numeric"][0] == pytest.approx(expected, abs=1e-5)
        assert rows[name]["numeric_present"] == [float(name in logged), float("year" in row), 0.0]
        assert rows[name]["numeric"][2] == 0.0, "a column that is empty everywhere"
    assert (rows["1"]["numeric"][1], rows["2"]["numeric"][1]) == (-1.0, 1.0)


@pytest.mark.parametrize(
    ("values", "expected"),
    [([1e-7, 2e-7, 3e-7], [-1.2247, 0, 1.2247]), ([3e5, 3e5, 3e5], [0, 0, 0]), ([0, 0, 0], [0, 0, 0]), ([], [])],
)
def test_what_varies_is_told_by_the_columns_own_scale(tmp_path, values, expected):
    spec = {"x": tf.io.VarLenFeature(tf.float32)}
    metadata = dataset_metadata.DatasetMetadata(schema_utils.schema_from_feature_spec(spec))
    rows = [{"x": [value]} for value in values] + [{"x": []}]
    with tft_beam.Context(temp_dir=tempfile.mkdtemp(dir=tmp_path)):
        (found, _), _ = (rows, metadata) | tft_beam.AnalyzeAndTransformDataset(
            lambda inputs: {"z": preprocessing._z_score(inputs["x"])}
        )
    assert [float(row["z"]) for row in found] == pytest.approx([*expected, 0.0], abs=1e-3)


def test_a_z_score_does_not_depend_on_how_beam_cuts_batches(tmp_path):
    """Which it does by the time that they take; to the last bit."""
    values = np.log1p(np.random.default_rng(0).uniform(60, 7200, 12)).astype(np.float32)
    spec = {"x": tf.io.VarLenFeature(tf.float32)}
    metadata = dataset_metadata.DatasetMetadata(schema_utils.schema_from_feature_spec(spec))
    found = []
    for size in (1, 2, 5, len(values)):
        with tft_beam.Context(temp_dir=tempfile.mkdtemp(dir=tmp_path), desired_batch_size=size):
            (rows, _), _ = ([{"x": [value]} for value in values], metadata) | tft_beam.AnalyzeAndTransformDataset(
                lambda inputs: {"z": preprocessing._z_score(inputs["x"])}
            )
        found.append([float(row["z"]) for row in rows])
    assert found[0] == found[1] == found[2] == found[3]


def test_media_and_embeddings_pass_through_and_are_padded_where_absent(items):
    rows, _ = items
    full, empty = rows["3"], rows["0"]
    assert full["audio_log_mel"] == [LOG_MEL.decode("latin-1")] and full["video_frames"] == [FRAMES.decode("latin-1")]
    assert (full["audio_num_frames"], full["video_num_frames"], full["video_times_s"]) == (
        [300, 300, 12],
        [4],
        [0.0, 1.0, 2.0, 3.5],
    )
    assert (full["has_audio"], full["has_video"], empty["has_audio"], empty["has_video"]) == ([1], [1], [0], [0])
    assert empty["audio_log_mel"] == [""] and empty["video_frames"] == [""] and empty["audio_num_frames"] == [0, 0, 0]
    assert rows["2"]["embedding_clip"] == [0.5, -1.0] and rows["2"]["has_embedding_clip"] == [1]
    assert empty["embedding_clip"] == [0.0, 0.0] and empty["has_embedding_clip"] == [0]


def export(folder, target):
    """A SavedModel of the transform alone, from serialized item examples to features."""
    output = tft.TFTransformOutput(str(folder))
    spec = output.raw_feature_spec()
    model = tf.Module()
    model.transform = output.transform_features_layer()
    serve = tf.function(lambda examples: model.transform(tf.io.parse_example(examples, spec)))
    tf.saved_model.save(model, str(target), signatures=serve.get_concrete_function(tf.TensorSpec([None], tf.string)))


LOAD = """
import sys, json
import numpy as np
import tensorflow as tf
assert not any(name.startswith(("components", "tensorflow_transform", "tensorflow_text")) for name in sys.modules)
examples = [bytes.fromhex(line) for line in open(sys.argv[2]).read().split()]
outputs = tf.saved_model.load(sys.argv[1]).signatures["serving_default"](tf.constant(examples))
np.savez(sys.argv[3], **{name: value.numpy() for name, value in outputs.items() if value.dtype != tf.string})
strings = {n: [v.decode("latin-1") for v in t.numpy()] for n, t in outputs.items() if t.dtype == tf.string}
json.dump(strings, open(sys.argv[4], "w"))
"""


def test_a_fresh_process_answers_like_training_did(items, tmp_path):
    """C26, C27, C28: no Python op in the graph; loaded where our package is not, it gives what the training data have
    (1e-5), every vocabulary travels in the assets, and an id that nobody has seen is 1."""
    rows, folder = items
    export(folder, tmp_path / "export")
    graph = (
        saved_model_pb2.SavedModel.FromString((tmp_path / "export" / "saved_model.pb").read_bytes())
        .meta_graphs[0]
        .graph_def
    )
    ops = {node.op for node in graph.node} | {
        node.op for function in graph.library.function for node in function.node_def
    }
    assert "LookupTableFindV2" in ops and not any("PyFunc" in op for op in ops)
    assets = {path.name for path in (tmp_path / "export" / "assets").iterdir()}
    assert assets == {"words", "tags", "domain", "creator", "label"}

    unseen = {"item_id": "new", "creator": "Nobody", "domain": "podcast", "title": "unheard"}
    records = [item_example(row).SerializeToString() for row in [*ITEMS, unseen]]
    (tmp_path / "examples").write_text("\n".join(record.hex() for record in records))
    paths = [str(tmp_path / name) for name in ("export", "examples", "numbers.npz", "strings.json")]
    subprocess.run([sys.executable, "-c", LOAD, *paths], check=True, cwd=tmp_path)
    numbers, strings = np.load(paths[2]), json.loads(Path(paths[3]).read_text())
    assert {*numbers, *strings} == {feature.name for feature in item_features(DATA)}
    for index, item in enumerate(ITEMS):
        trained = rows[item["item_id"]]
        for name in numbers:
            np.testing.assert_allclose(np.atleast_1d(numbers[name][index]), trained[name], atol=1e-5, err_msg=name)
        for name in strings:
            assert strings[name][index] == trained[name][0]
    assert numbers["creator_id"][-1] == numbers["domain_id"][-1] == numbers["text_tokens"][-1][0] == 1


def test_a_request_without_an_item_id_is_a_named_error(items):
    """C28."""
    spec = tft.TFTransformOutput(str(items[1])).raw_feature_spec()
    with pytest.raises(tf.errors.InvalidArgumentError, match="item_id"):
        tf.io.parse_example([row_example({"title": "t"}, catalogue_columns(DATA)).SerializeToString()], spec)
