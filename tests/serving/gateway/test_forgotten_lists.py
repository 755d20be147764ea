"""Lists of people who are forgotten while they are made: not written down, not remembered, not shown again."""

import asyncio
import time

import pytest

from serving.gateway.answers import Answers, Ask
from serving.gateway.catalog import Catalog
from serving.gateway.exposures import ExposureLog
from serving.gateway.metrics import Metrics
from serving.gateway.model_client import ModelUnavailable
from serving.gateway.model_requests import ListAnswer
from serving.gateway.records import Exposure, StoredItem
from serving.gateway.tracing import Tracing
from tests.serving.gateway import running

MARKS = ("old mark", "mark")


class Model:
    """Answers when it is let; then it is away."""

    def __init__(self):
        self.is_asked, self.may_answer, self.is_away = asyncio.Event(), asyncio.Event(), False

    async def recommend(self, request, timeout_s):
        if self.is_away:
            raise ModelUnavailable("unavailable", "away")
        self.is_asked.set()
        await self.may_answer.wait()
        return ListAnswer(["b"], [1.0], 1)


def told(story, tmp_path):
    """Runs a story: a coroutine function of the model, the store and the answers."""

    async def go(store):
        await store.put_items([StoredItem("a", {}), StoredItem("b", {})])
        settings, catalog, metrics, model = running.settings("127.0.0.1:1", "unused"), Catalog(), Metrics(), Model()
        await catalog.refresh(store)
        log = ExposureLog(store, metrics)
        await story(model, store, Answers(settings, store, model, catalog, log, metrics, Tracing()))
        await log.flush()
        return [one async for one in store.exposures()]

    return running.run(go, tmp_path / "store.sqlite")


def ask():
    return Ask("r", time.monotonic() + 60, "u", 1, MARKS)


async def who_stands_in(answers):
    return (await answers.recommend(ask())).degraded.answered_by


@pytest.mark.parametrize("by_this_gateway", [False, True])
def test_a_list_under_way_is_neither_written_down_nor_remembered(tmp_path, by_this_gateway):
    async def story(model, store, answers):
        under_way = asyncio.ensure_future(answers.recommend(ask()))
        await model.is_asked.wait()
        if by_this_gateway:
            answers.forget("u")
        await store.forget_user("u", "mark", 5)
        model.may_answer.set()
        assert (await under_way).item_ids == ["b"]
        model.is_away = True
        assert await who_stands_in(answers) == "latest"

    assert told(story, tmp_path) == []


def test_the_last_list_of_who_is_not_forgotten_stands_in(tmp_path):
    async def story(model, store, answers):
        model.may_answer.set()
        await answers.recommend(ask())
        model.is_away = True
        assert await who_stands_in(answers) == "last_list"

    assert [one.user_id for one in told(story, tmp_path)] == ["u"], "both lists have one id here"


def test_a_list_that_waits_to_be_written_is_dropped(tmp_path):
    async def go(store):
        log = ExposureLog(store, Metrics())
        for number, (user_id, marks) in enumerate({"u": MARKS, "v": ("another",), "": ()}.items()):
            log.add(Exposure(f"r{number}", user_id, 5, ("a",), (1.0,)), marks)
        await store.forget_user("u", "mark", 5)
        await log.flush()
        return [one.user_id async for one in store.exposures()]

    assert sorted(running.run(go, tmp_path / "store.sqlite")) == ["", "v"]
