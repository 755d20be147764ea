"""Versions come, are swapped under load and go: start, order, swaps, reloads, labels, warm-up."""

from __future__ import annotations

import logging
import os
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from grpc import StatusCode
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusRequest
from tensorflow_serving.apis.model_management_pb2 import ReloadConfigRequest
from tensorflow_serving.apis.model_pb2 import ModelSpec
from tensorflow_serving.apis.predict_pb2 import PredictRequest

from serving.model_server import loader
from serving.model_server.config import ModelSettings, ServableOptions, read_model_config
from serving.model_server.errors import ServingError
from serving.model_server.storage import Storage
from tests.serving.model_server.life_cycle import (
    POLL_S,
    answering_version,
    config_text,
    predict_request,
    reload_request,
    states,
    write_warm_up,
)


def test_swaps_under_load_drop_no_request(serving, publish, wait_until):
    """Versions 2 and 3 appear, 3 goes: clients on both ports see 1, 2, 3, 2 and not one failure."""
    base = publish(1)
    with serving(ModelSettings("m", str(base))) as client:
        seen: list[list[int]] = [[] for _ in range(3)]
        stop = threading.Event()

        def ask_grpc(log):
            while not stop.is_set():
                log.append(answering_version(client))

        def ask_rest(log):
            while not stop.is_set():
                status, answer = client.post({"instances": [0]}, "/v1/models/m:predict")
                assert status == 200, answer
                log.append(int(answer["predictions"][0] / 1000))

        threads = [threading.Thread(target=ask, args=(log,)) for ask, log in zip((ask_grpc, ask_grpc, ask_rest), seen)]
        alive = list(threads)
        for thread in threads:
            thread.start()
        for change, version in [
            (lambda: publish(2), 2),
            (lambda: publish(3), 3),
            (lambda: (base / "3").rename(base.parent / "gone"), 2),
        ]:
            change()
            wait_until(lambda version=version: all(log and log[-1] == version for log in seen))
        assert all(thread.is_alive() for thread in alive), "a client failed"
        stop.set()
        for thread in threads:
            thread.join()
        for log in seen:
            changes = [version for version, before in zip(log, [0, *log]) if version != before]
            assert changes == [1, 2, 3, 2]
        assert states(client) == {3: "END", 2: "AVAILABLE", 1: "END"}


def test_the_old_version_goes_after_its_last_request(serving, publish, wait_until):
    base = publish(1)
    with serving(ModelSettings("m", str(base))) as client:
        request = PredictRequest(model_spec=ModelSpec(name="m", signature_name="spin"))
        request.inputs["steps"].CopyFrom(tf.make_tensor_proto(np.array(10**12, np.int64)))
        running = client.predictions.Predict.future(request)
        wait_until(lambda: client.running.manager.status(ModelSpec(name="m"))[0].in_flight == 1)
        publish(2)
        wait_until(lambda: states(client) == {2: "AVAILABLE", 1: "UNLOADING"})
        assert answering_version(client) == 2 and not running.done()
        assert client.code(answering_version, client, version=1)[0] == StatusCode.NOT_FOUND
        running.cancel()
        wait_until(lambda: states(client) == {2: "AVAILABLE", 1: "END"})


def test_versions_sort_as_numbers(serving, publish):
    publish(9, source=1)
    base = publish(10, source=2)
    with serving(ModelSettings("m", str(base), policy="all")) as client:
        assert states(client) == {10: "AVAILABLE", 9: "AVAILABLE"}
        response = client.predict({"x": np.array([0], np.float32)}, model="m")
        assert response.model_spec.version.value == 10
    (base / "10").rename(base / "00000123")
    with serving(ModelSettings("m", str(base))) as client:
        assert states(client) == {123: "AVAILABLE"}


def test_folders_that_are_no_numbers_are_ignored_with_a_warning(serving, publish, caplog):
    """`v2`, `0.3`, `tmp` and their like beside the pushed version do nothing but warn, once each."""
    base = publish(1)
    odd = ["v2", "0.3", "tmp", "1.0", "-5", "3 ", "9" * 25, "٣"]
    for name in odd:
        shutil.copytree(base / "1", base / name)
    (base / os.fsdecode(b"caf\xe9")).touch()  # a name that is not UTF-8
    with caplog.at_level(logging.WARNING), serving(ModelSettings("m", str(base))) as client:
        assert states(client) == {1: "AVAILABLE"}
        time.sleep(4 * POLL_S)
    for name in [*odd, r"caf\xe9"]:
        assert sum(f"/{name} is ignored" in record.message for record in caplog.records) == 1, name


def test_a_base_path_that_is_lost_twice_is_told_twice(publish, caplog):
    """And what was odd about it before, once."""
    base, storage = publish(1), Storage()
    away = base.with_name("away")
    (base / "tmp").mkdir()
    settings = ModelSettings("m", str(base))
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert storage.candidates(settings) == {1: str(base / "1")}
            base.rename(away)
            assert storage.candidates(settings) is storage.candidates(settings) is None
            away.rename(base)
    told = [record.getMessage() for record in caplog.records]
    assert sum("cannot list" in line for line in told) == 2
    assert sum("tmp is ignored" in line for line in told) == 1


def test_the_start_waits_for_a_first_version(serving, publish, tmp_path):
    (tmp_path / "m").mkdir()
    timer = threading.Timer(0.5, publish, [1])
    timer.start()
    with serving(ModelSettings("m", str(tmp_path / "m")), max_num_load_retries=1, load_retry_interval_s=20) as client:
        assert answering_version(client) == 1
    timer.join()


def test_policies(serving, publish):
    for number in (1, 2, 3):
        base = publish(number)
    for settings, expected in [
        (ModelSettings("m", str(base)), [3]),
        (ModelSettings("m", str(base), num_versions=2), [3, 2]),
        (ModelSettings("m", str(base), policy="all"), [3, 2, 1]),
        (ModelSettings("m", str(base), policy="specific", specific_versions=(1, 3)), [3, 1]),
    ]:
        with serving(settings) as client:
            assert list(states(client)) == expected
            assert answering_version(client) == expected[0]
            for number in expected:
                assert answering_version(client, version=number) == number


def test_without_any_version_left_the_model_is_not_found_and_a_lost_base_path_changes_nothing(
    serving, publish, wait_until
):
    base = publish(1)
    with serving(ModelSettings("m", str(base))) as client:
        base.rename(base.parent / "away")
        time.sleep(4 * POLL_S)
        assert answering_version(client) == 1
        (base.parent / "away").rename(base)
        (base / "1").rename(base.parent / "one")
        wait_until(lambda: states(client) == {1: "END"})
        assert client.code(answering_version, client)[0] == StatusCode.NOT_FOUND


def test_prometheus_is_off_by_default(serving, publish):
    with serving(ModelSettings("m", str(publish(1)))) as client:
        assert client.http("GET", "/monitoring/prometheus/metrics")[0] == 404


def test_reload_replaces_everything_and_returns_when_loaded(serving, publish):
    first, second = publish(1, "m"), publish(2, "n")
    with serving(ModelSettings("m", str(first))) as client:
        client.models.HandleReloadConfigRequest(reload_request(("n", second, {"stable": 2})))
        assert answering_version(client, "n") == 2
        assert answering_version(client, "n", label="stable") == 2
        assert client.code(answering_version, client, "m")[0] == StatusCode.NOT_FOUND
        status = client.models.GetModelStatus(
            GetModelStatusRequest(model_spec=ModelSpec(name="m"))
        ).model_version_status
        assert [(one.version, one.state) for one in status] == [(1, 50)]  # END


def test_labels_move_and_may_not_name_a_version_that_is_not_loaded(serving, publish):
    publish(1)
    base = publish(2)
    with serving(ModelSettings("m", str(base), policy="all", labels={"stable": 1})) as client:
        assert answering_version(client, label="stable") == 1
        client.models.HandleReloadConfigRequest(reload_request(("m", base, {"stable": 2, "canary": 2})))
        assert answering_version(client, label="stable") == answering_version(client, label="canary") == 2
        code, message = client.code(client.models.HandleReloadConfigRequest, reload_request(("m", base, {"stable": 3})))
        assert code == StatusCode.FAILED_PRECONDITION and "stable" in message and "3" in message
        assert answering_version(client, label="stable") == 2
        assert client.code(answering_version, client, label="nightly")[0] == StatusCode.INVALID_ARGUMENT


def test_a_new_label_may_name_an_unavailable_version_where_that_is_allowed(serving, publish, wait_until):
    base = publish(1)
    with pytest.raises(ServingError, match="label 'next'"), serving(ModelSettings("m", str(base), labels={"next": 2})):
        pass
    with serving(
        ModelSettings("m", str(base), labels={"next": 2, "stable": 1}), allow_labels_for_unavailable=True
    ) as client:
        assert client.code(answering_version, client, label="next")[0] == StatusCode.NOT_FOUND
        code, _ = client.code(client.models.HandleReloadConfigRequest, reload_request(("m", base, {"stable": 2})))
        assert code == StatusCode.FAILED_PRECONDITION  # a label in use may not
        publish(2)
        wait_until(lambda: states(client).get(2) == "AVAILABLE")
        assert answering_version(client, label="next") == 2


def test_a_bad_reload_says_which_model_and_keeps_serving(serving, publish, tmp_path):
    base = publish(1)
    with serving(ModelSettings("m", str(base))) as client:
        for request, code, word in [
            (ReloadConfigRequest(), StatusCode.INVALID_ARGUMENT, "model_config_list"),
            (reload_request(("m", Path("relative"), {})), StatusCode.INVALID_ARGUMENT, "relative"),
            (reload_request(("m", base, {}), ("m", base, {})), StatusCode.INVALID_ARGUMENT, "more than once"),
            (reload_request(("m", base, {}), ("n", tmp_path / "nothing", {})), StatusCode.UNKNOWN, "n: "),
        ]:
            got, message = client.code(client.models.HandleReloadConfigRequest, request)
            assert got == code and word in message
            assert answering_version(client) == 1


def test_a_configuration_file_is_read_again_and_served_when_it_changes(serving, publish, tmp_path, wait_until):
    first, second, file = publish(1, "m"), publish(2, "n"), tmp_path / "models.txt"
    file.write_text(config_text(("m", first)))
    options = {"model_config_file": str(file), "model_config_poll_wait_s": 0.05}
    with serving(*read_model_config(str(file)), **options) as client:
        assert answering_version(client) == 1
        for text in ("model_config_list {", "", "# not yet\n"):  # being written: what was served stays
            file.write_text(text)
            time.sleep(4 * POLL_S)
            assert answering_version(client) == 1
        file.write_text(config_text(("n", second)))
        wait_until(lambda: client.http("GET", "/v1/models/n")[0] == 200 and states(client, "n") == {2: "AVAILABLE"})
        wait_until(lambda: states(client) == {1: "END"})
        assert answering_version(client, "n") == 2
        file.write_text("model_config_list {}")  # none is wanted
        wait_until(lambda: states(client, "n") == {2: "END"})


def test_a_graph_with_other_tags_is_loaded_where_they_are_asked_for(serving, tmp_path):
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        x = tf.compat.v1.placeholder(tf.float32, [None], name="x")
        definition = tf.compat.v1.saved_model.predict_signature_def({"x": x}, {"y": x * 3})
        builder = tf.compat.v1.saved_model.Builder(str(tmp_path / "m" / "1"))
        builder.add_meta_graph_and_variables(session, ["serve", "gpu"], {"serving_default": definition})
        builder.save()
    settings = ModelSettings("m", str(tmp_path / "m"))
    with serving(settings, servables=ServableOptions(tags=("serve", "gpu"))) as client:
        assert list(client.predict({"x": np.array([2], np.float32)}, model="m").outputs["y"].float_val) == [6]
    with pytest.raises(ServingError, match=r"no graph with the tags \['serve'\]"), serving(settings):
        pass


@pytest.mark.parametrize(("iterations", "expected"), [(0, []), (1, [1, 2]), (2, [1, 1, 2, 2])])
def test_warm_up_requests_run_before_a_version_is_available(serving, publish, monkeypatch, iterations, expected):
    base = publish(1)
    write_warm_up(
        base / "1", predict_request(x=np.array([1], np.float32)), predict_request(x=np.array([1, 2], np.float32))
    )
    ran = []
    predict = loader.Signature.__call__
    monkeypatch.setattr(
        loader.Signature,
        "__call__",
        lambda self, inputs, token: ran.append(inputs["x"].shape[0]) or predict(self, inputs, token),
    )
    with serving(ModelSettings("m", str(base)), servables=ServableOptions(warm_up_iterations=iterations)):
        assert ran == expected


def test_a_version_whose_warm_up_fails_is_not_served(serving, publish, wait_until):
    base = publish(1)
    with serving(ModelSettings("m", str(base))) as client:
        version = publish(2, "elsewhere") / "2"
        write_warm_up(version, predict_request(wrong=1.0))
        version.rename(base / "2")
        wait_until(lambda: states(client).get(2) == "END")
        (one,) = client.http("GET", "/v1/models/m/versions/2")[1]["model_version_status"]
        assert one["status"]["error_code"] == "INVALID_ARGUMENT" and "'wrong'" in one["status"]["error_message"]
        assert answering_version(client) == 1
