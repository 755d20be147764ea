"""The files behind a path: a name before a pattern, a folder as what is in it."""

import io
import os
import tempfile
from typing import ClassVar

import apache_beam as beam
import pyarrow as pa
import pytest
import tensorflow as tf
from apache_beam.io.filesystem import FileMetadata, FileSystem
from apache_beam.testing.util import assert_that, equal_to

from components.artifacts import WriteRecords, file_fingerprint
from components.config import DataConfig, TableConfig
from components.contract import CATALOGUE
from components.example_tables import ReadTables
from components.examples import row_example
from components.file_state import size_and_mtime
from components.files import matching_files, without_magic
from components.tables.inspection import table_files
from components.tables.raw import TableError
from pipeline.config import Config
from serving.config import EvaluationConfig
from tests.components.tables.reading import notes, read, titles, write

ROW = "item_id\n{}\n"


def test_files_written_within_one_second_are_told_apart(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"ab")
    states = []
    for time_ns in (10**18, 10**18 + 1):
        os.utime(path, ns=(0, time_ns))
        states.append(size_and_mtime(str(path)))
    assert states == [(2, 10**18), (2, 10**18 + 1)]


@pytest.mark.parametrize("name", ["[2025] events.csv", "what*.csv", "is this?.csv", "{a,b}.csv", "[a-z].csv"])
def test_a_file_of_that_very_name_is_that_file(tmp_path, name):
    """D14."""
    write(tmp_path / name, ROW.format("right"))
    for other in ("2 events.csv", "whatever.csv", "is this1.csv", "a.csv", "b.csv"):
        write(tmp_path / other, ROW.format("wrong"))
    assert matching_files(str(tmp_path / name)) == [str(tmp_path / name)]
    assert list(titles(read(tmp_path / name)[0])) == ["right"]


def test_a_pattern_below_a_folder_with_brackets_is_a_pattern_there(tmp_path):
    """D14."""
    folder = tmp_path / "Music [FLAC]" / "x [1]"
    folder.mkdir(parents=True)
    for name in ("a.csv", "b.csv"):
        write(folder / name, ROW.format(name))
    assert matching_files(f"{folder}/*.csv") == [str(folder / "a.csv"), str(folder / "b.csv")]
    assert matching_files(f"{tmp_path}/Music [FLAC]/**") == [str(folder / "a.csv"), str(folder / "b.csv")]
    assert list(titles(read(f"{folder}/*.csv")[0])) == ["a.csv", "b.csv"]
    before = file_fingerprint([f"{folder}/*.csv"])
    write(folder / "a.csv", ROW.format("edited"))
    assert file_fingerprint([f"{folder}/*.csv"]) != before != file_fingerprint([])


def test_a_folder_of_spark_is_its_parts(tmp_path):
    """D15: marks and check sums are no tables; a part of 0 bytes beside full ones is noted."""
    folder = tmp_path / "items.csv"
    (folder / "domain=film").mkdir(parents=True)
    for name in ("_SUCCESS", "._SUCCESS.crc", ".part-0.csv.crc", "_committed_1"):
        write(folder / name, b"\0\1")
    write(folder / "part-00000-uuid-c000.csv", ROW.format("a"))
    write(folder / "part-00001-uuid-c000.csv", "")
    write(folder / "domain=film" / "part-00002.csv", ROW.format("b"))
    for path in (folder, f"{folder}/**"):
        rows, rejects = read(path)
        assert sorted(titles(rows)) == ["a", "b"] and not rejects
    assert sorted(titles(read(f"{folder}/*")[0])) == ["a"]
    assert notes(folder)["files_without_rows"] == [str(folder / "part-00001-uuid-c000.csv")]


@pytest.mark.parametrize("name", ["empty.parquet", "empty.csv.gz", "empty.jsonl", "empty.parquet.gz"])
def test_a_part_of_0_bytes_beside_full_files_is_noted_in_every_format(tmp_path, name):
    """D15: alone it is a table without a row."""
    write(tmp_path / name, "")
    write(tmp_path / "full.csv", ROW.format("a"))
    rows, rejects = read(f"{tmp_path}/*")
    assert list(titles(rows)) == ["a"] and not rejects
    assert notes(f"{tmp_path}/*")["files_without_rows"] == [str(tmp_path / name)]
    with pytest.raises(TableError, match="no row; no columns found"):
        read(tmp_path / name)


class Bucket(FileSystem):
    """Files in memory under x://, among which there are no folders."""

    files: ClassVar[dict[str, bytes]] = {}
    join = split = mkdirs = create = copy = rename = size = last_updated = delete = None

    @classmethod
    def scheme(cls):
        return "x"

    def has_dirs(self):
        return False

    def exists(self, path):
        return path in self.files

    def metadata(self, path):
        return FileMetadata(path, len(self.files[path]), 1.0)

    def _list(self, prefix):
        return (self.metadata(path) for path in self.files if path.startswith(prefix))

    def open(self, path, mime_type="", compression_type=""):
        return io.BytesIO(self.files[path])


@pytest.mark.parametrize("path", ["x://b/t", "x://b/t/"])
def test_a_folder_of_a_bucket_is_all_tables_below_it(monkeypatch, path):
    """Without the object of that name that some tools put there; what is behind a name or a pattern stays that."""
    parts = {f"x://b/t/{name}": ROW.format(name).encode() for name in ("part-0.csv", "d/part-1.csv")}
    others = ("x://b/t/", "x://b/t/_SUCCESS", "x://b/t/notes.md", "x://b/table.csv")
    monkeypatch.setattr(Bucket, "files", {**parts, **dict.fromkeys(others, b"")})
    assert table_files(path) == ("x://b/t/d/part-1.csv", "x://b/t/part-0.csv")
    assert list(titles(read(path)[0])) == ["d/part-1.csv", "part-0.csv"]
    assert table_files("x://b/t/part-0.csv") == table_files("x://b/t/*.csv") == ("x://b/t/part-0.csv",)
    before = file_fingerprint([path])
    Bucket.files["x://b/t/d/part-1.csv"] += b"2\n"
    assert file_fingerprint([path]) != before != file_fingerprint([])
    with pytest.raises(TableError, match="no file matches"):
        table_files("x://b/t/part")


def test_no_file_is_told(tmp_path):
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "missing.csv", tmp_path / "*.csv", tmp_path / "empty", "nowhere://bucket/x.csv"):
        with pytest.raises(TableError, match="no file matches|cannot be listed"):
            table_files(str(path))


def test_a_work_folder_below_brackets_is_written_and_read(tmp_path, monkeypatch):
    """D14: Beam and TensorFlow look for what they wrote by patterns."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    settings = {
        "name": "tiny",
        "data": DataConfig(TableConfig("c"), TableConfig("e")),
        "evaluation": EvaluationConfig(max_loss_to_last=0.0, min_gain_over_popularity=0.0),
    }
    real = tmp_path / "x [1]" / "what?" / "runs"
    work = Config(**settings, work_dir=str(real)).work_path
    assert work == Config(**settings, work_dir=str(real)).work_path != Config(**settings, work_dir="other").work_path
    (work / "artifacts").mkdir()
    with beam.Pipeline() as pipeline:
        _ = (
            pipeline
            | beam.Create([row_example({"item_id": "a"}, CATALOGUE).SerializeToString()])
            | WriteRecords(str(work / "artifacts"))
        )
    assert len(list((real / "artifacts").iterdir())) == 1 == len(tf.io.gfile.glob(f"{work}/artifacts/*"))
    with beam.Pipeline() as pipeline:
        tables = pipeline | ReadTables(str(work / "artifacts"), {"item_id": pa.string()})
        found = tables | beam.FlatMap(lambda rows: rows.to_pylist())
        assert_that(found, equal_to([{"item_id": "a"}]))
    plain = Config(**settings, work_dir=str(tmp_path / "plain")).work_path
    assert plain == tmp_path / "plain" and not plain.exists()


def test_a_link_that_somebody_else_made_is_not_followed(tmp_path, monkeypatch):
    """D14: the folder of temporary files is everybody's."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    link = without_magic(tmp_path / "x [1]")
    link.unlink()
    link.symlink_to(tmp_path)
    with pytest.raises(OSError, match="in the way of a link to .*name a work_dir without"):
        without_magic(tmp_path / "x [1]")
