"""The boundary of what media may be read: nothing outside the roots, and no word on whether something is there. D21,
D22."""

import os
import unicodedata

import pytest

from components.media.addresses import MediaRoots, is_address
from components.media.errors import MissingFile, NotAFile, OutsideRoots, UnreadableFile


def read(roots, media_uri):
    with roots.open_local(media_uri) as descriptor:
        return os.read(descriptor, 100)


@pytest.fixture
def places(tmp_path):
    """media/ with song.mp3 and links that lead out of it; secret/ and archive/ beside it."""
    for folder in ("media", "media/.hidden", "secret", "archive"):
        (tmp_path / folder).mkdir()
    for path in ("media/song.mp3", "media/.hidden/dot.mp3", "secret/key.pem", "archive/old.mp3"):
        (tmp_path / path).write_text(path)
    (tmp_path / "media/inside.mp3").symlink_to("song.mp3")
    (tmp_path / "media/link.mp3").symlink_to(tmp_path / "secret/key.pem")
    (tmp_path / "media/dangling.mp3").symlink_to(tmp_path / "secret/nothing.pem")
    (tmp_path / "media/out").symlink_to(tmp_path / "secret")
    (tmp_path / "media2").mkdir()
    (tmp_path / "media2/x.mp3").write_text("beside, with a name that begins alike")
    return tmp_path


@pytest.mark.parametrize(
    "uri",
    [
        "song.mp3",
        "inside.mp3",
        ".hidden/dot.mp3",
        "./song.mp3",
        "{root}/song.mp3",
        "file://{root}/song.mp3",
    ],
)
def test_what_lies_in_the_root_is_read(places, uri):
    """Relative, absolute, as a file:// address, in dot folders, through links that stay inside."""
    root = str(places / "media")
    assert read(MediaRoots(root), uri.format(root=root)).startswith(b"media/")


OUTSIDE = [
    "../secret/{name}", "{top}/secret/{name}", "file://{top}/secret/{name}", "file:{top}/secret/{name}", "out/{name}",
    "FILE://localhost{top}/secret/{name}", "file://{top}/media/%2e%2e/secret/{name}", "../media2/x.mp3",
    "{top}/media2/x.mp3", "/etc/{name}", "/proc/self/environ", "/dev/zero", "..", "/",
]  # fmt: skip


@pytest.mark.parametrize("uri", OUTSIDE)
def test_what_lies_outside_has_one_reason_whether_it_is_there_or_not(places, uri):
    roots = MediaRoots(str(places / "media"))
    told = set()
    for name in ("key.pem", "nothing.pem", "passwd"):
        with pytest.raises(OutsideRoots) as caught:
            read(roots, uri.format(top=places, name=name))
        told.add(caught.value.detail)
    assert len(told) == 1


@pytest.mark.parametrize("uri", ["link.mp3", "dangling.mp3"])
def test_links_that_lead_out_are_not_followed(places, uri):
    with pytest.raises(OutsideRoots):
        read(MediaRoots(str(places / "media")), uri)


def test_a_link_put_there_after_the_look_up_is_not_followed(places, monkeypatch):
    """The file is checked once more by its descriptor."""
    roots = MediaRoots(str(places / "media"))
    monkeypatch.setattr(MediaRoots, "place", lambda self, uri: str(places / "media/link.mp3"))
    with pytest.raises(OutsideRoots):
        read(roots, "link.mp3")


def test_further_roots_are_named(places):
    """A folder, and the root of a medium of its own; a link from one root into another is fine."""
    roots = MediaRoots(str(places / "media"), (str(places / "archive"),))
    assert read(roots, str(places / "archive/old.mp3")) == b"archive/old.mp3"
    (places / "media/old.mp3").symlink_to(places / "archive/old.mp3")
    assert read(roots, "old.mp3") == b"archive/old.mp3"
    with pytest.raises(OutsideRoots):
        read(roots, str(places / "secret/key.pem"))


def test_a_root_that_is_a_link_is_the_folder_behind_it(places):
    (places / "current").symlink_to(places / "media")
    assert read(MediaRoots(str(places / "current")), "song.mp3") == b"media/song.mp3"
    assert read(MediaRoots(str(places / "current")), str(places / "media/song.mp3")) == b"media/song.mp3"


def test_without_any_root_nothing_is_read(places, monkeypatch):
    monkeypatch.chdir(places / "media")
    for uri in ("song.mp3", str(places / "media/song.mp3"), "gs://bucket/a.mp3"):
        with pytest.raises(OutsideRoots, match=r"data\.media_root"):
            MediaRoots().place(uri)


def test_buckets_are_roots_too():
    roots = MediaRoots("gs://bucket/media/", ("s3://archive",))
    assert roots.place("a b#1.mp3") == "gs://bucket/media/a b#1.mp3"
    assert roots.place("gs://bucket/media/x/y.mp3") == "gs://bucket/media/x/y.mp3"
    assert roots.place("s3://archive/z.mp3") == "s3://archive/z.mp3"
    for uri in ("gs://bucket/other.mp3", "gs://bucket/media/../other.mp3", "gs://bucket/mediathek/x.mp3", "../x.mp3",
                "s3://archive2/z.mp3", "https://example.org/x.mp3", "/etc/passwd", "gs://", "nosuch://x"):  # fmt: skip
        with pytest.raises(OutsideRoots):
            roots.place(uri)


@pytest.mark.parametrize(
    "name", ["Track #1.mp3", "What's Up?.mp3", "100%.mp3", "a b.mp3", "ü.mp3", "x%20y.mp3", "[live] {1}.mp3"]
)
@pytest.mark.parametrize("encoded", [False, True])
def test_file_addresses_percent_encoded_or_not(tmp_path, name, encoded):
    """D22: the file that exists."""
    (tmp_path / name).write_text(name)
    uri = (tmp_path / name).as_uri() if encoded else f"file://{tmp_path}/{name}"
    assert read(MediaRoots(str(tmp_path)), uri).decode() == name


def test_the_path_that_was_tried_is_named(tmp_path):
    """D22."""
    with pytest.raises(MissingFile) as caught:
        read(MediaRoots(str(tmp_path)), f"file://{tmp_path}/Track%20%231.mp3")
    assert f"{tmp_path}/Track #1.mp3" in caught.value.detail
    assert f"{tmp_path}/Track%20%231.mp3" in caught.value.detail
    with pytest.raises(MissingFile, match=r"no such file: .*/no\.mp3$"):
        read(MediaRoots(str(tmp_path)), "no.mp3")


def test_names_in_another_unicode_form(tmp_path):
    (tmp_path / unicodedata.normalize("NFD", "Café.mp3")).write_text("x")
    assert read(MediaRoots(str(tmp_path)), unicodedata.normalize("NFC", "Café.mp3")) == b"x"


def test_what_is_no_file_or_cannot_be_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("x")
    (tmp_path / "self").symlink_to("self")
    roots = MediaRoots(str(tmp_path))
    for uri, error in [("pipe", NotAFile), ("folder", NotAFile), ("file/below", MissingFile), ("a\0b", MissingFile),
                       ("x" * 300, UnreadableFile), ("self", UnreadableFile)]:  # fmt: skip
        with pytest.raises(error):
            read(roots, uri)


def test_what_is_an_address():
    for text in ("gs://b/x", "s3://b", "HTTPS://x", "azfs://a/b"):
        assert is_address(text), text
    for text in ("a/b.mp3", "Part 1: x.mp3", "Part 1://x.mp3", "file:///x", "C:\\x.mp3", "://x"):
        assert not is_address(text), text
