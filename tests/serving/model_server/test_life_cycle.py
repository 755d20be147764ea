"""Versions come, are swapped under load and go: p15 half copies · p16 start · p17 order and swaps · p18 reload and labels · C41."""

from __future__ import annotations

import logging
import shutil
import threading
import time
import weakref
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from grpc import StatusCode
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusRequest
from tensorflow_serving.apis.model_management_pb2 import ReloadConfigRequest
from tensorflow_serving.apis.model_pb2 import ModelSpec
from tensorflow_serving.apis.predict_pb2 import PredictRequest
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from serving.model_server import loader, versions
from serving.model_server.config import ModelSettings
from serving.model_server.errors import ServingError

POLL_S = 0.05  # of the servers that the fixture `serving` starts


def answering_version(client, model: str = "m", **version) -> int:
    """Which version answers; the small model's outputs say so, too: y = x / 2 + 1000 * version."""
    response = client.predict({"x": np.array([0], np.float32)}, model=model, **version)
    assert response.outputs["y"].float_val[0] == 1000 * response.model_spec.version.value
    return response.model_spec.version.value


def states(client, model: str = "m") -> dict[int, str]:
    """Version -> state, in the order in which the server lists them."""
    return {
        int(one["version"]): one["state"]
        for one in client.http("GET", f"/v1/models/{model}")[1]["model_version_status"]
    }


def test_p17_swaps_under_load_drop_no_request(serving, publish, wait_until):
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


def test_p17_the_old_version_goes_after_its_last_request(serving, publish, wait_until):
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


def test_a_retired_versions_memory_is_freed(serving, publish, wait_until):
    base = publish(1)
    with serving(ModelSettings("m", str(base))) as client:
        with client.running.manager.serving(ModelSpec(name="m")) as model:
            variable = weakref.ref(model.root.offset)
            del model
        assert variable() is not None
        publish(2)
        wait_until(lambda: variable() is None)


def test_p17_versions_sort_as_numbers(serving, publish):
    publish(9, source=1)
    base = publish(10, source=2)
    with serving(ModelSettings("m", str(base), policy="all")) as client:
        assert states(client) == {10: "AVAILABLE", 9: "AVAILABLE"}
        response = client.predict({"x": np.array([0], np.float32)}, model="m")
        assert response.model_spec.version.value == 10
    (base / "10").rename(base / "00000123")
    with serving(ModelSettings("m", str(base))) as client:
        assert states(client) == {123: "AVAILABLE"}


def test_c41_folders_that_are_no_numbers_are_ignored_with_a_warning(serving, publish, caplog):
    """C41: `v2`, `0.3`, `tmp` and their like beside the pushed version do nothing but warn, once each."""
    base = publish(1)
    odd = ["v2", "0.3", "tmp", "1.0", "-5", "3 ", "9" * 25]
    for name in odd:
        shutil.copytree(base / "1", base / name)
    with caplog.at_level(logging.WARNING), serving(ModelSettings("m", str(base))) as client:
        assert states(client) == {1: "AVAILABLE"}
        time.sleep(4 * POLL_S)
    for name in odd:
        assert sum(f"/{name} is ignored" in record.message for record in caplog.records) == 1, name


@pytest.mark.parametrize(
    "missing", ["saved_model.pb", "variables", "variables/variables.index", "variables/variables.data-00000-of-00001"]
)
def test_p15_a_half_copied_version_is_never_served_and_taken_when_whole(serving, publish, missing, wait_until):
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


def test_p15_a_truncated_graph_is_not_served(serving, publish, wait_until):
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


def test_a_failed_version_is_tried_again_after_the_interval_without_any_change(
    serving, publish, monkeypatch, wait_until
):
    base = publish(1)
    attempts = []

    def flaky(name, number, path, batcher):
        if number == 2 and len(attempts) < 2:
            attempts.append(number)
            raise ServingError(StatusCode.UNAVAILABLE, "the disk is busy")
        return loader.load_model(name, number, path, batcher)

    monkeypatch.setattr(versions, "load_model", flaky)
    with serving(ModelSettings("m", str(base)), load_retry_interval_s=0.2) as client:
        publish(2)
        wait_until(lambda: states(client).get(2) == "AVAILABLE")
    assert attempts == [2, 2]


def test_p16_the_start_tries_no_older_version_and_gives_up_after_its_retries(serving, publish):
    publish(1)
    base = publish(2)
    (base / "2" / "saved_model.pb").unlink()
    started = time.monotonic()
    with (
        pytest.raises(ServingError, match="m version 2: .*no saved_model.pb"),
        serving(ModelSettings("m", str(base)), max_num_load_retries=3, load_retry_interval_s=0.2),
    ):
        pass
    assert 0.6 <= time.monotonic() - started < 10


def test_p16_the_start_waits_for_a_first_version(serving, publish, tmp_path):
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


def test_p17_without_any_version_left_the_model_is_not_found_and_a_lost_base_path_changes_nothing(
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


def test_p18_prometheus_is_off_by_default(serving, publish):
    with serving(ModelSettings("m", str(publish(1)))) as client:
        assert client.http("GET", "/monitoring/prometheus/metrics")[0] == 404


def reload_request(*models: tuple[str, Path, dict[str, int]]) -> ReloadConfigRequest:
    request = ReloadConfigRequest()
    for name, base, labels in models:
        model = request.config.model_config_list.config.add(name=name, base_path=str(base), model_platform="tensorflow")
        model.model_version_policy.all.SetInParent()
        model.version_labels.update(labels)
    return request


def test_p18_reload_replaces_everything_and_returns_when_loaded(serving, publish):
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


def test_p18_labels_move_and_may_not_name_a_version_that_is_not_loaded(serving, publish):
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


def test_p18_a_new_label_may_name_an_unavailable_version_where_that_is_allowed(serving, publish, wait_until):
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


def test_p18_a_bad_reload_says_which_model_and_keeps_serving(serving, publish, tmp_path):
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


def write_warm_up(version: Path, *requests: PredictRequest) -> None:
    (version / "assets.extra").mkdir()
    with tf.io.TFRecordWriter(str(version / "assets.extra" / "tf_serving_warmup_requests")) as writer:
        for request in requests:
            log = PredictionLog()
            log.predict_log.request.CopyFrom(request)
            writer.write(log.SerializeToString())


def predict_request(**inputs) -> PredictRequest:
    request = PredictRequest(model_spec=ModelSpec(name="m"))
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return request


def test_warm_up_requests_run_before_a_version_is_available(serving, publish, monkeypatch):
    base = publish(1)
    write_warm_up(
        base / "1", predict_request(x=np.array([1], np.float32)), predict_request(x=np.array([1, 2], np.float32))
    )
    ran = []
    predict = loader.Signature.__call__
    monkeypatch.setattr(
        loader.Signature,
        "__call__",
        lambda self, inputs, run: ran.append(inputs["x"].shape[0]) or predict(self, inputs, run),
    )
    with serving(ModelSettings("m", str(base))):
        assert ran == [1, 2]


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
