"""Running our nodes without an orchestrator."""

import json
from collections import Counter
from pathlib import Path

import apache_beam as beam
import tensorflow as tf
from tfx.types.standard_artifacts import Examples

from components.contract import Column
from components.examples import row_values
from components.rejects import reject
from components.settings import to_json
from pipeline.nodes.table_gen import TableGen
from zhiyin_artifacts import Rejects


def artifact(kind, folder):
    """An output artifact of a node in a folder."""
    made = kind()
    made.uri = str(folder)
    return made


def run_table_gen(folder, table, data, forgotten=""):
    """(examples, rejects) of one table. forgotten: file of people whose rows are left out."""
    examples, rejects = artifact(Examples, folder / table / "examples"), artifact(Rejects, folder / table / "rejects")
    TableGen.test_call(
        examples=examples,
        rejects=rejects,
        table=table,
        data=to_json(data),
        fingerprint="",
        code="",
        forgotten=forgotten,
        beam_pipeline=beam.Pipeline(),
    )
    return examples, rejects


def write_rejects(folder, reasons=()):
    """Rejects of a table of 4 rows and more: a reject for each of the reasons."""
    folder.mkdir(parents=True)
    rejects = [reject("tables", "t.csv", line, None, reason, "found") for line, reason in enumerate(reasons, start=1)]
    (folder / "rejects.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in rejects))
    summary = {"rows": 4 + len(rejects), "accepted": 4, "rejects": dict(Counter(reasons)), "notes": {}}
    (folder / "summary.json").write_text(json.dumps(summary))
    return artifact(Rejects, folder)


def write_split(examples, split, records):
    """Write tf.train.Examples as one split, without Beam."""
    folder = f"{examples.uri}/Split-{split}"
    tf.io.gfile.makedirs(folder)
    with tf.io.TFRecordWriter(f"{folder}/data-00000-of-00001.gz", "GZIP") as writer:
        for record in records:
            writer.write(record.SerializeToString())


def read_split(examples, split):
    """The tf.train.Examples of one split."""
    files = tf.io.gfile.glob(f"{examples.uri}/Split-{split}/*")
    return [tf.train.Example.FromString(record.numpy()) for record in tf.data.TFRecordDataset(files, "GZIP")]


def read_values(examples, columns: tuple[Column, ...], split="train"):
    """Their typed values."""
    return [row_values(example, columns) for example in read_split(examples, split)]


def read_rejects(rejects):
    """The rejects by line, then item."""
    lines = (Path(rejects.uri) / "rejects.jsonl").read_text("utf-8").splitlines()
    return sorted(map(json.loads, lines), key=lambda reject: (reject["line"] or 0, reject["item_id"] or ""))
