"""A run decodes again when a medium that its catalogue names has changed, wherever it lies. D21."""

import os

import pytest

from components.config import DataConfig, TableConfig
from components.media.addresses import MediaRoots
from components.media.fingerprint import catalogue_media_fingerprint, media_fingerprint


@pytest.fixture
def folder(tmp_path):
    for number in range(8):
        (tmp_path / f"{number}.wav").write_bytes(b"%d" % number)
    return tmp_path


def touch(path, data):
    status = path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1000))


def test_every_change_is_seen(folder):
    """A file edited to the same size in the same second, replaced, removed, added; not the order of the catalogue."""
    uris, roots = [f"{number}.wav" for number in range(8)], MediaRoots(str(folder))
    first = media_fingerprint(uris, roots)
    assert media_fingerprint(reversed(uris), roots) == first
    seen = {first}
    touch(folder / "3.wav", b"x")
    seen.add(media_fingerprint(uris, roots))
    (folder / "3.wav").rename(folder / "moved.wav")
    seen.add(media_fingerprint(uris, roots))
    seen.add(media_fingerprint([*uris, "moved.wav"], roots))
    seen.add(media_fingerprint(uris[:-1], roots))
    assert len(seen) == 5


def test_a_medium_that_can_be_read_since_is_seen(folder, monkeypatch):
    """Its size and time are those of before."""
    uris, roots = [f"{number}.wav" for number in range(8)], MediaRoots(str(folder))
    after = media_fingerprint(uris, roots)
    with monkeypatch.context() as patch:  # tests may run as root, who may read all
        patch.setattr(os, "access", lambda path, mode: not (str(path).endswith("/3.wav") and mode == os.R_OK))
        assert media_fingerprint(uris, roots) != after
    assert media_fingerprint(uris, roots) == after


def test_what_the_catalogue_does_not_name_does_not_matter(folder):
    roots = MediaRoots(str(folder))
    first = media_fingerprint(["1.wav"], roots)
    touch(folder / "2.wav", b"y")
    assert media_fingerprint(["1.wav"], roots) == first


@pytest.mark.parametrize("place", ["absolute", "file_address", "dot_folder", "through_a_link", "another_root"])
def test_a_replaced_medium_is_seen_wherever_it_lies(tmp_path, place):
    """D21."""
    root, other = tmp_path / "root", tmp_path / "other"
    for folder in (root / ".dot", root / "plain", other):
        folder.mkdir(parents=True)
    (root / "link").symlink_to(other)
    roots = MediaRoots(str(root), (str(other),))
    path, uri = {
        "absolute": (root / "a.wav", str(root / "a.wav")),
        "file_address": (root / "b #1.wav", (root / "b #1.wav").as_uri()),
        "dot_folder": (root / ".dot" / "c.wav", ".dot/c.wav"),
        "through_a_link": (other / "d.wav", "link/d.wav"),
        "another_root": (other / "e.wav", str(other / "e.wav")),
    }[place]
    path.write_bytes(b"1")
    before = media_fingerprint([uri], roots)
    touch(path, b"2")
    assert media_fingerprint([uri], roots) != before


def test_the_addresses_are_those_of_the_catalogue(folder):
    (folder / "items.csv").write_text("item_id,media_uri\na,1.wav\nb,\nc,../outside.wav\n")
    data = DataConfig(
        catalogue=TableConfig(path=str(folder / "items.csv")), events=TableConfig(path=""), media_root=str(folder)
    )
    before = catalogue_media_fingerprint(data)
    assert before == media_fingerprint(["1.wav", "../outside.wav"], MediaRoots(str(folder)))
    touch(folder / "1.wav", b"z")
    assert catalogue_media_fingerprint(data) != before
    (folder / "items.csv").write_text("item_id,title\na,A\n")
    assert catalogue_media_fingerprint(data) == ""
