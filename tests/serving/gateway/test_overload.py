"""More lists at once than a gateway works on: the others are refused at once, and told when to come again."""

import asyncio

import httpx

from tests.serving.gateway import running

AT_ONCE = 60


def test_what_is_beyond_the_bound_is_refused_and_everything_else_goes_on(model_server, tmp_path):
    store = tmp_path / "store.sqlite"
    running.fill(store)
    gateway = running.Gateway(tmp_path / "gateway", running.settings(model_server, store, max_in_flight=2))

    async def ask_at_once():
        async with httpx.AsyncClient(base_url=gateway.url, timeout=60, trust_env=False) as client:
            lists = [client.get(f"/v1/users/u{number}/recommendations") for number in range(AT_ONCE)]
            event = client.post("/v1/events", json={"user_id": "u1", "item_id": "i1"})
            return await asyncio.gather(event, *lists)

    event, *lists = asyncio.run(ask_at_once())
    assert event.status_code == 200, "an event is no list"
    refused = [answer for answer in lists if answer.status_code == 503]
    answered = [answer for answer in lists if answer.status_code == 200]
    assert len(refused) + len(answered) == AT_ONCE
    assert refused
    assert answered
    assert all(answer.json()["degraded"] is None for answer in answered)
    for answer in refused:
        assert answer.headers["Retry-After"] == "1"
        assert answer.json()["type"] == "urn:zhiyin:problem:overloaded"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert gateway.recommend("u1", k=3)["items"], "as soon as the others are done"
    metrics = gateway.http.get("/metrics").text
    assert f'zhiyin_gateway_refused_total{{reason="overloaded"}} {float(len(refused))}' in metrics
    assert "zhiyin_gateway_in_flight 0.0" in metrics
    assert "zhiyin_gateway_in_flight_bound 2.0" in metrics
    gateway.stop()
