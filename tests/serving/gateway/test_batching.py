"""Requests that share a call of the model: who goes with whom, and that nobody notices."""

import asyncio
from contextlib import suppress

import numpy as np
import pytest

from serving.gateway import messages
from serving.gateway.batching import Batcher
from serving.gateway.model_client import CALLS_AT_ONCE, ModelClient, ModelRefused
from serving.gateway.model_requests import History, RecommendRequest, Rules


class Model:
    """Answers n with 10 n when it is let; refuses negative numbers and breaks at a thousand."""

    def __init__(self):
        self.calls, self._turn = [], asyncio.Event()

    async def __call__(self, requests, timeout_s):
        self.calls.append(list(requests))
        await self._turn.wait()
        if any(number < 0 for number in requests):
            raise ModelRefused("negative")
        if 1000 in requests:
            raise RuntimeError("broken")
        return [10 * number for number in requests]

    async def answer(self):
        """Let what has been asked be answered, and what is asked meanwhile."""
        self._turn.set()
        await settled()


async def settled():
    for _ in range(20):
        await asyncio.sleep(0)


def batched(story, at_once=1, most=3):
    """Runs a story: a coroutine function of the model and of a function that asks it."""

    async def run():
        model = Model()
        batcher = Batcher(model, at_once, most, ModelRefused)

        def ask(number, kind="a", timeout_s=60.0):
            return asyncio.ensure_future(batcher(kind, number, timeout_s))

        return await story(model, ask)

    return asyncio.run(run())


def test_who_finds_the_model_free_goes_alone_and_at_once():
    async def story(model, ask):
        asked = [ask(1), ask(2)]
        await settled()
        assert model.calls == [[1], [2]]
        await model.answer()
        assert await asyncio.gather(*asked) == [10, 20]

    batched(story, at_once=2)


def test_who_comes_meanwhile_shares_the_next_call_oldest_first_as_many_as_fit():
    async def story(model, ask):
        asked = [ask(number) for number in range(6)]
        await settled()
        assert model.calls == [[0]]
        await model.answer()
        assert model.calls == [[0], [1, 2, 3], [4, 5]]
        assert await asyncio.gather(*asked) == [0, 10, 20, 30, 40, 50]

    batched(story)


def test_kinds_do_not_share_a_call_and_a_slow_one_holds_up_no_other():
    async def story(model, ask):
        asked = [ask(0), *(ask(number, "a") for number in range(1, 6)), ask(6, "b")]
        await settled()
        assert model.calls == [[0], [6]], "b is asked while a is not answered"
        await model.answer()
        assert model.calls == [[0], [6], [1, 2, 3], [4, 5]]
        assert await asyncio.gather(*asked) == [10 * number for number in range(7)]

    batched(story)


def test_a_refused_request_does_not_spoil_the_others_of_its_call():
    async def story(model, ask):
        asked = [ask(number) for number in (0, 1, -2, 3)]
        await settled()
        await model.answer()
        first, second, refused, fourth = await asyncio.gather(*asked, return_exceptions=True)
        assert (first, second, fourth) == (0, 10, 30) and isinstance(refused, ModelRefused)
        assert model.calls == [[0], [1, -2, 3], [1], [-2], [3]]

    batched(story)


def test_a_call_that_fails_fails_for_all_of_it_and_the_next_goes_on():
    async def story(model, ask):
        asked = [ask(number) for number in (0, 1, 1000, 2, 3)]
        await settled()
        await model.answer()
        found = await asyncio.gather(*asked, return_exceptions=True)
        assert [found[0], found[4]] == [0, 30] and [str(error) for error in found[1:4]] == ["broken"] * 3

    batched(story)


def test_who_has_no_time_left_does_not_wait_and_the_others_are_answered():
    async def story(model, ask):
        asked = [ask(0), ask(1, timeout_s=0.01), ask(2)]
        with pytest.raises(asyncio.TimeoutError):
            await asked[1]
        await model.answer()
        assert model.calls == [[0], [2]], "nobody waits for the answer any more"
        assert await asyncio.gather(asked[0], asked[2]) == [0, 20]

    batched(story)


def test_who_found_the_model_free_does_not_wait_beyond_his_time_and_the_next_is_asked():
    async def story(model, ask):
        asked = [ask(0, timeout_s=0.01), ask(1)]
        with pytest.raises(asyncio.TimeoutError):
            await asked[0]
        await settled()
        assert model.calls == [[0], [1]]
        await model.answer()
        assert await asked[1] == 10

    batched(story)


def test_who_goes_away_is_not_asked_for_and_leaves_his_call_to_the_others():
    async def story(model, ask):
        asked = [ask(0), ask(1), ask(2)]
        await settled()
        asked[0].cancel(), asked[1].cancel()
        with suppress(asyncio.CancelledError):
            await asked[0]
        await model.answer()
        assert model.calls == [[0], [2]] and await asked[2] == 20

    batched(story)


def requests():
    """Of every sort: long and short histories, none, unknown people and items, rules, options, lengths."""
    rng = np.random.default_rng(5)
    for number in range(24):
        items = tuple(
            f"i{item}" for item in rng.choice(40, int(rng.integers(0, 9)), replace=False)
        )  # 30 to 39: unknown
        history = History(items, ("play",) * len(items), tuple(float(age) for age in rng.integers(0, 9999, len(items))))
        rules = Rules(
            exclude=tuple(f"i{item}" for item in rng.choice(30, int(rng.integers(0, 4)))),
            allow=tuple(f"i{item}" for item in rng.choice(30, 6)) if number % 4 == 0 else (),
            domain="music" if number % 5 == 0 else "",
            max_per_creator=int(rng.integers(0, 3)),
        )
        yield RecommendRequest(
            f"u{number}", int(rng.integers(1, 12)), history, rules, diversity=0.3 * (number % 3),
            exploration_rate=0.5 * (number % 2), seed=number, time_s=1_700_000_000 + number,
        )  # fmt: skip


def test_lists_that_were_asked_for_together_are_those_that_each_alone_gets(model_server):
    async def run():
        client = ModelClient(model_server.address, "tiny")
        calls, predict = [], client._predict

        def counted(request, **options):
            calls.append(request.inputs["k"].tensor_shape.dim[0].size)
            return predict(request, **options)

        client._predict = counted
        asked = list(requests())
        alone = [await client.recommend(request, 60.0) for request in asked]
        assert calls == [1] * len(asked)
        calls.clear()
        together = await asyncio.gather(*(client.recommend(request, 60.0) for request in asked))
        await client.close()
        return calls, alone, together

    calls, alone, together = asyncio.run(run())
    assert sum(calls) == len(alone) and len(calls) <= CALLS_AT_ONCE + 4, calls
    assert (
        any(answer.item_ids for answer in alone) and len({answer.reasons[0] for answer in alone if answer.reasons}) > 2
    )
    for one, other in zip(alone, together):
        assert (one.item_ids, one.reasons, one.is_new_user) == (other.item_ids, other.reasons, other.is_new_user)
        np.testing.assert_allclose(one.scores, other.scores, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(one.probabilities, other.probabilities, rtol=1e-4, atol=1e-5)


def test_a_request_that_the_model_refuses_is_refused_alone(model_server):
    async def run():
        client = ModelClient(model_server.address, "tiny")
        asked = [RecommendRequest(f"u{number}", 5) for number in range(8)]
        asked[5] = RecommendRequest("u5", 5, diversity=7.0)
        found = await asyncio.gather(*(client.recommend(one, 60.0) for one in asked), return_exceptions=True)
        await client.close()
        return found

    found = asyncio.run(run())
    assert isinstance(found.pop(5), ModelRefused)
    assert all(answer.item_ids for answer in found)


def test_scores_that_are_no_numbers_are_no_answer_and_spoil_no_other(model_server):
    async def run():
        client = ModelClient(model_server.address, "tiny")
        predict = client._predict

        async def spoiled(request, **options):
            response = await predict(request, **options)
            scores = messages.array_of(response.outputs["scores"]).copy()
            scores[messages.array_of(request.inputs["user_id"]) == b"u3", 1] = np.nan
            response.outputs["scores"].tensor_content = scores.tobytes()
            return response

        client._predict = spoiled
        asked = (client.recommend(RecommendRequest(f"u{number}", 5), 60.0) for number in range(8))
        found = await asyncio.gather(*asked, return_exceptions=True)
        await client.close()
        return found

    found = asyncio.run(run())
    assert isinstance(refused := found.pop(3), ModelRefused) and "scores are not all finite" in str(refused)
    assert all(answer.item_ids for answer in found)
