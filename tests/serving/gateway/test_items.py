"""Items come and go in the next answer, of every model server, also after a restart and a swap."""

import asyncio
import shutil
import time
from unittest.mock import AsyncMock

import pytest

from components.media.addresses import MediaRoots
from components.media.errors import DecoderUnavailable
from serving.gateway.catalog import Catalog
from serving.gateway.live_items import LiveItems
from serving.gateway.records import StoredItem
from tests.serving.gateway import running
from tests.serving.gateway.running import until

CHANGES_ITEMS = True


def put(gateway, item_id, style=(1.0, 0.0, 0.0, 0.0), **others):
    body = {"title": item_id, "embeddings": {"style": list(style)}, **others}
    return gateway.http.put(f"/v1/items/{item_id}", json=body)


def shown(gateway, user_id="viewer"):
    return gateway.ids(user_id, k=50)


@pytest.fixture
def own_servers(served_folder, tmp_path):
    """Two model servers with a folder of their own, and a gateway over both."""
    folder = tmp_path / "served"
    shutil.copytree(served_folder, folder)
    servers = [running.ModelServer(folder, tmp_path / f"log{n}") for n in range(2)]
    store = tmp_path / "store.sqlite"
    running.fill(store)
    settings = running.settings(servers[0], store)
    both = running.replace(settings, model_servers=tuple(server.address for server in servers))
    gateway = running.Gateway(tmp_path / "gateway", both)
    yield folder, servers, gateway, both
    gateway.stop()
    for server in servers:
        server.stop()


def test_an_item_is_in_the_next_answer_with_its_title_and_by_its_content(gateway):
    outcome = put(gateway, "brand-new", domain="film", creator="somebody").json()
    assert outcome == {"item_id": "brand-new", "status": "shown", "reason": None}
    items = {item["item_id"]: item for item in gateway.recommend("viewer", k=50)["items"]}
    assert (items["brand-new"]["title"], items["brand-new"]["creator"]) == ("brand-new", "somebody")
    assert put(gateway, "twin").json()["status"] == "shown"
    answer = gateway.http.get("/v1/items/twin/similar", params={"k": 1}).json()
    assert answer["degraded"] is None
    similar = answer["items"][0]
    assert (similar["item_id"], similar["score"]) == ("brand-new", pytest.approx(1.0, abs=1e-5))
    by_content = gateway.http.get("/v1/items/twin/similar", params={"k": 1, "by": "content"}).json()
    assert (by_content["by"], by_content["items"][0]["item_id"]) == ("content", "brand-new"), "as the model encodes it"
    by_behaviour = gateway.http.get("/v1/items/twin/similar", params={"k": 1, "by": "behaviour"}).json()
    assert by_behaviour["by"] == "both", "nobody has taken it"
    assert gateway.http.get("/v1/latest", params={"domain": "film"}).json()["items"]


def test_an_announced_item_is_shown_from_its_day_on(gateway):
    now_s = int(time.time())
    announced = put(gateway, "announced", published_at=now_s + 86_400).json()
    assert (announced["status"], announced["reason"]) == ("waiting", "it is shown from its published_at on")
    assert "announced" not in shown(gateway)
    put(gateway, "announced", published_at=now_s - 86_400).raise_for_status()
    assert "announced" in shown(gateway)
    assert "announced" in gateway.ids("viewer", k=50, max_item_age_s=2 * 86_400)
    put(gateway, "announced", published_at=now_s - 3 * 86_400).raise_for_status()
    assert "announced" not in gateway.ids("viewer", k=50, max_item_age_s=2 * 86_400)


def test_a_model_of_an_earlier_release_is_told_without_dates():
    told = []

    class Client:
        signatures = AsyncMock(return_value={"encode_item": {}, "add_items": {"item_id": None}})
        encode_items = AsyncMock(return_value={})

        async def add_items(self, item_ids, vectors, domains, creators, published_at_s, timeout_s):
            told.append((item_ids, published_at_s))

    items = LiveItems(None, Catalog(), [Client()], MediaRoots("", ()), 1.0)
    asyncio.run(items._add(items._servers[0], [StoredItem("a", {"published_at": 5}, seq=1)]))
    Client.signatures.return_value["add_items"]["published_at_s"] = None
    asyncio.run(
        items._add(items._servers[0], [StoredItem("b", {"published_at": 5}, seq=2), StoredItem("c", {}, seq=3)])
    )
    assert told == [(["a"], None), (["b", "c"], [5, 0])]


def test_a_withdrawn_item_is_in_no_answer_and_does_not_come_back(gateway):
    assert "i9" in shown(gateway)
    assert gateway.http.delete("/v1/items/i9").status_code == 204
    assert "i9" not in shown(gateway)
    assert gateway.http.get("/v1/items/i9").status_code == 404
    again = put(gateway, "i9")
    assert (again.status_code, again.json()["type"]) == (409, "urn:zhiyin:problem:withdrawn")
    both = gateway.http.post("/v1/items", json={"items": [{"item_id": "beside-it"}, {"item_id": "i9"}]})
    assert [one["field"] for one in both.json()["errors"]] == ["body.items.1.item_id"]
    assert gateway.http.get("/v1/items/beside-it").status_code == 404, "all are kept, or none"
    assert gateway.http.delete("/v1/items/never-heard-of").status_code == 404


def test_what_the_catalogue_does_not_declare_is_refused_by_name(gateway):
    refused = put(gateway, "odd", numeric={"tempo": 3.0})
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["field"] == "body.numeric"
    assert "tempo" in refused.json()["detail"]
    assert put(gateway, "odd", style=(1.0, 2.0)).status_code == 422
    assert put(gateway, "odd", media_uri="../../etc/passwd").status_code == 422
    assert put(gateway, "odd", media_uri="http://example.com/a.mp3").status_code == 422


def test_bulk_is_whole_or_nothing_and_what_has_no_room_waits(gateway):
    bulk = [{"item_id": f"bulk{n}", "embeddings": {"style": [0, 1, 0, n]}} for n in range(8)]
    assert gateway.http.post("/v1/items", json={"items": [*bulk, bulk[0]]}).status_code == 422
    assert "bulk1" not in shown(gateway)
    outcomes = gateway.http.post("/v1/items", json={"items": bulk}).json()["items"]
    assert [one["item_id"] for one in outcomes] == [one["item_id"] for one in bulk]
    waiting = [one for one in outcomes if one["status"] == "waiting"]
    assert waiting, "the tiny model has 8 rows for more items, and some are taken"
    assert all("no row is free" in one["reason"] for one in waiting)
    on_list = set(shown(gateway))
    assert {one["item_id"] for one in outcomes if one["status"] == "shown"} <= on_list


def test_all_items_are_listed_by_pages(gateway):
    seen, cursor = [], "0"
    while cursor is not None:
        page = gateway.http.get("/v1/items", params={"limit": 7, "cursor": cursor}).json()
        seen += [item["item_id"] for item in page["items"]]
        cursor = page["next_cursor"]
    assert len(seen) == len(set(seen)) >= running.NUM_ITEMS - 1
    assert {"i0", "i29"} <= set(seen)


def test_every_server_is_told_and_told_again_after_a_restart_and_a_swap(own_servers, second_version, tmp_path):
    folder, servers, gateway, settings = own_servers
    assert put(gateway, "new").json()["status"] == "shown"
    gateway.http.delete("/v1/items/i4").raise_for_status()

    turned = running.replace(settings, model_servers=settings.model_servers[::-1], port=0)
    other = running.Gateway(tmp_path / "other", turned)
    assert "new" in shown(other), "the second server was told by the first gateway"
    assert "i4" not in shown(other)

    servers[0].kill()
    servers[0].start()
    until(lambda: "new" in shown(gateway) and "i4" not in shown(gateway))

    shutil.copytree(second_version, tmp_path / "second")
    (tmp_path / "second").rename(folder / "2")
    until(lambda: gateway.recommend("viewer")["model_version"] == 2)
    until(lambda: "new" in shown(gateway))
    assert "i4" not in shown(gateway)
    until(lambda: other.recommend("viewer")["model_version"] == 2 and "new" in shown(other))
    other.stop()


def test_a_decoder_that_cannot_start_keeps_no_item_and_is_asked_again(tmp_path):
    """It is not the medium's fault, so nothing is remembered of it."""
    (tmp_path / "a.mp3").write_bytes(b"sound")
    items = LiveItems(None, Catalog(), [], MediaRoots(str(tmp_path), ()), 1.0)
    found = iter([DecoderUnavailable("no child"), OSError("no memory"), "features"])

    def extract(descriptor):
        one = next(found)
        if isinstance(one, Exception):
            raise one
        return one

    items._decoder.extract = extract
    item = StoredItem("a", {"media_uri": "a.mp3"}, seq=1)
    assert [items._media_of(item) for _ in range(4)] == [None, None, "features", "features"]
