"""A model server swaps versions while a gateway is under load: no answer fails; a version that cannot serve is none."""

import shutil

import pytest

from tests.serving.gateway import running
from tests.serving.gateway.running import Load, until


@pytest.fixture
def versions(served_folder, tmp_path):
    """A folder of versions of the test's own, with the first."""
    folder = tmp_path / "versions"
    shutil.copytree(served_folder / "1", folder / "1")
    return folder


@pytest.fixture
def parts(versions, tmp_path):
    server = running.ModelServer(versions, tmp_path / "server.log")
    store = str(tmp_path / "store.sqlite")
    running.fill(store)
    gateway = running.Gateway(tmp_path / "gateway", running.settings(server, store))
    yield server, gateway
    gateway.stop()
    server.stop()


def test_a_new_version_comes_under_load_and_a_refused_one_changes_nothing(parts, versions, second_version, tmp_path):
    server, gateway = parts
    load = Load(gateway, budget_ms=60_000)
    until(lambda: len(load.answers) > 10)
    shutil.copytree(second_version, tmp_path / "second")
    (tmp_path / "second").rename(versions / "2")
    until(lambda: load.answers[-1]["model_version"] == 2)
    before = gateway.ids("reader", k=30)

    broken = tmp_path / "broken"
    shutil.copytree(versions / "2", broken)
    (broken / "saved_model.pb").write_bytes(b"no model")
    broken.rename(versions / "3")
    until(lambda: "3" in server.log() and "saved_model.pb" in server.log())
    count = len(load.answers)
    until(lambda: len(load.answers) > count + 20)
    load.stop()

    assert set(load.statuses) == {200}
    assert [answer for answer in load.answers if answer["degraded"]] == []
    seen = [answer["model_version"] for answer in load.answers]
    assert seen == sorted(seen) and set(seen) == {1, 2}
    assert gateway.ids("reader", k=30) == before
