"""Pictures come out of real Debian packages, each once, and the labels stay beside the catalogue."""

import csv
import shutil
import subprocess

import cv2
import numpy as np
import pytest

from components.media.isolation import Decoder
from pipeline.sources import debian
from pipeline.sources.pictures import COLLECTIONS, MOST, PACKAGES
from pipeline.sources.registry import prepare
from pipeline.sources.summary import SourceError

pytestmark = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="takes dpkg-deb")
STAMPS, SCRATCH = "tuxpaint-stamps-default", "scratch"


def picture(seed, side=80, ending=".png"):
    return cv2.imencode(ending, np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8))[1].tobytes()


def package(folder, name, files):
    """A package that Debian's own tool makes of some files."""
    tree = folder / "tree" / name
    control = f"Package: {name}\nVersion: 1.0\nArchitecture: all\nMaintainer: a <a@example.test>\nDescription: a\n"
    copyright_text = b"Files: *\nLicense: GPL-2\n"
    files = {"DEBIAN/control": control.encode(), f"usr/share/doc/{name}/copyright": copyright_text, **files}
    for path, content in files.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_bytes(content)
    (folder / "debs").mkdir(exist_ok=True)
    target = folder / "debs" / f"{name}_1.0_all.deb"
    subprocess.run(["dpkg-deb", "-Znone", "--build", str(tree), str(target)], check=True, capture_output=True)


@pytest.fixture(scope="module")
def debs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packages")
    stamps, rooms = "usr/share/tuxpaint/stamps", "usr/share/scratch/Media/Backgrounds/Indoors"
    files = {
        f"{stamps}/animals/birds/cartoon/red_hen.png": picture(0),
        f"{stamps}/animals/birds/red_hen_mirror.png": picture(1),
        f"{stamps}/animals/birds/tiny.png": picture(2, side=32),
        f"{stamps}/animals/birds/broken.png": b"no picture",
        f"{stamps}/animals/birds/hen.wav": b"no picture",
        f"{stamps}/clothes/hats/top-hat.png": picture(3),
        f"{stamps}/clothes/hats/the_same.png": picture(3),
        f"{stamps}/nothing/we/know.png": picture(4),
    }
    package(folder, STAMPS, files)
    package(folder, SCRATCH, {f"{rooms}/room{n}.jpg": picture(10 + n, ending=".jpg") for n in range(MOST + 3)})
    return folder / "debs"


def read(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def made(tmp_path, debs):
    summary = prepare("pictures", tmp_path / "out", debs)
    assert (summary.items, summary.media_files, summary.users, summary.events) == (MOST + 2, MOST + 2, 0, 0)
    return tmp_path / "out"


def test_pictures_labels_and_licences(made):
    catalogue, labels = read(made / "catalogue.csv"), read(made / "labels.csv")
    assert [row["item_id"] for row in labels] == [row["item_id"] for row in catalogue]
    themes = {row["title"]: label["theme"] for row, label in zip(catalogue, labels) if label["theme"] != "indoors"}
    assert themes.pop("red hen") == "birds"
    assert list(themes.values()) == ["hats"], "clothes take no hats, and equal files are one picture"
    assert sum(row["theme"] == "indoors" for row in labels) == MOST
    stated = {row["package"]: (row["version"], row["pictures"], row["licences"]) for row in read(made / "licences.csv")}
    assert stated == {STAMPS: ("1.0", "2", "GPL-2"), SCRATCH: ("1.0", str(MOST), "GPL-2")}
    assert (made / "copyright" / f"{SCRATCH}.txt").read_text() == "Files: *\nLicense: GPL-2\n"


def test_the_catalogue_says_nothing_of_the_labels_and_its_media_decode(made):
    text = (made / "catalogue.csv").read_text().lower()
    assert not any(word in text for word in ("birds", "hats", "indoors", STAMPS, SCRATCH))
    assert {f"media/{path.name}" for path in (made / "media").iterdir()} == {
        row["media_uri"] for row in read(made / "catalogue.csv")
    }
    with Decoder() as decoder:
        assert decoder.extract(next((made / "media").glob("*.png"))).has_video


def test_fetching_names_what_is_not_to_be_had_and_goes_on(tmp_path, debs, monkeypatch):
    def download(name, folder):
        found = debs / f"{name}_1.0_all.deb"
        if not found.is_file():
            return "no such package"
        shutil.copy(found, folder)
        return ""

    monkeypatch.setattr(debian, "download", download)
    assert prepare("pictures", tmp_path / "out", fetch=True).items == MOST + 2
    assert {path.name.split("_")[0] for path in (tmp_path / "out.packages").iterdir()} == {STAMPS, SCRATCH}


def test_a_folder_without_packages_is_refused(tmp_path):
    with pytest.raises(SourceError, match="got no package of pictures, expected Debian's packages tuxpaint"):
        prepare("pictures", tmp_path / "out", tmp_path)


def test_each_collection_has_one_label():
    assert all(bool(collection.theme) != bool(collection.set) for collection in COLLECTIONS)
    assert len({(collection.package, collection.pattern) for collection in COLLECTIONS}) == len(COLLECTIONS)
    assert len(PACKAGES) == len({collection.package for collection in COLLECTIONS})
