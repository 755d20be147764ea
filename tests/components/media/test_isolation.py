"""Whatever a decoder does, it costs one item: hangs, memory, crashes, a parent that dies."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from components.interpreter import ROOT
from components.media import isolation
from components.media.audio import sample_segments
from components.media.errors import Crashed, DecoderUnavailable, EmptyFile, OutOfMemory, TimedOut, UnreadableContainer
from components.media.extract import extract
from components.media.isolation import Decoder, Limits

# A decoder that misbehaves as the name of the file says, in place of the real one, in the child process only.
MISBEHAVE = """
import os, sys, time
import components.media.extract as real
def extract(source, good=real.extract):
    name = source if isinstance(source, str) else ""
    if "hang" in name:
        while True: pass
    if "sleep" in name: time.sleep(3600)
    if "segfault" in name: import ctypes; ctypes.string_at(0)
    if "exit" in name: os._exit(3)
    if "memory" in name: bytearray(8 << 30)
    return good(source)
real.extract = extract
"""


@pytest.fixture
def hostile(tmp_path, monkeypatch):
    """A Decoder whose child runs MISBEHAVE first."""
    (tmp_path / "sitecustomize.py").write_text(MISBEHAVE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with Decoder(Limits(time_s=1.5, memory_bytes=1 << 30)) as decoder:
        yield decoder


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
        for name, value in vars(decoder.segments(str(path))).items():
            np.testing.assert_array_equal(value, getattr(sample_segments(str(path)), name))
        with pytest.raises(EmptyFile):
            decoder.segments(str(tmp_path / "empty.wav"))


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
def test_one_bad_item_costs_one_item(hostile, clips, tmp_path, name, error):
    """The next item is decoded as if nothing had been."""
    good, bad = tmp_path / "good.wav", tmp_path / f"{name}.wav"
    for path in (good, bad):
        path.write_bytes(clips.audio(clips.tone(0.2)))
    expected = hostile.extract(good).audio_log_mel
    begin = time.monotonic()
    with pytest.raises(error):
        hostile.extract(bad)
    assert time.monotonic() - begin < 5
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
def test_no_orphans(tmp_path, clips, busy):
    """The parent is killed without warning: an idle child ends at once, one that hangs when its time is up."""
    (tmp_path / "sitecustomize.py").write_text(MISBEHAVE)
    for name in ("good", "hang"):
        (tmp_path / f"{name}.wav").write_bytes(clips.audio(clips.tone(0.2)))
    script = f"""
import threading, time
from components.media.isolation import Decoder, Limits
decoder = Decoder(Limits(time_s=2.0))
decoder.extract({str(tmp_path / "good.wav")!r})
if {busy}: threading.Thread(target=decoder.extract, args=({str(tmp_path / "hang.wav")!r},), daemon=True).start()
time.sleep(0.3)
print(decoder._process.pid, flush=True)
time.sleep(60)
"""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, env=environment) as parent:
        child = int(parent.stdout.readline())
        assert alive(child)
        parent.kill()
        parent.wait()
        deadline = time.monotonic() + (8 if busy else 4)
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
    (tmp_path / "av.py").write_text("raise ImportError('libavcodec.so.62: cannot open shared object file')")
    (tmp_path / "sitecustomize.py").write_text(f"import sys; sys.path.insert(0, {str(tmp_path)!r})")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with Decoder() as decoder, pytest.raises(DecoderUnavailable, match=r"PyAV.*libavcodec"):
        decoder.extract(clips.audio(clips.tone(0.2)))


def test_the_child_knows_neither_tensorflow_nor_beam():
    """It starts fast and stays small."""
    script = "import sys, components.media.extract; print([m for m in ('tensorflow', 'apache_beam', 'tfx') if m in sys.modules])"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert subprocess.check_output([sys.executable, "-c", script], env=environment, text=True).strip() == "[]"
