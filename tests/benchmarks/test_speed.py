"""The benchmark of commands: two checkouts in turn, their processor seconds, and faults in words."""

from pathlib import Path

import pytest

from benchmarks import speed
from components.settings import SettingsError

CLI = """
import http.server, json, subprocess, sys, time
from pathlib import Path

BURNT_S = {burnt_s}

def burn():
    while time.process_time() < BURNT_S:
        pass

class Answer(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({{"outputs": {{"count": [3]}}}}).encode())

command = sys.argv[1]
if command == "serve":
    port = int(sys.argv[-1].partition("=")[2])
    http.server.HTTPServer(("127.0.0.1", port), Answer).serve_forever()
if command == "demo":
    Path("runs").mkdir(exist_ok=True)
if command == "explain":
    sys.exit("zhiyin: no such item")
subprocess.run([sys.executable, "-c", "import time\\nwhile time.process_time() < {burnt_s}: pass"], check=True)
burn()
"""


@pytest.fixture()
def checkouts(tmp_path, monkeypatch) -> dict[str, Path]:
    """Two folders of code, of which the earlier one burns more processor time."""
    made = {}
    for name, burnt_s in (("ours", 0.2), ("before", 0.5)):
        made[name] = tmp_path / name
        (made[name] / "pipeline").mkdir(parents=True)
        (made[name] / "pipeline" / "__init__.py").touch()
        (made[name] / "pipeline" / "cli.py").write_text(CLI.format(burnt_s=burnt_s))
    monkeypatch.setattr(speed, "ROOT", made["ours"])
    return made


def test_both_checkouts_are_measured_with_their_children(checkouts):
    """A command burns its seconds and its child as many; nothing is written to a checkout."""
    rows = speed.run(None, ("recommend",), checkouts["before"])
    seconds = {row["contender"]: row for row in rows if row["metric"] == "cpu_seconds"}
    assert {row["case"] for row in rows} == {"recommend"} and {row["runs"] for row in rows} == {speed.RUNS}
    assert seconds["ours"]["low"] >= 2 * 0.2 - 0.05 and seconds["before"]["low"] >= 2 * 0.5 - 0.05
    assert seconds["ours"]["low"] <= seconds["ours"]["value"] <= seconds["ours"]["high"]
    assert not (checkouts["before"] / "runs").exists() and not (checkouts["ours"] / "runs").exists()


def test_a_server_is_measured_to_its_first_answer_and_ended(checkouts):
    rows = speed.run(None, ("serve",))
    assert {row["contender"] for row in rows} == {"ours"}
    assert {row["metric"] for row in rows} == {"cpu_seconds", "seconds"} and all(row["value"] > 0 for row in rows)


def test_a_command_that_fails_says_what_it_said(checkouts):
    with pytest.raises(RuntimeError, match="explain .*: zhiyin: no such item"):
        speed.run(None, ("explain",))


def test_unknown_cases_and_folders_are_refused(tmp_path):
    with pytest.raises(SettingsError, match="--case: got coffee"):
        speed.run(None, ("coffee",))
    with pytest.raises(SettingsError, match="--before: .* is no checkout"):
        speed.run(None, ("demo",), tmp_path)
