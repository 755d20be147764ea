"""Lists without the model obey the same rules as the model's: the operator's defaults, what is seen, out, withdrawn."""

import asyncio
import time

import pytest

from components.config import EventRule
from serving.config import ListDefaults
from serving.gateway.catalog import Catalog
from serving.gateway.config import GatewayConfig
from serving.gateway.fallbacks import Fallbacks
from serving.gateway.model_requests import NONE, History, RecommendRequest, Rules
from serving.gateway.records import Event, StoredItem
from serving.gateway.stores.base import open_store

NO_DEFAULTS = ListDefaults()
TOMORROW = int(time.time()) + 86_400


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    """a1 to a3 by one creator, b1 by another, c1 of films, from the most popular on; one withdrawn, one not out yet."""
    songs = {"domain": "music", "tags": ["rock"]}
    items = [
        *(StoredItem(f"a{n}", {"creator": "A", **songs}) for n in (1, 2, 3)),
        StoredItem("b1", {"creator": "B", **songs}),
        StoredItem("c1", {"creator": "C", "domain": "film", "tags": ["drama"]}),
        StoredItem("gone", {"creator": "D", **songs}),
        StoredItem("tomorrow", {"creator": "E", "published_at": TOMORROW}),
    ]
    likes = {"gone": 9, "tomorrow": 8, "a1": 7, "a2": 6, "a3": 5, "b1": 4, "c1": 3}

    async def filled():
        store = open_store(str(tmp_path_factory.mktemp("store") / "store.sqlite"))
        await store.open()
        await store.put_items(items)
        await store.withdraw_item("gone")
        await store.add_events(
            [Event(f"{item}-{n}", f"u{n}", item, "like", 5) for item, count in likes.items() for n in range(count)]
        )
        made = Catalog()
        await made.refresh(store)
        await made.count(store, {"like": EventRule(weight=1.0)})
        await store.close()
        return made

    return asyncio.run(filled())


def ids(catalog, defaults=NO_DEFAULTS, k=5, diversity=0.0, history=(), **rules):
    request = RecommendRequest("u", k, History(history), Rules(**rules), diversity=diversity)
    return Fallbacks(catalog, GatewayConfig(), defaults).for_person("u", request).item_ids


def test_what_is_withdrawn_not_out_yet_or_seen_is_in_no_list(catalog):
    assert ids(catalog) == ["a1", "a2", "a3", "b1", "c1"]
    assert ids(catalog, history=("a1", "b1")) == ["a2", "a3", "c1"]


def test_a_domain_that_is_asked_for_holds(catalog):
    assert ids(catalog, domain="film") == ["c1"]


def test_the_operators_cap_holds_until_the_request_says_otherwise(catalog):
    capped = ListDefaults(max_per_creator=1)
    assert ids(catalog, capped) == ["a1", "b1", "c1"]
    assert ids(catalog, capped, max_per_creator=2) == ["a1", "a2", "b1", "c1"]
    assert ids(catalog, capped, max_per_creator=NONE) == ["a1", "a2", "a3", "b1", "c1"]


def test_the_operators_diversity_brings_what_is_unlike_forward(catalog):
    """The film shares nothing with the first song; a2 shares creator, domain and tag, b1 domain and tag."""
    diverse = ListDefaults(diversity=0.6)
    assert ids(catalog, diverse, k=3) == ["a1", "c1", "b1"]
    assert ids(catalog, diverse, k=3, diversity=NONE) == ["a1", "a2", "a3"]
    assert ids(catalog, k=3, diversity=0.6) == ["a1", "c1", "b1"]


def test_the_last_list_obeys_the_rules_of_this_request(catalog):
    fallbacks = Fallbacks(catalog, GatewayConfig(), ListDefaults(max_per_creator=1))
    fallbacks.remember("u", ["gone", "a2", "a1", "b1"], [4.0, 3.0, 2.0, 1.0])
    found = fallbacks.for_person("u", RecommendRequest("u", 5, History(("b1",))))
    assert (found.answered_by, found.item_ids, found.scores) == ("last_list", ["a2"], [3.0])
    fallbacks.forget("u")
    assert fallbacks.for_person("u", RecommendRequest("u", 5)).answered_by == "popular"
