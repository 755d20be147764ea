"""A reload loads before labels move, and retires afterwards; one that fails changes nothing and is tried again."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path

import pytest
from grpc import StatusCode

from serving.model_server import loader, model_versions
from serving.model_server.config import ModelSettings, read_model_config
from tests.serving.model_server.life_cycle import POLL_S, answering_version, reload_request, states


def write_models(file: Path, *models: tuple[str, Path, str, dict[str, int]]) -> None:
    """A models file of names, base paths, policies and labels, there at once."""
    entries = (
        f'config {{ name: "{name}" base_path: "{base}" model_platform: "tensorflow" '
        f"model_version_policy {{ {policy} {{}} }} "
        + " ".join(f'version_labels {{ key: "{label}" value: {number} }}' for label, number in labels.items())
        + " }"
        for name, base, policy, labels in models
    )
    partial = file.with_suffix(".partial")
    partial.write_text(f"model_config_list {{ {' '.join(entries)} }}")
    partial.rename(file)


@pytest.mark.parametrize("policy", ["all", "latest"])
def test_a_label_that_moves_in_the_file_before_its_version_is_there_moves_when_it_is(
    serving, publish, tmp_path, wait_until, policy, caplog
):
    base, file = publish(1), tmp_path / "models.txt"
    write_models(file, ("m", base, policy, {"stable": 1}))
    options = {"model_config_file": str(file), "model_config_poll_wait_s": POLL_S}
    with caplog.at_level(logging.WARNING), serving(*read_model_config(str(file)), **options) as client:
        write_models(file, ("m", base, policy, {"stable": 2}))
        time.sleep(4 * POLL_S)
        assert answering_version(client, label="stable") == 1
        publish(2)
        wait_until(lambda: states(client).get(2) == "AVAILABLE")
        wait_until(lambda: stable_version(client) == 2)
    assert sum("names version 2" in record.getMessage() for record in caplog.records) == 1


def stable_version(client) -> int | None:
    """The version behind the label; None while it is retired."""
    status, answer = client.post({"instances": [0]}, "/v1/models/m/labels/stable:predict")
    return int(answer["predictions"][0] / 1000) if status == 200 else None


def test_a_model_without_a_version_keeps_no_label_of_another_from_moving(serving, publish, tmp_path):
    publish(1)
    base = publish(2)
    with serving(ModelSettings("m", str(base), policy="all", labels={"stable": 1})) as client:
        request = reload_request(("m", base, {"stable": 2}), ("n", tmp_path / "nothing", {"stable": 1}))
        code, message = client.code(client.models.HandleReloadConfigRequest, request)
        assert code == StatusCode.UNKNOWN and "n: " in message
        assert answering_version(client, label="stable") == 2


def test_a_file_whose_reload_found_no_version_is_tried_again_where_nobody_polls_the_base_paths(
    serving, publish, tmp_path, wait_until
):
    base, other, file = publish(1), tmp_path / "n", tmp_path / "models.txt"
    write_models(file, ("m", base, "latest", {}))
    options = {"model_config_file": str(file), "model_config_poll_wait_s": POLL_S, "file_system_poll_wait_s": 0}
    with serving(*read_model_config(str(file)), load_retry_interval_s=0.2, **options) as client:
        write_models(file, ("m", base, "latest", {}), ("n", other, "latest", {"stable": 1}))
        time.sleep(4 * POLL_S)
        publish(1, "n")
        wait_until(lambda: client.http("GET", "/v1/models/n")[0] == 200 and states(client, "n") == {1: "AVAILABLE"})
        assert answering_version(client, "n", label="stable") == 1


def test_a_refused_reload_leaves_versions_models_and_labels_as_they_were(serving, publish):
    publish(1)
    base, other = publish(2), publish(1, "n")
    with serving(ModelSettings("m", str(base), policy="all", labels={"stable": 1})) as client:
        request = reload_request(("m", base, {"stable": 3}), ("n", other, {}))
        request.config.model_config_list.config[0].model_version_policy.latest.num_versions = 1
        assert client.code(client.models.HandleReloadConfigRequest, request)[0] == StatusCode.FAILED_PRECONDITION
        for _ in range(4):
            assert states(client) == {2: "AVAILABLE", 1: "AVAILABLE"}
            assert answering_version(client, label="stable") == 1
            assert client.code(answering_version, client, "n")[0] == StatusCode.NOT_FOUND
            time.sleep(POLL_S)


def test_a_label_may_not_name_a_version_that_the_same_reload_retires(serving, publish):
    publish(1)
    base = publish(2)
    with serving(ModelSettings("m", str(base), policy="all", labels={"stable": 1})) as client:
        request = reload_request(("m", base, {"stable": 1}))
        request.config.model_config_list.config[0].model_version_policy.latest.num_versions = 1
        assert client.code(client.models.HandleReloadConfigRequest, request)[0] == StatusCode.FAILED_PRECONDITION
        assert answering_version(client, label="stable") == 1


def test_while_a_reload_loads_labels_answer_by_what_they_named(serving, publish, monkeypatch):
    publish(1)
    base, slow, loading, go_on = publish(2), publish(1, "slow"), threading.Event(), threading.Event()

    def load(name, number, path, batcher, options):
        if name == "slow":
            loading.set()
            go_on.wait(60)
        return loader.load_model(name, number, path, batcher, options)

    monkeypatch.setattr(model_versions, "load_model", load)
    with serving(ModelSettings("m", str(base), policy="all", labels={"stable": 1})) as client:
        request = reload_request(("m", base, {"stable": 2}), ("slow", slow, {}))
        request.config.model_config_list.config[0].model_version_policy.latest.num_versions = 1
        reload = client.models.HandleReloadConfigRequest.future(request)
        try:
            assert loading.wait(20)
            assert answering_version(client, label="stable") == answering_version(client, version=1) == 1
        finally:
            go_on.set()
        reload.result(timeout=60)
        assert answering_version(client, label="stable") == answering_version(client, "slow") + 1 == 2
        assert states(client) == {2: "AVAILABLE", 1: "END"}
