"""TFRecords that are written many at a time are those that TensorFlow and Beam write one by one."""

import gzip
import io
import random

import apache_beam as beam
import pytest
import tensorflow as tf
from apache_beam.io.tfrecordio import _TFRecordUtil

from components.record_files import WriteRecordLists, framed

RANDOM = random.Random(0)
RECORDS = [RANDOM.randbytes(size) for size in (0, 1, 127, 128, 300, 300, 5_000, 70_000)]


@pytest.mark.parametrize("records", [RECORDS, RECORDS[:1], []], ids=["many", "an empty one", "none"])
def test_the_bytes_are_beams(records) -> None:
    file = io.BytesIO()
    for record in records:
        _TFRecordUtil.write_record(file, record)
    assert framed(records) == file.getvalue()


def test_lists_longer_than_what_is_written_at_once_are_read_back_by_tensorflow(tmp_path) -> None:
    """In their order; lists without records leave nothing; the same records make the same file."""
    lists = [[b"record %d" % number for number in range(10_000)], [], RECORDS]
    for name in ("one", "two"):
        with beam.Pipeline() as pipeline:
            _ = pipeline | beam.Create([lists]) | beam.FlatMap(list) | WriteRecordLists(str(tmp_path / name))
    (path,), (again,) = ([str(file) for file in (tmp_path / name).iterdir()] for name in ("one", "two"))
    found = list(tf.data.TFRecordDataset(path, "GZIP").batch(20_000).as_numpy_iterator())[0].tolist()
    assert found == [*lists[0], *RECORDS]
    with open(path, "rb") as one, open(again, "rb") as two:  # noqa: PTH123
        assert one.read() == two.read() == gzip_of(found)


def gzip_of(records) -> bytes:
    """The file as any gzip reads it, and as this one writes it: no name and no time in its head."""
    return gzip.compress(framed(records), 3, mtime=0)
