"""The node that describes a table, beside StatisticsGen, which reads the Examples one by one."""

import random

import apache_beam as beam
import pytest
import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0.statistics_pb2 import DatasetFeatureStatisticsList
from tfx.types.standard_artifacts import ExampleStatistics
from tfx_bsl.tfxio.tf_example_record import TFExampleRecord

from components import example_tables
from components.config import DataConfig, TableConfig
from pipeline.nodes.table_statistics import TableStatistics
from tests.components.nodes import artifact, run_table_gen

NUM_EVENTS = 3000


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    """Of a catalogue and of events: texts of other scripts, values that are absent, ties, a column of one value."""
    folder, chance = tmp_path_factory.mktemp("tables"), random.Random(0)
    items = [
        "item_id,title,tags,year",
        *(f"i{n},{'' if n % 3 else f'Lied Nº{n} 曲'},a|b{n % 7},{n}" for n in range(99)),
    ]

    def when(event):  # far apart, since TFDV's deviation is a difference of squares
        return 1_600_000_000 + event // 2 * 100_000

    rows = (
        f"u{chance.randrange(40)},i{chance.randrange(99)},{when(n)},play,{chance.choice(['', 1, 2.5])}"
        for n in range(NUM_EVENTS)
    )
    (folder / "items.csv").write_text("\n".join(items) + "\n", encoding="utf-8")
    (folder / "events.csv").write_text("\n".join(["user_id,item_id,timestamp,event,value", *rows]) + "\n")
    paths = {"catalogue": TableConfig(str(folder / "items.csv")), "events": TableConfig(str(folder / "events.csv"))}
    data = DataConfig(**paths, numeric=("year",))
    return {table: run_table_gen(folder, table, data)[0] for table in paths}


@pytest.mark.parametrize("table", ["catalogue", "events"])
def test_the_statistics_are_those_of_reading_one_by_one(examples, table, tmp_path, monkeypatch):
    """Many batches, the last of which is not full; counts, texts, ties and quantiles alike, means but for rounding."""
    monkeypatch.setattr(example_tables, "BATCH_EXAMPLES", 256)
    made = artifact(ExampleStatistics, tmp_path / "statistics")
    TableStatistics.test_call(examples=examples[table], statistics=made, code="", beam_pipeline=beam.Pipeline())
    assert (made.split_names, made.span) == ('["train"]', 0)

    pattern, oracle = f"{examples[table].uri}/Split-train/*", tmp_path / "oracle.pb"
    source = TFExampleRecord(pattern, telemetry_descriptors=["test"])
    with beam.Pipeline() as pipeline:
        described = pipeline | source.BeamSource() | tfdv.GenerateStatistics()
        _ = described | tfdv.WriteStatisticsToBinaryFile(str(oracle))
    ours, theirs = (read(path) for path in (tmp_path / "statistics" / "Split-train" / "FeatureStats.pb", oracle))
    assert len(ours.features) > 3 and ours.num_examples == (99 if table == "catalogue" else NUM_EVENTS)
    assert len(ours.features) == len(theirs.features)
    numeric = [both for both in zip(ours.features, theirs.features) if both[0].HasField("num_stats")]
    for own, other in numeric:
        for name in ("mean", "std_dev"):  # sums of batches, which rounding tells apart
            assert getattr(own.num_stats, name) == pytest.approx(getattr(other.num_stats, name), rel=1e-9)
            setattr(own.num_stats, name, getattr(other.num_stats, name))
    assert numeric and ours == theirs


def read(path):
    """The statistics of the one data set of a file, the features by name."""
    (dataset,) = DatasetFeatureStatisticsList.FromString(path.read_bytes()).datasets
    dataset.features.sort(key=lambda feature: feature.path.step[0])
    return dataset
