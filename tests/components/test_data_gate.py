"""Schemas, and the gate that stops a run on what contradicts them."""

import pytest
import tensorflow_data_validation as tfdv
from google.protobuf import text_format
from tensorflow_data_validation.statistics import stats_impl, stats_options
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2
from tensorflow_transform.tf_metadata import schema_utils
from tfx.types.standard_artifacts import ExampleAnomalies
from tfx_bsl.coders import example_coder

from components.config import DataConfig, TableConfig
from components.contract import CATALOGUE, EVENTS, catalogue_columns
from components.data_gate import DataGateError
from components.examples import row_example
from components.transform.schemas import catalogue_schema, events_schema, write_schema
from pipeline.nodes.data_gate import DataGate
from tests.components.nodes import artifact, run_table_gen, write_rejects

DATA = DataConfig(catalogue=TableConfig("c"), events=TableConfig("e"), numeric=("year",), embeddings={"clip": 2})
GOOD_ITEMS = [
    {"item_id": "a", "title": "t", "tags": ["x", "y"], "duration_s": 3.0, "embedding:clip": [0.5, 1.0]},
    {"item_id": "b", "year": 7.0},
]
GOOD_EVENTS = [{"user_id": "u", "item_id": "a", "event": "play", "timestamp": 1_700_000_000, "value": 3.0}]


def anomalies(schema, rows, columns):
    """Feature → rule of what TFDV finds in rows."""
    statistics = statistics_of([row_example(row, columns) for row in rows])
    found = tfdv.validate_statistics(statistics, schema)
    return {name: info.short_description for name, info in found.anomaly_info.items()}, found


def statistics_of(examples) -> statistics_pb2.DatasetFeatureStatisticsList:
    batch = example_coder.ExamplesToRecordBatchDecoder().DecodeBatch(
        [example.SerializeToString() for example in examples]
    )
    return stats_impl.generate_statistics_in_memory(batch, stats_options.StatsOptions())


@pytest.mark.parametrize("rows", [GOOD_ITEMS, GOOD_ITEMS[1:], [{"item_id": "bare"}]])
def test_good_items_have_no_anomaly_also_where_an_optional_column_is_absent_everywhere(rows):
    assert anomalies(catalogue_schema(DATA), rows, catalogue_columns(DATA))[0] == {}


def test_good_events_have_no_anomaly():
    for rows in (
        GOOD_EVENTS,
        [{"user_id": "u", "item_id": "a", "event": "like"}],
        [{**GOOD_EVENTS[0], "split": "valid"}],
    ):
        assert anomalies(events_schema(), rows, EVENTS)[0] == {}


@pytest.mark.parametrize(
    "row, feature",
    [
        ({"item_id": "a", "duration_s": -1.0}, "duration_s"),
        ({"title": "no id"}, "item_id"),
        ({"item_id": "a", "year": float("nan")}, "year"),
    ]
    + [
        ({"item_id": "a", "embedding:clip": [1.0]}, "embedding_clip"),
        ({"item_id": "a", "published_at": 10**11}, "published_at"),
    ],
)
def test_what_contradicts_the_contract_is_an_anomaly_of_its_feature(row, feature):
    assert list(anomalies(catalogue_schema(DATA), [*GOOD_ITEMS, row], catalogue_columns(DATA))[0]) == [feature]


@pytest.mark.parametrize("change", [{"timestamp": -5}, {"timestamp": 10**11}, {"value": float("nan")}])
def test_what_contradicts_the_contract_of_events_is_an_anomaly(change):
    assert list(anomalies(events_schema(), [*GOOD_EVENTS, {**GOOD_EVENTS[0], **change}], EVENTS)[0]) == list(change)


def test_a_column_of_another_type_is_an_anomaly():
    """C47: a rating that is text."""
    example = row_example({"user_id": "u", "item_id": "a", "event": "play"}, EVENTS)
    example.features.feature["value"].bytes_list.value.append(b"five")
    assert "value" in tfdv.validate_statistics(statistics_of([example]), events_schema()).anomaly_info


def test_transform_reads_the_schema_as_optional_sparse_features():
    spec = schema_utils.schema_as_feature_spec(catalogue_schema(DATA)).feature_spec
    assert spec["item_id"].shape == [] and {name for name, feature in spec.items() if hasattr(feature, "shape")} == {
        "item_id"
    }
    assert {column.name for column in CATALOGUE} | {"embedding_clip", "year", "audio_log_mel", "has_video"} <= set(spec)


def test_the_fingerprint_of_a_schema_follows_its_content(tmp_path):
    first = write_schema(catalogue_schema(DATA), tmp_path)
    assert first == write_schema(catalogue_schema(DATA), tmp_path) != write_schema(events_schema(), tmp_path)
    assert text_format.Parse((tmp_path / "schema.pbtxt").read_text(), schema_pb2.Schema()) == events_schema()


def gate(folder, share, catalogue_rows=GOOD_ITEMS, event_rejects=None):
    """Run the node on anomalies of the rows, and on given rejects of the events."""
    inputs = {}
    for name, schema, rows, columns in (
        ("catalogue", catalogue_schema(DATA), catalogue_rows, catalogue_columns(DATA)),
        ("event", events_schema(), GOOD_EVENTS, EVENTS),
    ):
        _, found = anomalies(schema, rows, columns)
        path = folder / name / "anomalies"
        (path / "Split-train").mkdir(parents=True)
        (path / "Split-train" / "SchemaDiff.pb").write_bytes(found.SerializeToString())
        inputs[f"{name}_anomalies"] = artifact(ExampleAnomalies, path)
        inputs[f"{name}_anomalies"].split_names = '["train"]'
        inputs[f"{name}_rejects"] = write_rejects(folder / name / "rejects")
    DataGate.test_call(
        **{**inputs, **({"event_rejects": event_rejects} if event_rejects else {})}, max_reject_share=share, code=""
    )


def test_good_data_passes(tmp_path):
    gate(tmp_path, share=0.0)


def test_an_anomaly_stops_the_run_with_feature_and_rule(tmp_path):
    """C47."""
    with pytest.raises(DataGateError, match=r"catalogue: train: feature duration_s: .*-1"):
        gate(tmp_path, share=1.0, catalogue_rows=[*GOOD_ITEMS, {"item_id": "c", "duration_s": -1.0}])


def test_too_many_rejects_stop_the_run_with_feature_share_and_lines(tmp_path):
    """C47: a drop in which ratings are text; C04: strict mode names the same facts."""
    (tmp_path / "events.csv").write_text(
        "user_id,item_id,event,value\nu,a,rating,five\nu,b,rating,4\nu,c,rating,3\nu,d,rating,2\n"
    )
    data = DataConfig(catalogue=TableConfig("c"), events=TableConfig(str(tmp_path / "events.csv")))
    _, rejects = run_table_gen(tmp_path, "events", data)
    gate(tmp_path / "lenient", share=0.25, event_rejects=rejects)
    for share in (0.0, 0.2):
        with pytest.raises(
            DataGateError,
            match=r"events: 25.0% of the rows .*bad_number 1 of 4 rows.*events.csv:2 item 'a' bad_number: value: got",
        ):
            gate(tmp_path / f"strict {share}", share=share, event_rejects=rejects)
