"""kill -9 of one part after the other: acknowledged events stay, once each; answers go on, and recover by
themselves."""

import pytest

from tests.serving.gateway import running
from tests.serving.gateway.running import Load, until


@pytest.fixture
def parts(served_folder, store_url, tmp_path):
    """A model server, a store and a gateway of the test's own."""
    server = running.ModelServer(served_folder, tmp_path / "server.log")
    running.fill(store_url)
    gateway = running.Gateway(
        tmp_path / "gateway", running.settings(server, store_url, breaker_failures=3, breaker_retry_s=0.3)
    )
    yield server, gateway
    gateway.stop()
    server.stop()


@pytest.fixture
def store_url(tmp_path):
    return str(tmp_path / "store.sqlite")


def stored_ids(url):
    async def go(store):
        return [event.event_id async for event in store.events() if event.event_id.startswith("load-")]

    return running.run(go, url)


def test_the_model_server_is_killed_and_comes_back(parts, store_url):
    server, gateway = parts
    gateway.recommend("u1", k=5)
    load = Load(gateway)
    until(lambda: len(load.answers) > 5)
    server.kill()
    until(lambda: any(answer["degraded"] for answer in load.answers))
    degraded = gateway.recommend("u1", k=5)
    assert degraded["items"], "the last good list stands in"
    assert degraded["degraded"]["answered_by"] == "last_list"
    stranger = gateway.recommend("stranger", k=2)
    assert stranger["degraded"]["answered_by"] == "popular"
    assert [item["item_id"] for item in stranger["items"]] == ["i1", "i2"]
    until(lambda: gateway.recommend("u1")["degraded"]["cause"] == "circuit_open")
    assert gateway.http.get("/v1/users/u1/explanations/i3").headers["Retry-After"] == "1"
    assert gateway.http.get("/health/ready").json()["model"] is False
    server.start()
    until(lambda: gateway.recommend("u1")["degraded"] is None)
    load.stop()
    assert set(load.statuses) == {200}
    assert sorted(stored_ids(store_url)) == sorted(load.acknowledged)
    metrics = gateway.http.get("/metrics").text
    assert 'zhiyin_gateway_degraded_total{answered_by="popular"' in metrics


def test_the_gateway_is_killed_under_load_and_no_acknowledged_event_is_lost(parts, store_url):
    _, gateway = parts
    load = Load(gateway)
    for _ in range(3):
        count = len(load.acknowledged)
        until(lambda before=count: len(load.acknowledged) > before + 10)
        gateway.kill()
        gateway.start()
    count = len(load.acknowledged)
    until(lambda: len(load.acknowledged) > count)
    load.stop()
    stored = stored_ids(store_url)
    assert len(stored) == len(set(stored)), "none twice"
    assert set(load.acknowledged) <= set(stored), "none lost"
    assert len(set(stored) - set(load.acknowledged)) <= 4, "at most one a kill was written and not acknowledged in time"


def test_redis_is_killed_under_load_and_no_acknowledged_event_is_lost(served_folder, model_server, tmp_path):
    if running.REDIS is None:
        pytest.skip("redis-server is not installed")
    redis = running.Redis(tmp_path / "redis")
    running.fill(redis.url)
    gateway = running.Gateway(tmp_path / "gateway", running.settings(model_server, redis.url))
    load = Load(gateway, budget_ms=20_000)  # the model answers, however slow the machine: no open circuit but the store
    until(lambda: len(load.acknowledged) > 10)
    redis.kill()
    answer = gateway.recommend("u1", k=5)
    assert answer["degraded"] == {"answered_by": "model", "cause": "store_unavailable"}
    refused = gateway.post({"user_id": "u1", "item_id": "i1"})
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
    assert refused.json()["type"] == "urn:zhiyin:problem:store-unavailable"
    assert gateway.http.get("/").status_code == 503, "the page lists the store's people"
    redis.start()
    count = len(load.acknowledged)
    until(lambda: len(load.acknowledged) > count + 10)
    until(lambda: gateway.recommend("u1")["degraded"] is None)
    load.stop()
    assert set(load.statuses) == {200}
    stored = stored_ids(redis.url)
    assert sorted(stored) == sorted(set(stored))
    assert set(load.acknowledged) <= set(stored)
    gateway.stop()
    redis.stop()


def test_without_model_and_events_the_latest_items_are_shown(tmp_path):
    store = str(tmp_path / "store.sqlite")
    running.fill(store, num_events=0)
    gateway = running.Gateway(tmp_path / "gateway", running.settings(f"127.0.0.1:{running.free_port()}", store))
    answer = gateway.recommend("anybody", k=3)
    assert [item["item_id"] for item in answer["items"]] == ["i29", "i28", "i27"]
    assert answer["degraded"]["answered_by"] == "latest"
    assert gateway.http.get("/v1/items/i3/similar", params={"k": 1}).json()["degraded"]["answered_by"] == "latest"
    assert gateway.http.get("/health/live").status_code == 200
    gateway.stop()


def test_a_gateway_stops_when_it_is_asked_and_has_written_what_was_shown(model_server, tmp_path):
    store = str(tmp_path / "store.sqlite")
    running.fill(store)
    gateway = running.Gateway(tmp_path / "gateway", running.settings(model_server, store))
    shown = gateway.recommend("reader", k=2)
    assert gateway.stop() == 0

    async def exposures(opened):
        return [one async for one in opened.exposures()]

    (one,) = running.run(exposures, store)
    assert (one.request_id, one.user_id, one.model_version) == (shown["request_id"], "reader", 1)
    assert list(one.item_ids) == [item["item_id"] for item in shown["items"]]
