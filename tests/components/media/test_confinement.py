"""A hostile decoder gets nothing but the medium it was given: no files, no network, no processes, no environment."""

import json
import os
import socket
import subprocess
import sys
from functools import partial

import pytest

from components.interpreter import ROOT, module_command
from components.media import confinement, isolation
from components.media.confinement import Confinement
from components.media.errors import NotMedia
from components.media.isolation import Decoder, Limits

# In place of the decoder: tries everything, and reports what it got as the detail of a reject.
HOSTILE = """
import ctypes, json, mmap, os, socket, subprocess, sys, threading
from components.media import extract, worker
from components.media.errors import NotMedia

def attempt(action):
    try:
        return f"got {action()!r}"[:200]
    except BaseException as error:
        return f"refused: {type(error).__name__} {error}"

def read(path):
    with open(path) as file:
        return file.read(100)

def write(path):
    with open(path, "w") as file:
        return file.write("x")

def connect(address, family=socket.AF_INET):
    with socket.socket(family) as client:
        client.connect(address)
        return "connected"

def thread():
    started = threading.Thread(target=lambda: None)
    started.start()
    return "started"

def syscall(*arguments):
    libc = ctypes.CDLL(None, use_errno=True)
    result = libc.syscall(*arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result

def hostile(source):
    try:
        wanted = json.loads(source)
    except ValueError:
        raise NotMedia("not for us")
    folder, port, parent = wanted["folder"], wanted["port"], wanted["parent"]
    attempts = {
        "read a file": lambda: read(f"{folder}/secret"),
        "read the passwords": lambda: read("/etc/passwd"),
        "look for a file": lambda: os.stat(f"{folder}/secret").st_size,
        "list a folder": lambda: os.listdir(folder),
        "write a file": lambda: write(f"{folder}/written"),
        "remove a file": lambda: os.remove(f"{folder}/secret"),
        "make a link": lambda: os.symlink("/etc/passwd", f"{folder}/link"),
        "change the mode": lambda: os.chmod(f"{folder}/secret", 0o777),
        "read another process's environment": lambda: read(f"/proc/{parent}/environ"),
        "read another process's memory": lambda: read(f"/proc/{parent}/mem"),
        "connect": lambda: connect(("127.0.0.1", port)),
        "listen": lambda: socket.socket().bind(("127.0.0.1", 0)),
        "connect to a local socket": lambda: connect(f"{folder}/socket", socket.AF_UNIX),
        "connect to an abstract socket": lambda: connect("\\0zhiyin-test", socket.AF_UNIX),
        "fork": lambda: os.fork() or os._exit(0),
        "start a program": lambda: subprocess.run(["/bin/true"]).returncode,
        "become a program": lambda: os.execv("/bin/true", ["true"]),
        "start a thread": thread,
        "end the run": lambda: os.kill(parent, 9),
        "trace the run": lambda: syscall(101, 16, parent, 0, 0),
        "make a file in memory": lambda: os.memfd_create("x"),
        "be somebody else": lambda: os.setuid(0),
        "lift a limit": lambda: __import__("resource").setrlimit(6, (100, 100)),
        "reach the rings of the kernel": lambda: syscall(425, 8, 0),
    }
    report = {name: attempt(action) for name, action in attempts.items()}
    report["environment"] = sorted(os.environ)
    raise NotMedia(json.dumps(report))

extract.extract = hostile
worker.main(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]))
"""
ALL = ("user without rights", "limits", "own network namespace", "Landlock", "seccomp")


@pytest.fixture
def report(tmp_path, monkeypatch):
    """What the hostile worker got; and the confinement that was claimed."""
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "secret").chmod(0o644)
    tmp_path.chmod(0o777)
    (tmp_path / "hostile_worker.py").write_text(HOSTILE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(isolation, "worker_command", partial(module_command, "hostile_worker"))
    monkeypatch.setenv("SECRET_TOKEN", "x")
    with socket.create_server(("127.0.0.1", 0)) as server, Decoder(Limits(time_s=20)) as decoder:
        wanted = {"folder": str(tmp_path), "port": server.getsockname()[1], "parent": os.getpid()}
        with pytest.raises(NotMedia) as caught:
            decoder.extract(json.dumps(wanted).encode())
        yield json.loads(caught.value.detail), decoder.confinement(), tmp_path


def test_a_hostile_decoder_gets_nothing(report):
    """Each attempt is refused where the machine offers what refuses it; what it does not offer is said."""
    told, claimed, folder = report
    environment = set(told.pop("environment"))
    assert environment <= {
        "PYTHONPATH",
        "OPENBLAS_NUM_THREADS",
        "OMP_NUM_THREADS",
        "MKL_NUM_THREADS",
        "LD_LIBRARY_PATH",
        "LC_CTYPE",
    }
    held = " ".join(claimed.held)
    if "seccomp" not in held:
        pytest.skip(f"this machine does not filter system calls: {claimed}")
    assert {name: said for name, said in told.items() if not said.startswith("refused: ")} == {}
    assert (folder / "secret").read_text() == "secret"
    assert not (folder / "written").exists()


def only(measures, action):
    """What a process that takes these measures alone gets when it then does that."""
    script = f"""
import os, socket, threading
from components.media import confinement
taken = {{name: take for name, take in confinement._MEASURES.items() if name.startswith({tuple(measures)!r})}}
confinement._MEASURES = taken
held = confinement.confine()
try:
    {action}
    print("got it", held.missing)
except (OSError, RuntimeError) as error:
    print("refused", held.missing)
"""
    command = [sys.executable, "-c", script]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env={"OPENBLAS_NUM_THREADS": "1"}, check=True
    )
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("measure", "action"),
    [
        ("Landlock", "open('/etc/passwd')"),
        ("Landlock", "socket.create_server(('127.0.0.1', 0))"),
        ("seccomp", "open('/etc/passwd')"),
        ("seccomp", "socket.socket()"),
        ("own network", "socket.create_connection(('127.0.0.1', {port}), 5)"),
        ("limits", "os.write(os.open('{folder}/written', os.O_CREAT | os.O_WRONLY), b'x')"),
    ],
)
def test_each_measure_holds_alone(measure, action, tmp_path):
    """Where one of them is not to be had, the others do their part."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        action = action.format(port=server.getsockname()[1], folder=tmp_path)
        assert only([], action) == "got it ()"
        said = only([measure], action)
    if not said.endswith(" ()"):
        pytest.skip(f"not available here: {said}")
    assert said == "refused ()"


def test_no_process_is_started_by_a_user_without_rights():
    """The bound of a fork bomb without the filter of system calls."""
    assert only(["user", "limits"], "os.fork() or os._exit(0)") == "refused ()"
    assert only(["user", "limits"], "threading.Thread(target=print).start()") == "refused ()"


def test_what_is_not_available_is_said_and_the_rest_holds(monkeypatch):
    def missing():
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(confinement, "_MEASURES", {"first": missing, "second": lambda: None})
    found = confinement.confine()
    assert found == Confinement(
        ("empty environment, descriptors handed over", "second"), ("first (Function not implemented)",)
    )
    assert str(found).endswith("second; not available here: first (Function not implemented)")


def test_this_machine_or_a_word(clips):
    """Each measure is either held or named as missing, and the decoder decodes."""
    with Decoder() as decoder:
        claimed = decoder.confinement()
        assert len(claimed.held) - 1 + len(claimed.missing) == len(ALL)
        for name in ALL:
            assert any(text.startswith(name) for text in (*claimed.held, *claimed.missing))
        assert decoder.extract(clips.audio(clips.tone(0.3))).has_audio
