"""Media in buckets: limits of time and size, retries, and no file system of others ends a run."""

import io
import threading
import time

import pytest
from apache_beam.io.filesystem import BeamIOError, FileSystem

from components.media import features
from components.media.addresses import MediaRoots
from components.media.downloads import DownloadLimits, Downloads, within
from components.media.errors import MissingFile, OutsideRoots, TimedOut, TooLarge, UnreadableFile, UnsupportedUri
from components.media.features import MediaFiles

DATA = bytes(range(256)) * 100


class _Bucket(FileSystem):
    """A bucket in memory whose objects behave as their names say."""

    opened: list[str] = []  # noqa: RUF012 - shared by the instances that Beam makes
    quiet = threading.Event()

    @classmethod
    def scheme(cls):
        return "testbucket"

    def open(self, path, mime_type=None, compression_type=None):
        self.opened.append(path)
        name = path.rpartition("/")[2]
        if name == "missing":
            raise FileNotFoundError(path)
        if name == "denied":
            raise BeamIOError("403 Forbidden")
        if name == "odd":
            raise AssertionError("boto3 is not installed")
        if name == "setup":
            raise ValueError("pipeline_options is not set")
        if name == "silent":
            self.quiet.wait(30)
        if name == "second_time" and self.opened.count(path) < 2:
            raise BeamIOError("503 Service Unavailable")
        return _Slow() if name == "slow" else io.BytesIO(DATA)

    def _unused(self, *_):
        raise NotImplementedError

    match = _list = join = split = mkdirs = has_dirs = create = copy = rename = exists = size = _unused
    last_updated = checksum = metadata = delete = _unused


class _Slow(io.RawIOBase):
    """Gives a byte now and then, for ever."""

    def readable(self):
        return True

    def readinto(self, buffer):
        time.sleep(0.05)
        buffer[:1] = b"x"
        return 1


@pytest.fixture(autouse=True)
def bucket():
    _Bucket.opened.clear()
    _Bucket.quiet.clear()
    yield _Bucket
    _Bucket.quiet.set()


def limits(**changed):
    return DownloadLimits(**({"answer_s": 0.3, "time_s": 1.0, "pause_s": 0.01} | changed))


def fetch(downloads, name):
    with downloads.fetched(f"testbucket://b/{name}") as descriptor, open(descriptor, "rb", closefd=False) as file:
        file.seek(0)
        return file.read()


def test_a_medium_is_a_temporary_copy(bucket):
    assert fetch(Downloads(limits()), "a b#1.mp3") == DATA
    assert bucket.opened == ["testbucket://b/a b#1.mp3"]


@pytest.mark.parametrize(
    ("name", "error", "attempts"),
    [
        ("missing", MissingFile, 1),
        ("denied", UnreadableFile, 3),
        ("odd", UnreadableFile, 3),
        ("setup", UnsupportedUri, 1),
        ("slow", TimedOut, 1),
    ],
)
def test_each_failure_is_a_reason(bucket, name, error, attempts):
    """What may pass is tried again, what will not is not."""
    with pytest.raises(error):
        fetch(Downloads(limits()), name)
    assert len(bucket.opened) == attempts


def test_a_second_attempt_helps(bucket):
    assert fetch(Downloads(limits()), "second_time") == DATA
    assert len(bucket.opened) == 2


def test_the_size_is_limited():
    with pytest.raises(TooLarge):
        fetch(Downloads(limits(size_bytes=1000)), "large")


def test_a_bucket_that_does_not_answer_is_left_alone(bucket):
    """Thousands of media in an unreachable bucket cost two waits and not thousands; another bucket is not concerned."""
    downloads = Downloads(limits(rest_s=60.0))
    for _ in range(20):
        with pytest.raises(TimedOut):
            fetch(downloads, "silent")
    assert len(bucket.opened) == 2
    with downloads.fetched("testbucket://other/x"):
        pass


def test_schemes_that_nothing_serves_here_are_rejects():
    """Their packages are not installed, or not set up: Beam's own errors are of any class."""
    downloads = Downloads(DownloadLimits(pause_s=0.01))
    for address in ("nosuch://b/x", "https://example.org/x.mp3", "azfs://a/b/x.mp3", "s3://b/x.mp3", "hdfs://h/x.mp3"):
        with pytest.raises((UnsupportedUri, UnreadableFile)), downloads.fetched(address):
            pass


def test_media_of_buckets_and_folders_by_one_door(tmp_path, monkeypatch):
    (tmp_path / "local.mp3").write_bytes(DATA)
    files = MediaFiles(MediaRoots("testbucket://b", (str(tmp_path),)))
    for uri in ("remote.mp3", str(tmp_path / "local.mp3")):
        with files.opened(uri) as descriptor, open(descriptor, "rb", closefd=False) as file:
            file.seek(0)
            assert file.read() == DATA
    with pytest.raises(OutsideRoots), files.opened("testbucket://c/x.mp3"):
        pass
    assert features.is_address("testbucket://b/x")


def test_a_listing_that_does_not_come_is_given_up():
    """A run without a network starts in seconds."""
    with pytest.raises(TimedOut):
        within(0.1, lambda: time.sleep(5))
    with pytest.raises(UnreadableFile, match="RuntimeError: unreachable"):
        within(5.0, unreachable)
    assert within(5.0, lambda: "listed") == "listed"


def unreachable():
    raise RuntimeError("unreachable")
