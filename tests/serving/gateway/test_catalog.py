"""Lists without a model obey the same rules."""

import asyncio
import time

import pytest

from components.config import EventRule
from serving.gateway.catalog import Catalog
from serving.gateway.model_requests import NONE, Rules, option_of
from serving.gateway.records import Event, StoredItem
from serving.gateway.stores.base import open_store

DAY_S = 86_400
RULES = {"like": EventRule(), "skip": EventRule(positive=False)}


@pytest.fixture
def catalog(tmp_path):
    now_s = int(time.time())
    items = {
        "old": {"published_at": now_s - 900 * DAY_S, "creator": "x", "domain": "film"},
        "new": {"published_at": now_s - DAY_S, "creator": "x", "domain": "music"},
        "announced": {"published_at": now_s + DAY_S, "domain": "music"},
        "undated": {"creator": "y", "domain": "music"},
    }
    likes = {"announced": 5, "old": 4, "new": 3, "undated": 2}
    events = [Event(f"{item}{n}", f"u{n}", item, "like") for item, count in likes.items() for n in range(count)]
    skips = [Event(f"skip{n}", f"u{n}", "undated", "skip") for n in range(9)]

    async def go(made):
        store = open_store(str(tmp_path / "store.sqlite"))
        await store.open()
        await store.put_items([StoredItem(name, fields) for name, fields in items.items()])
        await store.add_events([*events, *skips])
        await made.refresh(store)
        await made.count(store, RULES)
        await store.close()
        return made

    return lambda **settings: asyncio.run(go(Catalog(**settings)))


def ids(found):
    return [item_id for item_id, _ in found]


def test_popularity_counts_positive_events_and_nothing_is_shown_before_its_day(catalog):
    assert catalog().popular(9, Rules()) == [("old", 4.0), ("new", 3.0), ("undated", 2.0)]
    assert ids(catalog(show_unreleased=True).popular(1, Rules())) == ["announced"]


def test_rules_hold(catalog):
    made = catalog()
    assert ids(made.popular(9, Rules(domain="music"))) == ["new", "undated"]
    assert ids(made.popular(9, Rules(exclude=("old",)), frozenset(["new"]))) == ["undated"]
    assert ids(made.popular(9, Rules(allow=("new", "no such item")))) == ["new"]
    assert ids(made.popular(9, Rules(max_per_creator=1))) == ["old", "undated"]
    assert ids(made.popular(9, Rules(max_per_creator=NONE))) == ["old", "new", "undated"]
    assert ids(made.popular(9, Rules(max_item_age_s=7 * DAY_S))) == ["new"], "what has no date has no age"
    assert ids(made.latest(2, Rules())) == ["new", "old"]


def test_an_option_that_is_not_stated_is_the_operators_and_zero_is_none():
    assert (option_of(None), option_of(0), option_of(0.0), option_of(0.25), option_of(3)) == (0, NONE, NONE, 0.25, 3)
