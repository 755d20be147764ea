"""A version that does not load keeps nobody from answering: not its own model, by the version before, and no other."""

from __future__ import annotations

import os
import shutil
import time

import pytest
from grpc import StatusCode
from tensorflow_serving.apis.model_management_pb2 import ReloadConfigRequest

from serving.model_server import loader, model_versions
from serving.model_server.config import ModelSettings, ServerConfig
from serving.model_server.errors import ServingError
from serving.model_server.server import start
from tests.serving.model_server.life_cycle import POLL_S, answering_version, health, states

PARTS = ["saved_model.pb", "variables", "variables/variables.index", "variables/variables.data-00000-of-00001"]


def half_copied(version, part: str) -> None:
    """Leave one file or folder out, as a copy under way does."""
    (version / part).rename(version.parent.parent / f"{version.parent.name}.{version.name}.aside")


@pytest.mark.parametrize("missing", PARTS)
def test_a_half_copied_version_is_never_served_and_taken_when_whole(serving, publish, missing, wait_until):
    base = publish(1)
    with serving(ModelSettings("m", str(base))) as client:
        work = publish(2, "elsewhere") / "2"
        aside = base.parent / "aside"
        (work / missing).rename(aside)
        whole = work.rename(base / "2") / missing
        wait_until(lambda: states(client).get(2) == "END")
        for _ in range(5):
            assert answering_version(client) == 1
            time.sleep(POLL_S)
        assert states(client) == {2: "END", 1: "AVAILABLE"}
        aside.rename(whole)
        wait_until(lambda: states(client) == {2: "AVAILABLE", 1: "END"})
        assert answering_version(client) == 2


def test_a_truncated_graph_is_not_served(serving, publish, wait_until):
    base = publish(1)
    with serving(ModelSettings("m", str(base))) as client:
        work = publish(2, model="elsewhere") / "2"
        file = work / "saved_model.pb"
        whole = file.read_bytes()
        file.write_bytes(whole[: len(whole) // 2])
        work.rename(base / "2")
        wait_until(lambda: states(client).get(2) == "END")
        (status,) = client.http("GET", "/v1/models/m/versions/2")[1]["model_version_status"]
        assert status["status"]["error_code"] == "DATA_LOSS" and "saved_model.pb" in status["status"]["error_message"]
        assert answering_version(client) == 1
        (base / "2" / "saved_model.pb").write_bytes(whole)
        wait_until(lambda: states(client).get(2) == "AVAILABLE")


def test_a_file_name_that_is_not_utf_8_keeps_no_model_from_answering(serving, publish, wait_until):
    base = publish(1)
    with serving(ModelSettings("m", str(base))) as client:
        work = publish(2, "elsewhere") / "2"
        (work / "assets").mkdir(exist_ok=True)
        (work / "assets" / os.fsdecode(b"caf\xe9")).touch()
        work.rename(base / "2")
        wait_until(lambda: states(client) == {2: "AVAILABLE", 1: "END"})
        assert answering_version(client) == 2
    with serving(ModelSettings("m", str(base)), ModelSettings("n", str(publish(1, "n")))) as client:
        assert answering_version(client) == 2 and answering_version(client, "n") == 1


def test_a_failed_version_is_tried_again_after_the_interval_without_any_change(
    serving, publish, monkeypatch, wait_until
):
    base = publish(1)
    attempts = []

    def flaky(name, number, path, batcher, options):
        if number == 2 and len(attempts) < 2:
            attempts.append(number)
            raise ServingError(StatusCode.UNAVAILABLE, "the disk is busy")
        return loader.load_model(name, number, path, batcher, options)

    monkeypatch.setattr(model_versions, "load_model", flaky)
    with serving(ModelSettings("m", str(base)), load_retry_interval_s=0.2) as client:
        publish(2)
        wait_until(lambda: states(client).get(2) == "AVAILABLE")
    assert attempts == [2, 2]


@pytest.mark.slow
def test_of_twelve_models_four_are_half_copied_at_the_start_and_all_answer(serving, publish, wait_until):
    """At once, those by the version before; and by their newest as soon as that is whole, without a restart."""
    bases = {name: publish(1, name) for name in (f"m{number:02d}" for number in range(12))}
    damaged = dict(zip(("m03", "m05", "m07", "m11"), PARTS))
    for name, part in damaged.items():
        half_copied(publish(2, name) / "2", part)
    publish(3, "m08")
    with serving(*(ModelSettings(name, str(base)) for name, base in bases.items())) as client:
        expected = {name: 3 if name == "m08" else 1 for name in bases}
        assert {name: answering_version(client, name) for name in bases} == expected
        assert all(states(client, name) == {2: "END", 1: "AVAILABLE"} for name in damaged)
        assert health(client.channel) == "SERVING"
        for name, part in damaged.items():
            (bases[name].parent / f"{name}.2.aside").rename(bases[name] / "2" / part)
        for name in damaged:
            wait_until(lambda name=name: states(client, name) == {2: "AVAILABLE", 1: "END"})
            assert answering_version(client, name) == 2


def test_at_a_reload_a_half_copied_model_answers_by_the_version_before(serving, publish):
    first, second = publish(1, "m"), publish(1, "n")
    half_copied(publish(2, "n") / "2", "variables")
    with serving(ModelSettings("m", str(first))) as client:
        request = ReloadConfigRequest()
        for name, base in (("m", first), ("n", second)):
            request.config.model_config_list.config.add(name=name, base_path=str(base), model_platform="tensorflow")
        client.models.HandleReloadConfigRequest(request)
        assert answering_version(client, "m") == 1 and answering_version(client, "n") == 1
        assert states(client, "n") == {2: "END", 1: "AVAILABLE"}


def test_the_newest_two_that_load_are_served_where_two_are_wanted(serving, publish):
    for number in (1, 2):
        publish(number)
    for number in (3, 4):
        base = publish(number, source=1)
        (base / str(number) / "saved_model.pb").unlink()
    with serving(ModelSettings("m", str(base), num_versions=2)) as client:
        assert states(client) == {4: "END", 3: "END", 2: "AVAILABLE", 1: "AVAILABLE"}


def test_a_label_on_a_half_copied_version_keeps_no_server_from_starting(serving, publish, wait_until):
    publish(1)
    base = publish(2)
    half_copied(base / "2", "saved_model.pb")
    with serving(ModelSettings("m", str(base), policy="all", labels={"stable": 1, "next": 2})) as client:
        assert answering_version(client, label="stable") == 1
        assert client.code(answering_version, client, label="next")[0] == StatusCode.NOT_FOUND
        (base.parent / "m.2.aside").rename(base / "2" / "saved_model.pb")
        wait_until(lambda: states(client).get(2) == "AVAILABLE")
        assert answering_version(client, label="next") == 2


def test_files_that_change_while_they_are_read_are_not_served(serving, publish, monkeypatch, wait_until):
    base = publish(1)
    growing = [True]

    def while_copied(name, number, path, batcher, options):
        if number == 2 and growing[0]:
            (base / "2" / "assets").mkdir(exist_ok=True)
            with (base / "2" / "assets" / "vocabulary.txt").open("a") as file:
                file.write("one more word\n")
        return loader.load_model(name, number, path, batcher, options)

    monkeypatch.setattr(model_versions, "load_model", while_copied)
    with serving(ModelSettings("m", str(base))) as client:
        publish(2)
        wait_until(lambda: states(client).get(2) == "END")
        (status,) = client.http("GET", "/v1/models/m/versions/2")[1]["model_version_status"]
        assert "changed while they were read" in status["status"]["error_message"]
        assert answering_version(client) == 1
        growing[0] = False
        wait_until(lambda: states(client).get(2) == "AVAILABLE")


def test_an_error_that_no_loader_should_raise_is_one_versions_fault(serving, publish, monkeypatch, wait_until):
    base = publish(1)

    def broken(name, number, path, batcher, options):
        if number == 2:
            raise ZeroDivisionError("in the loader")
        return loader.load_model(name, number, path, batcher, options)

    monkeypatch.setattr(model_versions, "load_model", broken)
    with serving(ModelSettings("m", str(base))) as client:
        publish(2)
        wait_until(lambda: states(client).get(2) == "END")
        assert answering_version(client) == 1
        publish(3)
        wait_until(lambda: states(client).get(3) == "AVAILABLE")


def test_where_no_version_loads_the_start_gives_up_after_its_retries(serving, publish):
    publish(1)
    base = publish(2)
    for number in (1, 2):
        (base / str(number) / "saved_model.pb").unlink()
    started = time.monotonic()
    with (
        pytest.raises(ServingError, match="m version 2: .*no saved_model.pb.*m version 1: "),
        serving(ModelSettings("m", str(base)), max_num_load_retries=3, load_retry_interval_s=0.2),
    ):
        pass
    assert time.monotonic() - started >= 0.6


def test_while_a_model_without_a_version_is_waited_for_the_others_answer(serving, publish, wait_until):
    """Health says NOT_SERVING until all are there, so that nobody takes the server for complete."""
    good, late = publish(1, "m"), publish(1, "n")
    shutil.move(late / "1", late.parent / "n.1.aside")
    settings = ModelSettings("m", str(good)), ModelSettings("n", str(late), labels={"stable": 1})
    with serving(*settings, max_num_load_retries=1, load_retry_interval_s=3600) as client:
        assert answering_version(client, "m") == 1
        assert client.code(answering_version, client, "n")[0] == StatusCode.NOT_FOUND
        assert health(client.channel) == "NOT_SERVING"
        (late.parent / "n.1.aside").rename(late / "1")
        wait_until(lambda: health(client.channel) == "SERVING")
        assert answering_version(client, "n", label="stable") == 1


def test_a_model_without_a_version_after_all_retries_is_told(publish, tmp_path, wait_until):
    (tmp_path / "empty").mkdir()
    models = ModelSettings("m", str(publish(1))), ModelSettings("empty", str(tmp_path / "empty"))
    config = ServerConfig(models, grpc_port=0, max_num_load_retries=1, load_retry_interval_s=0.5)
    failures: list[ServingError] = []
    with start(config, failures.append) as running:
        wait_until(lambda: failures)
        assert "empty: no version" in failures[0].message
        publish(1, "empty")  # whoever runs on nevertheless still gets it
        wait_until(lambda: running.manager.is_complete)
        assert len(failures) == 1
