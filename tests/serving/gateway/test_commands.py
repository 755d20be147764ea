"""The commands of the service: up, keys, store, loop, purge."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import yaml

from pipeline import cli
from pipeline.commands import purge, up
from pipeline.commands.loop import Progress
from pipeline.run_lock import one_run_at_a_time
from pipeline.supervisor import CannotStart, Child, Supervisor
from serving.gateway.config import LoopConfig
from serving.gateway.privacy import Pseudonyms, read_keys, rotating, tombstones_of
from serving.gateway.records import Event
from serving.gateway.stores.base import StoreUnavailable
from serving.gateway.stores.sqlite import SqliteStore
from tests.serving.gateway import running
from tests.serving.gateway.running import until


@pytest.fixture
def configuration(tmp_path):
    """A pipeline named as the tiny model, with tables and a work folder."""
    items = "".join(f"i{n},Title {n}\n" for n in range(running.NUM_ITEMS))
    (tmp_path / "items.csv").write_text("item_id,title\n" + items)
    (tmp_path / "events.csv").write_text("user_id,item_id,timestamp,event\nknown,i0,1700000000,like\n")
    (tmp_path / "work").mkdir()
    settings = {
        "name": "tiny",
        "work_dir": str(tmp_path / "work"),
        "data": {"catalogue": {"path": str(tmp_path / "items.csv")}, "events": {"path": str(tmp_path / "events.csv")}},
        "evaluation": {"min_gain_over_popularity": 0.0, "max_loss_to_last": 0.0},
        "gateway": {"budget_ms": 20_000},
    }
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(settings))
    return file


def children_of(pid):
    found = [int(child) for task in Path(f"/proc/{pid}/task").glob("*/children") for child in task.read_text().split()]
    return {child: Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode() for child in found}


def test_up_fills_the_store_answers_comes_back_after_a_kill_and_stops(configuration, model_server, tmp_path):
    log = tmp_path / "log"
    port = running.free_port()
    words = ("up", "--config", str(configuration), "--port", str(port), "--model-server", model_server.address)
    with log.open("wb") as output:
        up = subprocess.Popen(
            [sys.executable, "-m", "pipeline.cli", *words],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | {"PYTHONPATH": os.getcwd()},  # noqa: PTH109
        )
    until(lambda: "ready: " in log.read_text() or up.poll() is not None)
    assert up.poll() is None, log.read_text()
    assert "store: 30 items, 1 events, 0 people are new" in log.read_text()
    url = re.search(r"ready: (http://\S+?)/ ", log.read_text()).group(1)
    client = httpx.Client(base_url=url, timeout=30, trust_env=False)
    answer = client.get("/v1/users/known/recommendations", params={"k": 30}).json()
    assert "i0" not in [item["item_id"] for item in answer["items"]]
    assert not answer["is_new_user"]
    assert answer["items"][0]["title"].startswith("Title ")

    (child,) = children_of(up.pid)
    os.kill(child, signal.SIGKILL)
    until(lambda: child not in children_of(up.pid) and running.answers_on(port))
    assert client.get("/v1/users/known/recommendations", params={"k": 3}).json()["items"]
    assert "it is started again" in log.read_text()

    (child,) = children_of(up.pid)
    up.send_signal(signal.SIGINT)
    assert up.wait(timeout=60) == 0
    assert not Path(f"/proc/{child}").exists()
    client.close()


def test_without_a_pushed_model_up_says_what_to_do(configuration, capsys):
    assert cli.main(["up", "--config", str(configuration)]) == 2
    assert "no model has been pushed" in capsys.readouterr().err


def test_up_does_not_take_another_service_on_its_port_for_the_gateway(configuration, capsys):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        words = ("up", "--config", str(configuration), "--model-server", "127.0.0.1:1", "--port", port)
        assert cli.main(words) == 2
    assert f"cannot listen on 127.0.0.1, {port}: Address already in use" in capsys.readouterr().err


def test_a_child_that_has_ended_did_not_start_whoever_listens_on_its_port():
    supervisor = Supervisor([Child("gateway", [sys.executable, "-c", "raise SystemExit(2)"], os.environ)])
    supervisor.start("gateway")
    until(lambda: supervisor.has_ended("gateway"))
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(CannotStart, match="the gateway did not start"):
            up._wait(supervisor, "gateway", *other.getsockname())


def test_keys_are_made_listed_and_revoked(configuration, capsys):
    words = ["keys", "--config", str(configuration)]
    assert cli.main([*words, "add", "--name", "shop"]) == 0
    token = capsys.readouterr().out.split()[0]
    key_id = token.split("_")[1]
    assert cli.main([*words, "list"]) == 0
    assert re.search(rf"{key_id}  valid +read,write +never used +shop", capsys.readouterr().out)
    assert cli.main([*words, "revoke", "--key", key_id]) == 0
    assert cli.main([*words, "list"]) == 0
    assert f"{key_id}  revoked" in capsys.readouterr().out
    assert cli.main([*words, "revoke", "--key", "nothing"]) == 2


def test_pseudonyms_need_their_setting(configuration, capsys):
    assert cli.main(["keys", "--config", str(configuration), "rotate-pseudonyms"]) == 2
    assert "pseudonyms and key_file must be set" in capsys.readouterr().err


@pytest.fixture
def key_file(configuration, tmp_path):
    """Of the configuration, which has pseudonyms then; not made yet."""
    settings = yaml.safe_load(configuration.read_text())
    file = tmp_path / "people.key"
    settings["gateway"]["privacy"] = {"pseudonyms": True, "key_file": str(file)}
    configuration.write_text(yaml.safe_dump(settings))
    return file


def test_a_rotation_keeps_everybody_findable_and_the_key_file_closed(configuration, key_file, capsys):
    words = ["keys", "--config", str(configuration)]
    assert cli.main([*words, "make-pseudonyms"]) == 0
    assert cli.main([*words, "make-pseudonyms"]) == 2, "a key is never overwritten"
    assert cli.main([*words, "rotate-pseudonyms"]) == 0
    assert len(key_file.read_text().split()) == 2
    assert key_file.stat().st_mode & 0o077 == 0
    assert "0 people have new pseudonyms" in capsys.readouterr().out


def test_a_key_file_without_a_last_line_end_keeps_its_key(configuration, key_file):
    key_file.write_text("11" * 32)
    assert cli.main(["keys", "--config", str(configuration), "rotate-pseudonyms"]) == 0
    keys = read_keys(key_file)
    assert keys[0] == b"\x11" * 32 and [len(key) for key in keys] == [32, 32]


class Away:
    """A method of the store that does its work, and whose answer is lost once."""

    def __init__(self, monkeypatch, name):
        self._work, self._is_lost = getattr(SqliteStore, name), True
        monkeypatch.setattr(SqliteStore, name, lambda *arguments: self(*arguments))

    async def __call__(self, *arguments):
        done = await self._work(*arguments)
        if self._is_lost:
            self._is_lost = False
            raise StoreUnavailable("the answer was lost")
        return done


def kept_as(store):
    async def go(opened):
        return [one.user_id async for one in opened.events()]

    return running.run(go, store)


def test_a_rotation_that_is_cut_short_goes_on_with_the_same_key(configuration, key_file, tmp_path, monkeypatch, capsys):
    store = tmp_path / "work" / "store.sqlite"
    key_file.write_text("11" * 32 + "\n")
    before = Pseudonyms(read_keys(key_file))("known")
    running.run(lambda opened: opened.add_events([Event("e1", before, "i0", "like", 5)]), store)
    Away(monkeypatch, "rename_users")
    words = ["keys", "--config", str(configuration), "rotate-pseudonyms"]
    assert cli.main(words) == 2
    assert "rotate-pseudonyms again" in capsys.readouterr().err
    assert len(read_keys(key_file)) == 1 and rotating(key_file).stat().st_mode & 0o077 == 0
    (tmp_path / "work" / "serving" / "tiny" / "1").mkdir(parents=True)
    assert cli.main(["purge", "--config", str(configuration)]) == 2
    assert "rotate-pseudonyms again" in capsys.readouterr().err, "it would find only some people"
    assert cli.main(words) == 0
    assert len(read_keys(key_file)) == 2 and not rotating(key_file).exists()
    assert kept_as(store) == [Pseudonyms(read_keys(key_file))("known")]


def test_files_that_cannot_be_cleared_after_a_rotation_are_said_and_undo_nothing(
    configuration, key_file, tmp_path, monkeypatch, capsys
):
    store = tmp_path / "work" / "store.sqlite"
    key_file.write_text("11" * 32 + "\n")
    before = Pseudonyms(read_keys(key_file))("known")
    running.run(lambda opened: opened.add_events([Event("e1", before, "i0", "like", 5)]), store)
    Away(monkeypatch, "clear_files")
    assert cli.main(["keys", "--config", str(configuration), "rotate-pseudonyms"]) == 2
    said = capsys.readouterr().err
    assert "1 people have new pseudonyms" in said and "files may hold the old pseudonyms still" in said
    assert len(read_keys(key_file)) == 2 and not rotating(key_file).exists()
    assert kept_as(store) == [Pseudonyms(read_keys(key_file))("known")]


def test_the_loop_waits_for_a_store_that_is_away_and_says_so_once(configuration, monkeypatch, capsys):
    class Over(BaseException):
        """Of the test."""

    def number():
        away = RuntimeError("store: away")
        yield from (0, away, away, 0, away, Over(), away)

    found = number()

    def num_events(url):
        one = next(found)
        if isinstance(one, BaseException):
            raise one
        return one

    monkeypatch.setattr("pipeline.commands.loop._num_events", num_events)
    monkeypatch.setattr("time.sleep", lambda _: None)
    with pytest.raises(Over):
        cli.main(["loop", "--config", str(configuration)])
    assert capsys.readouterr().out.count("store: away; waiting for it") == 2
    assert cli.main(["loop", "--config", str(configuration)]) == 1, "one that was never there is not waited for"


def test_backup_and_restore(configuration, tmp_path, capsys, monkeypatch):
    store = tmp_path / "work" / "store.sqlite"
    running.fill(store)
    words = ["store", "--config", str(configuration), "--file", str(tmp_path / "copy.sqlite")]
    assert cli.main([*words, "backup"]) == 0
    running.run(lambda opened: opened.withdraw_item("i3"), store)
    assert cli.main([*words, "restore"]) == 0
    assert not running.run(lambda opened: opened.get_item("i3"), store).is_withdrawn
    assert cli.main(["store", "backup", "--config", str(configuration), "--store", "nowhere", "--file", "x"]) == 2
    assert "there is no store" in capsys.readouterr().err
    monkeypatch.setenv("ZHIYIN_STORE", "redis://:hidden@host/0")
    assert cli.main(["store", "backup", "--config", str(configuration), "--file", "x"]) == 2
    assert "no SQLite file" in (said := capsys.readouterr().err) and "hidden" not in said


def test_a_run_is_due_after_enough_events_or_enough_time_with_any():
    config = LoopConfig(min_new_events=100, max_wait_s=3600)
    read = Progress(num_events=1000, time_s=5000.0)
    assert not read.is_due(1099, 5001.0, config)
    assert read.is_due(1100, 5001.0, config)
    assert read.is_due(1001, 8600.0, config)
    assert not read.is_due(1000, 10**9, config), "nothing has happened"


def test_all_events_of_a_store_that_was_brought_back_from_an_older_copy_are_new():
    config = LoopConfig(min_new_events=100, max_wait_s=3600)
    read = Progress(num_events=1000, time_s=5000.0)
    assert read.is_due(100, 5001.0, config)
    assert not read.is_due(99, 5001.0, config)
    assert read.is_due(99, 8600.0, config)
    assert not read.is_due(0, 10**9, config)


def test_progress_is_read_as_it_was_written(tmp_path):
    file = tmp_path / "loop.json"
    assert Progress.read(file) == Progress()
    Progress(7, 8.5).write(file)
    assert Progress.read(file) == Progress(7, 8.5)


def test_a_purge_takes_what_was_there_when_it_began_and_lets_no_run_begin(configuration, tmp_path, monkeypatch):
    work = tmp_path / "work"
    versions = work / "serving" / "tiny"
    for left in ("1", "2", ".incoming/1/assets"):
        (versions / left).mkdir(parents=True)
    (versions / ".incoming/1/assets/user_ids.txt").write_text("known")
    (work / "lists-x1").mkdir()
    (work / "lists-x1" / "people-0000000.json").write_text('["known"]')
    (work / ".rejects.csv.partial").write_text("known")
    (work / "blessed").mkdir()
    record = {"model": "artifacts/RetrievalTrainer/model/3", "metric": "NDCG@10", "value": 0.5, "data": "d"}
    (work / "blessed" / "last_blessed.json").write_text(json.dumps(record))

    async def pushed_meanwhile(*_):
        with pytest.raises(RuntimeError, match="another run is using"), one_run_at_a_time(work):
            pass
        (versions / "3").mkdir()
        return 0

    monkeypatch.setattr(purge, "_forgotten_in", pushed_meanwhile)
    assert cli.main(["purge", "--config", str(configuration)]) == 0
    assert sorted(path.name for path in versions.iterdir()) == ["2", "3"]
    assert not list(work.glob("lists-*")) and not (work / ".rejects.csv.partial").exists()
    assert json.loads((work / "blessed" / "last_blessed.json").read_text()) == record | {"model": ""}


def test_purge_refuses_while_the_model_knows_somebody_who_was_forgotten(configuration, served_folder, tmp_path, capsys):
    work = tmp_path / "work"
    versions = work / "serving" / "tiny"
    shutil.copytree(served_folder, versions)
    for left in ("artifacts/EventGen/1", "checkpoints", "snapshots/abc"):
        (work / left).mkdir(parents=True)
        (work / left / "rows").write_text("known")

    async def forget(store):
        await store.forget_user("known", (await tombstones_of(store))("known"), 5)

    running.run(forget, work / "store.sqlite")
    words = ["purge", "--config", str(configuration)]
    assert cli.main(words) == 2
    assert "still knows 1 of the people" in capsys.readouterr().err
    assert (work / "artifacts").exists(), "nothing was touched"

    shutil.copytree(versions / "1", versions / "2")
    (work / "rejects.csv").write_text("events,known\n")
    users = versions / "2" / "assets" / "user_ids.txt"
    users.write_text(users.read_text().replace("known\n", ""))
    assert cli.main(words) == 0
    assert [path.name for path in versions.iterdir()] == ["2"]
    assert not any((work / left).exists() for left in ("artifacts", "checkpoints", "snapshots", "rejects.csv"))
