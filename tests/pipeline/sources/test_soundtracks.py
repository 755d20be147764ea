"""Tracks come out of real Debian packages with what their tags say, and the labels stay beside the catalogue."""

import csv
import io
import shutil
import subprocess
import zipfile

import av
import pytest

from pipeline.sources import debian
from pipeline.sources.debian import licences, members
from pipeline.sources.registry import prepare
from pipeline.sources.soundtracks import PACKAGES, SOUNDTRACKS
from pipeline.sources.summary import SourceError

pytestmark = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="takes dpkg-deb")
COPYRIGHT = "Files: *\nLicense: GPL-2+\n ...\nFiles: a.ogg\nLicense: CC-BY-3.0\n\nFiles: b.ogg\nLicense: GPL-2+\n"


def tagged(data, **tags):
    """The same packets in a file with tags."""
    out = io.BytesIO()
    with av.open(io.BytesIO(data)) as given, av.open(out, "w", format="ogg") as made:
        stream = made.add_stream_from_template(given.streams.audio[0])
        stream.metadata.update(tags)
        for packet in given.demux(given.streams.audio[0]):
            if packet.dts is not None:
                packet.stream = stream
                made.mux(packet)
    return out.getvalue()


def package(folder, name, files):
    """A package that Debian's own tool makes of some files."""
    tree = folder / "tree" / name
    control = f"Package: {name}\nVersion: 1.0\nArchitecture: all\nMaintainer: a <a@example.test>\nDescription: a\n"
    files = {"DEBIAN/control": control.encode(), f"usr/share/doc/{name}/copyright": COPYRIGHT.encode(), **files}
    for path, content in files.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_bytes(content)
    deb = folder / "debs" / f"{name}_1.0_all.deb"
    deb.parent.mkdir(exist_ok=True)
    subprocess.run(["dpkg-deb", "-Znone", "--build", str(tree), str(deb)], check=True, capture_output=True)
    return deb


@pytest.fixture(scope="module")
def debs(tmp_path_factory, clips):
    folder = tmp_path_factory.mktemp("packages")
    long, short = (clips.audio(clips.tone(seconds), container="ogg", codec="libvorbis") for seconds in (21.0, 2.0))
    music = "usr/share/games/gunroar/sounds/musics"
    files = {f"{music}/gr0.ogg": tagged(long, TITLE="Nereid", ARTIST="Ann  A."), f"{music}/over_jingle.ogg": short}
    package(folder, "gunroar-data", {**files, "usr/share/games/gunroar/sounds/shot.ogg": long})
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as pk3:
        pk3.writestr("sound/cdtracks/deep_track-1.ogg", tagged(long, ARTIST="<Unknown>"))
    package(folder, "nexuiz-music", {"usr/share/games/nexuiz/data/music.pk3": archive.getvalue()})
    return folder / "debs"


def read(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_tracks_labels_and_licences(tmp_path, debs):
    out = tmp_path / "out"
    summary = prepare("soundtracks", out, debs)
    assert (summary.items, summary.media_files, summary.users, summary.events) == (2, 2, 0, 0)
    catalogue, labels = read(out / "catalogue.csv"), read(out / "labels.csv")
    assert [row["title"] for row in catalogue] == ["deep track 1", "Nereid"]
    assert [float(row["duration_s"]) for row in catalogue] == pytest.approx([21.0, 21.0], abs=0.1)
    assert [(row["game"], row["composer"]) for row in labels] == [("Nexuiz", ""), ("Gunroar", "Ann A.")]
    assert [row["item_id"] for row in labels] == [row["item_id"] for row in catalogue]
    assert read(out / "licences.csv")[0] == {
        "package": "nexuiz-music",
        "version": "1.0",
        "tracks": "1",
        "licences": "GPL-2+|CC-BY-3.0",
    }
    assert (out / "copyright" / "gunroar-data.txt").read_text() == COPYRIGHT


def test_the_catalogue_says_nothing_of_the_game(tmp_path, debs):
    """Neither a column nor the place of a file."""
    prepare("soundtracks", tmp_path / "out", debs)
    text = (tmp_path / "out" / "catalogue.csv").read_text().lower()
    assert not any(word in text for word in ("gunroar", "nexuiz", "ann a."))
    assert {path.stem for path in (tmp_path / "out" / "media").iterdir()} == {
        row["item_id"] for row in read(tmp_path / "out" / "labels.csv")
    }


def test_a_damaged_package_is_named(tmp_path, debs):
    broken = tmp_path / "gunroar-data_1.0_all.deb"
    whole = (debs / broken.name).read_bytes()
    broken.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SourceError, match=r"gunroar-data_1\.0_all\.deb: cannot be unpacked"):
        list(members(broken))


def test_fetching_names_what_is_not_to_be_had_and_goes_on(tmp_path, debs, monkeypatch, capsys):
    """The downloads lie beside the output, where another try finds them."""

    def download(name, folder):
        found = debs / f"{name}_1.0_all.deb"
        if not found.is_file():
            return "no such package"
        shutil.copy(found, folder)
        return ""

    monkeypatch.setattr(debian, "download", download)
    assert prepare("soundtracks", tmp_path / "out", fetch=True).items == 2
    assert len(list((tmp_path / "out.packages").iterdir())) == 2
    monkeypatch.setattr(debian, "download", lambda *_: "no network")
    with pytest.raises(SourceError, match="no package could be fetched: no network"):
        prepare("soundtracks", tmp_path / "other", fetch=True)


def test_a_folder_without_packages_is_refused(tmp_path):
    with pytest.raises(SourceError, match="got no package of music, expected Debian's packages wesnoth"):
        prepare("soundtracks", tmp_path / "out", tmp_path)


def test_each_soundtrack_has_its_own_name():
    assert len({soundtrack.name for soundtrack in SOUNDTRACKS}) == len(SOUNDTRACKS) >= len(PACKAGES)


def test_a_copyright_file_that_no_machine_reads_states_no_licence():
    assert licences("This package was debianised by hand.\nIt is under the GPL.\n") == []
