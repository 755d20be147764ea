"""Whatever a decoder does, it costs one item: hangs, memory, crashes, a parent that dies."""

import os
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest

from components.interpreter import ROOT, module_command
from components.media import isolation
from components.media.audio import sample_segments
from components.media.errors import Crashed, DecoderUnavailable, EmptyFile, OutOfMemory, TimedOut, UnreadableContainer
from components.media.extract import extract
from components.media.isolation import Decoder, Limits
from components.media.video import LARGE, sample_key_frames

# A worker whose decoder misbehaves as the medium's title says, in place of the real one, in the child process only.
MISBEHAVE = """
import sys, threading
from components.media import extract, worker
def misbehave(source, good=extract.extract):
    data = source if isinstance(source, bytes) else source.read()
    if b"hang" in data:
        while True: pass
    if b"sleep" in data:
        lock = threading.Lock()
        while True: lock.acquire()
    if b"segfault" in data: import ctypes; ctypes.string_at(0)
    if b"exit" in data: import os; os._exit(3)
    if b"memory" in data: bytearray(8 << 30)
    return good(data)
extract.extract = misbehave
worker.main(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]))
"""


def worker_of(folder, script, monkeypatch):
    """From here on the child runs this script."""
    (folder / "other_worker.py").write_text(script)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr(isolation, "worker_command", partial(module_command, "other_worker"))


@pytest.fixture
def hostile(tmp_path, monkeypatch):
    """A Decoder whose child runs MISBEHAVE."""
    worker_of(tmp_path, MISBEHAVE, monkeypatch)
    with Decoder(Limits(time_s=1.5, memory_bytes=1 << 30)) as decoder:
        yield decoder


def titled(clips, title):
    """A tone with that title in a comment."""
    return clips.audio(clips.tone(0.2)) + title.encode()


def alive(process_id):
    try:
        return Path(f"/proc/{process_id}/stat").read_text().split(") ")[1][0] != "Z"
    except FileNotFoundError:
        return False


def test_the_same_segments_as_in_process(clips, tmp_path):
    """The sound itself, for encoders of other people; a file that is none is refused for the same reason."""
    path = tmp_path / "tone.wav"
    path.write_bytes(clips.audio(clips.tone(4.0)))
    (tmp_path / "empty.wav").write_bytes(b"")
    with Decoder() as decoder:
        there, here = decoder.segments(str(path)), sample_segments(str(path))
        for name in ("waveforms", "num_samples", "starts_s", "duration_s", "notes"):
            np.testing.assert_array_equal(getattr(there, name), getattr(here, name), err_msg=name)
        with pytest.raises(EmptyFile):
            decoder.segments(str(tmp_path / "empty.wav"))


def test_the_same_large_pictures_as_in_process(clips):
    """Those that the stored features show, four to five times as large."""
    data = clips.video(clips.moving(40))
    with Decoder() as decoder:
        there, here, small = decoder.pictures(data), sample_key_frames(data, large=True), decoder.extract(data)
    for name in ("pictures", "times_s", "duration_s"):
        np.testing.assert_array_equal(getattr(there, name), getattr(here, name), err_msg=name)
    assert there.pictures.shape == (small.video_num_frames, LARGE, LARGE, 3)
    np.testing.assert_array_equal(there.times_s, small.video_times_s[: small.video_num_frames])
    for large, stored in zip(there.pictures, small.video_frames):
        shrunk = cv2.resize(large, stored.shape[:2], interpolation=cv2.INTER_AREA)
        assert np.abs(shrunk.astype(int) - stored).mean() < 4


def test_the_same_arrays_as_in_process(clips):
    """Audio alone, video alone, both: equal to the last bit, from bytes and from a path."""
    with Decoder() as decoder:
        for data in (
            clips.audio(clips.tone(5.0)),
            clips.video(clips.moving(20)),
            clips.video(clips.moving(20), sound=clips.tone(1.0)),
        ):
            here, there = extract(data), decoder.extract(data)
            for name, value in vars(here).items():
                np.testing.assert_array_equal(getattr(there, name), value, err_msg=name)


def test_errors_come_back_with_ffmpegs_words(clips, tmp_path):
    """C20: the reason and "moov atom not found"."""
    data = clips.video(np.random.default_rng(0).integers(0, 255, (25, 64, 64, 3), dtype=np.uint8))
    with Decoder() as decoder:
        with pytest.raises(UnreadableContainer, match="moov atom not found"):
            decoder.extract(data[:3000])
        with pytest.raises(EmptyFile):
            decoder.extract(b"")


@pytest.mark.parametrize(
    ("name", "error"),
    [("hang", TimedOut), ("sleep", TimedOut), ("segfault", Crashed), ("exit", Crashed), ("memory", OutOfMemory)],
)
def test_one_bad_item_costs_one_item(hostile, clips, name, error):
    """The next item is decoded as if nothing had been."""
    good, bad = titled(clips, "good"), titled(clips, name)
    expected = hostile.extract(good).audio_log_mel
    with pytest.raises(error):
        hostile.extract(bad)
    np.testing.assert_array_equal(hostile.extract(good).audio_log_mel, expected)


def test_one_process_serves_many_items_and_closing_ends_it(clips):
    data = clips.audio(clips.tone(0.2))
    decoder = Decoder()
    decoder.extract(data)
    first = decoder._process.pid
    decoder.extract(data)
    assert decoder._process.pid == first
    decoder.close()
    assert not alive(first)
    decoder.extract(data)
    second = decoder._process.pid
    assert second != first
    del decoder
    assert not alive(second), "also where nobody closes it"


def test_a_worker_is_replaced_after_its_share(clips, monkeypatch):
    monkeypatch.setattr(isolation, "ITEMS_PER_WORKER", 2)
    data = clips.audio(clips.tone(0.2))
    with Decoder() as decoder:
        processes = []
        for _ in range(5):
            decoder.extract(data)
            processes.append(decoder._process.pid)
    assert len(set(processes)) == 3


def test_a_worker_that_died_while_idle_is_replaced(clips):
    data = clips.audio(clips.tone(0.2))
    with Decoder() as decoder:
        decoder.extract(data)
        decoder._process.kill()
        decoder._process.wait()
        assert decoder.extract(data).has_audio


@pytest.mark.parametrize("busy", [False, True])
def test_no_orphans(tmp_path, clips, busy, monkeypatch):
    """The parent is killed without warning: an idle child ends at once, one that hangs when its time is up."""
    (tmp_path / "other_worker.py").write_text(MISBEHAVE)
    for name in ("good", "hang"):
        (tmp_path / f"{name}.wav").write_bytes(titled(clips, name))
    script = f"""
import sys, threading, time
from components.interpreter import module_command
sys.path.insert(0, {str(tmp_path)!r})
from components.media import isolation
from components.media.isolation import Decoder, Limits
isolation.worker_command = lambda *words: module_command("other_worker", *words)
decoder = Decoder(Limits(time_s=2.0))
decoder.extract({str(tmp_path / "good.wav")!r})
if {busy}: threading.Thread(target=decoder.extract, args=({str(tmp_path / "hang.wav")!r},), daemon=True).start()
time.sleep(0.3)
print(decoder._process.pid, flush=True)
time.sleep(60)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, env=environment) as parent:
        child = int(parent.stdout.readline())
        assert alive(child)
        parent.kill()
        parent.wait()
        deadline = time.monotonic() + 30
        while alive(child) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not alive(child)


def test_threads_each_with_their_own(clips):
    """As Beam's worker threads use it."""
    data = clips.audio(clips.tone(1.0))
    expected = extract(data).audio_log_mel
    results = []

    def work():
        with Decoder() as decoder:
            results.extend(decoder.extract(data).audio_log_mel for _ in range(5))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 15
    for result in results:
        np.testing.assert_array_equal(result, expected)


def test_no_decoder_on_this_machine(tmp_path, monkeypatch, clips):
    """C25: without PyAV the first item stops the run, naming what is missing; it is not one reject after the other."""
    script = """
import runpy, sys
sys.path.insert(0, sys.path.pop())
runpy.run_module("components.media.worker", run_name="__main__")
"""
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "av.py").write_text("raise ImportError('libavcodec.so.62: cannot open shared object file')")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "broken")])
    worker_of(tmp_path, script, monkeypatch)
    with Decoder() as decoder, pytest.raises(DecoderUnavailable, match=r"PyAV.*libavcodec"):
        decoder.extract(clips.audio(clips.tone(0.2)))


def test_the_child_knows_neither_tensorflow_nor_beam():
    """It starts fast and stays small."""
    heavy = ("tensorflow", "apache_beam", "tfx")
    script = f"import sys, components.media.extract; print([name for name in {heavy} if name in sys.modules])"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert subprocess.check_output([sys.executable, "-c", script], env=environment, text=True).strip() == "[]"
