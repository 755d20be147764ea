"""The data half of the DAG, run for real: our nodes and TFX's on each other's artifacts."""

import json

import pytest
import tensorflow as tf
import tensorflow_transform as tft
from tfx.components import ExampleValidator, StatisticsGen, Transform
from tfx.orchestration import metadata
from tfx.orchestration.local.local_dag_runner import LocalDagRunner
from tfx.orchestration.pipeline import Pipeline

from components.artifacts import file_fingerprint
from components.config import DataConfig, TableConfig
from components.contract import item_features
from components.settings import to_json
from pipeline.nodes.curated_schema import CuratedSchema
from pipeline.nodes.data_gate import DataGate
from pipeline.nodes.interactions import Interactions
from pipeline.nodes.table_gen import TableGen

DAY_S = 86_400
START_S = 1_700_000_000


def data_line(root, data: DataConfig) -> Pipeline:
    """TableGen, StatisticsGen, CuratedSchema, ExampleValidator, Transform twice; DataGate and Interactions."""
    text = to_json(data)
    nodes, gens, anomalies, schemas, statistics = [], {}, {}, {}, {}
    for name, table in (("Catalog", "catalogue"), ("Event", "events")):
        pattern = data.catalogue.path if table == "catalogue" else data.events.path
        gens[table] = TableGen(table=table, data=text, fingerprint=file_fingerprint([pattern]), code="1").with_id(
            f"{name}Gen"
        )
        statistics[table] = StatisticsGen(examples=gens[table].outputs["examples"]).with_id(f"{name}Statistics")
        schemas[table] = CuratedSchema(table=table, data=text, code="1").with_id(f"{name}Schema")
        anomalies[table] = ExampleValidator(
            statistics=statistics[table].outputs["statistics"], schema=schemas[table].outputs["schema"]
        ).with_id(f"{name}Validator")
        nodes += [gens[table], statistics[table], schemas[table], anomalies[table]]
    gate = DataGate(
        catalogue_anomalies=anomalies["catalogue"].outputs["anomalies"],
        event_anomalies=anomalies["events"].outputs["anomalies"],
        catalogue_rejects=gens["catalogue"].outputs["rejects"],
        event_rejects=gens["events"].outputs["rejects"],
        max_reject_share=data.max_reject_share,
        code="1",
    )
    interactions = Interactions(
        events=gens["events"].outputs["examples"],
        catalogue=gens["catalogue"].outputs["examples"],
        event_rejects=gens["events"].outputs["rejects"],
        catalogue_rejects=gens["catalogue"].outputs["rejects"],
        data=text,
        code="1",
    )
    nodes += [gate, interactions]
    transform = Transform(
        examples=gens["catalogue"].outputs["examples"],
        schema=schemas["catalogue"].outputs["schema"],
        preprocessing_fn="components.transform.preprocessing.items",
        custom_config={"data": text, "code": "1"},
        disable_statistics=True,
    ).with_id("ItemTransform")
    transform.add_upstream_node(gate)
    nodes.append(transform)
    connection = metadata.sqlite_metadata_connection_config(str(root / "metadata.sqlite"))
    return Pipeline(
        "data-line", str(root / "runs"), metadata_connection_config=connection, components=nodes, enable_cache=True
    )


def write_tables(root) -> DataConfig:
    items = [
        {
            "item_id": f"{n:03}",
            "title": f"Song number {n}",
            "tags": ["rock", f"tag{n % 3}"],
            "duration_s": 60.0 + n,
            "year": 1990 + n,
        }
        for n in range(8)
    ]
    items.append({"item_id": "bare"})
    root.mkdir(parents=True, exist_ok=True)
    (root / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    lines = ["user_id,item_id,timestamp,event,value"]
    for user in range(6):
        for step in range(10):
            lines.append(f"{user:02},{(user + step) % 8:03},{START_S + step * DAY_S + user},play,")
    (root / "events.csv").write_text("\n".join(lines) + "\n")
    return DataConfig(
        catalogue=TableConfig(str(root / "items.jsonl")),
        events=TableConfig(str(root / "events.csv")),
        numeric=("year",),
    )


def only_output(root, node: str, key: str):
    folder = root / "runs" / node / key
    (run,) = folder.iterdir()
    return run


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_the_nodes_fit_together_and_a_second_run_is_cached(tmp_path):
    """All nodes run on each other's artifacts; a bare item and absent media pass; the second run makes no new
    artifact."""
    data = write_tables(tmp_path / "tables")
    LocalDagRunner().run(data_line(tmp_path, data))

    output = tft.TFTransformOutput(str(only_output(tmp_path, "ItemTransform", "transform_graph")))
    spec = output.transformed_feature_spec()
    assert {name: tuple(feature.shape) for name, feature in spec.items()} == {
        feature.name: () if feature.dtype == "uint8" else feature.shape for feature in item_features(data)
    }
    files = [str(path) for path in only_output(tmp_path, "ItemTransform", "transformed_examples").glob("Split-train/*")]
    records = list(tf.data.TFRecordDataset(files, "GZIP"))
    assert len(records) == 9
    tf.io.parse_example(records, spec)
    summary = json.loads((only_output(tmp_path, "Interactions", "rejects") / "summary.json").read_text())
    assert summary["rows"] == summary["accepted"] == 60

    LocalDagRunner().run(data_line(tmp_path, data))
    for node, key in (("CatalogGen", "examples"), ("Interactions", "sequences"), ("ItemTransform", "transform_graph")):
        only_output(tmp_path, node, key)
