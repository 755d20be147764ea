"""A person who asks to be forgotten, over a whole life of the service: no byte that is left names them."""

from __future__ import annotations

import csv
import gzip
import hashlib
import hmac
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.e2e.test_demo_line import ROOT, SETTINGS, zhiyin

PERSON = "Élodie.Quintessence@example.org"  # occurs nowhere else by chance
KEY = bytes(range(32))
START_S = 300
NEWCOMERS = 12  # who ask for lists


def pseudonym(user_id: str) -> str:
    """As docs/privacy.md says it is made."""
    return "p_" + hmac.new(KEY, user_id.encode(), hashlib.sha256).hexdigest()


def rename_first_person(table: Path) -> int:
    """Give the first person of a table of events the name that is looked for; returns how many rows they have."""
    with table.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    first = rows[0]["user_id"]
    theirs = [row for row in rows if row["user_id"] == first]
    for row in theirs:
        row["user_id"] = PERSON
    with table.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return len(theirs)


def contents(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every file's bytes below a folder, those of compressed ones unpacked, and every path."""
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        data = file.read_bytes()
        yield str(file.relative_to(folder)), data
        if data[:2] == b"\x1f\x8b":
            yield f"{file.relative_to(folder)} unpacked", gzip.decompress(data)


def naming(folder: Path, *names: str) -> set[str]:
    """The files that hold one of the names, in the encodings that text is written in."""
    wanted = {name.encode() for name in names}
    wanted |= {json.dumps(name).strip('"').encode() for name in names}
    wanted |= {name.encode("utf-16-le") for name in names}
    return {path for path, data in contents(folder) if any(one in data or one in path.encode() for one in wanted)}


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a world, in which the line has run once, with pseudonyms."""
    from pipeline.sources.demo.dataset import DemoConfig, write_demo

    folder = tmp_path_factory.mktemp("forgetting")
    write_demo(folder / "world", DemoConfig(seed=2, num_items=30, num_people=40, num_events=900))
    assert rename_first_person(folder / "world" / "events.csv") > 3
    (folder / "keys").write_text(KEY.hex() + "\n")
    settings = {key: value for key, value in SETTINGS.items() if key != "ground_truth"} | {
        "data": {
            "catalogue": {"path": "world/catalogue.csv"},
            "events": {"path": "world/events.csv"},
            "media_root": "world",
        },
        "gateway": {"privacy": {"pseudonyms": True, "key_file": "keys"}},
        "drift": {"min_people_asked": NEWCOMERS},
        "work_dir": "work",
    }
    (folder / "tiny.yaml").write_text(yaml.safe_dump(settings, allow_unicode=True), encoding="utf-8")
    done = zhiyin("run", "--config", "tiny.yaml", cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def ask(method: str, url: str, body: dict | None = None) -> tuple[int, dict]:
    """Status and JSON body of a call."""
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
            return answer.status, json.loads(answer.read() or b"{}")
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"{}")


def with_service(folder: Path, calls) -> None:
    """Run the calls on a service that `zhiyin up` starts, with its output in the work folder."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {"PYTHONPATH": str(ROOT), "TF_USE_LEGACY_KERAS": "1", "PATH": "/usr/bin:/bin", "HOME": str(folder)}
    command = [sys.executable, "-m", "pipeline.cli", "up", "--config", "tiny.yaml", "--port", str(port)]
    with (folder / "work" / "up.log").open("ab") as log:
        service = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT)
    url, until = f"http://127.0.0.1:{port}", time.monotonic() + START_S
    try:
        while True:
            assert service.poll() is None, (folder / "work" / "up.log").read_text()
            assert time.monotonic() < until, (folder / "work" / "up.log").read_text()
            try:
                if ask("GET", f"{url}/health/ready")[1]["status"] == "ok":
                    break
            except OSError:
                time.sleep(0.5)
        calls(url)
    finally:
        os.kill(service.pid, signal.SIGTERM)
        service.wait(timeout=60)


@pytest.mark.e2e
@pytest.mark.slow
def test_after_delete_the_next_run_and_a_purge_no_byte_names_the_person(work: Path) -> None:
    quoted = urllib.request.quote(PERSON)

    def live(url: str) -> None:
        """The person is served, acts, and asks to be forgotten; another one acts, too."""
        assert ask("GET", f"{url}/v1/users/{quoted}/recommendations?k=5")[1]["items"]
        items = [item["item_id"] for item in ask("GET", f"{url}/v1/items?limit=5")[1]["items"]]
        for number in range(NEWCOMERS):
            assert ask("GET", f"{url}/v1/users/newcomer-{number}/recommendations?k=5")[1]["is_new_user"]
        for user_id in (PERSON, "somebody-else"):
            body = {"user_id": user_id, "item_id": items[0], "event": "like"}
            assert ask("POST", f"{url}/v1/events", body)[1]["accepted"] == 1
        assert naming(work / "work", pseudonym(PERSON)), "or this test could not find anything"
        status, told = ask("DELETE", f"{url}/v1/users/{quoted}")
        assert (status, told["user_id"]) == (200, PERSON)
        assert told["events_deleted"] > 3
        assert ask("GET", f"{url}/v1/users/{quoted}/data")[0] == 404

    with_service(work, live)
    trained = zhiyin("loop", "--once", "--config", "tiny.yaml", cwd=work)
    assert trained.returncode == 3, trained.stdout + trained.stderr
    assert "pushed version" in trained.stdout, trained.stdout
    skewed = [line for line in trained.stdout.splitlines() if line.startswith("skew: ") and "history" in line]
    assert skewed, f"newcomers alone have asked of a version that was trained on histories: {trained.stdout}"
    purged = zhiyin("purge", "--config", "tiny.yaml", cwd=work)
    assert purged.returncode == 0, purged.stdout + purged.stderr

    assert naming(work / "work", PERSON, pseudonym(PERSON)) == set()
    assert naming(work / "work", pseudonym("somebody-else")), "the others stay"
    assert naming(work / "work", "somebody-else") == set(), "under their pseudonyms alone"
