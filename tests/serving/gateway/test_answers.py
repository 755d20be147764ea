"""An event counts in the next answer; lists obey their rules; what is shown is the catalogue's."""

import time

import numpy as np
import pytest

from tests.serving import tiny
from tests.serving.gateway import running

UNSEEN = [f"i{row}" for row in range(running.NUM_ITEMS)]


def event(user_id, item_id, kind="like", **others):
    return {"user_id": user_id, "item_id": item_id, "event": kind, **others}


def test_a_list_has_titles_positions_scores_and_says_where_it_comes_from(gateway):
    answer = gateway.recommend("reader", k=4)
    assert [item["position"] for item in answer["items"]] == [1, 2, 3, 4]
    assert all(item["title"] == f"Title {item['item_id'][1:]}" for item in answer["items"])
    assert answer["model_version"] == 1
    assert answer["degraded"] is None
    assert answer["is_new_user"] is True


def test_an_event_counts_in_the_next_request(gateway):
    before = gateway.ids("eva", k=30)
    assert len(before) == running.NUM_ITEMS
    liked = before[5]
    outcome = gateway.post(event("eva", liked)).json()
    assert (outcome["accepted"], outcome["outcomes"][0]["status"]) == (1, "accepted")
    after = gateway.recommend("eva", k=30)
    ids = [item["item_id"] for item in after["items"]]
    assert liked not in ids, "what was taken is not offered again"
    assert ids != [item for item in before if item != liked], "and the taste has changed"
    assert after["is_new_user"] is False
    nearest = gateway.http.get(f"/v1/items/{liked}/similar", params={"k": 1}).json()["items"][0]["item_id"]
    assert ids[0] == nearest, "the tiny model offers what is nearest to the only thing liked"


def test_sessions_without_an_id_that_ask_at_once_explore_each_for_itself(gateway):
    def lists(**seed):
        body = {"history": [{"item_id": "i3", "event": "like"}], "k": 10, "exploration_rate": 0.5, **seed}
        answers = [gateway.http.post("/v1/recommendations", json=body).json() for _ in range(6)]
        return {tuple(item["item_id"] for item in answer["items"]) for answer in answers}

    assert len(lists()) >= 5
    assert len(lists(seed=3)) == 1


def test_the_same_event_twice_is_one(gateway):
    one = event("twice", "i3", event_id="e-1")
    assert gateway.post(one, one).json() | {"outcomes": 0} == {
        "accepted": 1, "duplicates": 1, "refused": 0, "outcomes": 0}  # fmt: skip
    assert gateway.post(one).json()["duplicates"] == 1


def test_each_event_of_a_batch_is_judged_by_itself(gateway):
    answer = gateway.post(
        event("mixed", "i1"),
        event("mixed", "i2", "unheard of"),
        {"user_id": "mixed"},
        event("mixed", "i2", timestamp=int(time.time()) + 10**6),
        "not an object",
    ).json()
    assert (answer["accepted"], answer["refused"]) == (1, 4)
    assert [one["field"] for one in answer["outcomes"]] == [None, "event", "item_id", "timestamp", "event"]


def test_a_history_in_the_body_stands_for_a_session(gateway):
    body = {"history": [{"item_id": "i4", "event": "like"}], "k": 30}
    answer = gateway.http.post("/v1/recommendations", json=body).json()
    ids = [item["item_id"] for item in answer["items"]]
    assert "i4" not in ids
    assert not answer["is_new_user"]
    assert gateway.http.post("/v1/recommendations", json={"k": 3}).json()["is_new_user"]


def test_rules_are_obeyed(gateway):
    films = gateway.recommend("ruled", k=30, domain="film")["items"]
    assert {item["domain"] for item in films} == {"film"}
    assert len(films) == 10
    assert "i1" not in gateway.ids("ruled", k=30, exclude=["i1", "i2"])
    assert sorted(gateway.ids("ruled", k=30, allow=["i7", "i8"])) == ["i7", "i8"]


def test_similar_popular_and_latest(gateway):
    similar = gateway.http.get("/v1/items/i3/similar", params={"k": 5}).json()["items"]
    assert len(similar) == 5
    assert "i3" not in [item["item_id"] for item in similar]
    assert [item["item_id"] for item in gateway.http.get("/v1/popular", params={"k": 2}).json()["items"]] == [
        "i1",
        "i2",
    ]
    latest = gateway.http.get("/v1/latest", params={"k": 2, "domain": "music"}).json()["items"]
    assert [item["item_id"] for item in latest] == ["i27", "i24"]


def test_similar_by_content_by_behaviour_and_by_both(gateway):
    """Beside numpy; nobody has taken i29, so its list is by both, and it is in none by behaviour."""
    vectors = {name: tiny.vectors_of(running.NUM_ITEMS, seed) for name, seed in running.VIEW_SEEDS.items()}
    vectors["content"] = tiny.from_mean(vectors["content"])
    vectors["both"] = tiny.vectors_of(running.NUM_ITEMS)
    for row, by in ((3, "content"), (3, "behaviour"), (3, "both"), (3, None), (29, "behaviour"), (29, "content")):
        told_by = "both" if by is None or (row, by) == (29, "behaviour") else by
        asked = {"k": running.NUM_ITEMS} | ({"by": by} if by else {})
        answer = gateway.http.get(f"/v1/items/i{row}/similar", params=asked).json()
        order = np.argsort(-(vectors[told_by] @ vectors[told_by][row]))
        hidden = {row, 29} if told_by == "behaviour" else {row}
        assert [item["item_id"] for item in answer["items"]] == [f"i{one}" for one in order if one not in hidden]
        assert (answer["by"], answer["degraded"]) == (told_by, None)
    refused = gateway.http.get("/v1/items/i3/similar", params={"by": "sound"})
    assert refused.status_code == 422 and refused.json()["errors"][0]["field"] == "query.by"
    assert gateway.recommend("reader", k=1)["by"] is None


def test_an_explanation_adds_up(gateway):
    gateway.post(event("curious", "i5"), event("curious", "i6", "play"))
    found = gateway.http.get("/v1/users/curious/explanations/i7").json()
    parts = sum(part["value"] for part in found["history"])
    assert found["score"] == pytest.approx(parts + found["history_rest"], abs=1e-4)
    assert [part["name"] for part in sorted(found["history"], key=lambda part: part["name"])] == ["i5", "i6"]
    assert gateway.http.get("/v1/users/curious/explanations/nothing").status_code == 404


def test_a_list_has_an_id_of_its_own_whatever_its_callers_call_their_requests(gateway):
    names = ("gil", "hal")
    path, headers = "/v1/users/{}/recommendations", {"X-Request-ID": "one-page"}
    answers = [gateway.http.get(path.format(name), headers=headers) for name in names]
    assert [answer.headers["X-Request-ID"] for answer in answers] == ["one-page"] * 2
    ids = [answer.json()["request_id"] for answer in answers]
    assert len({*ids, "one-page"}) == 3
    time.sleep(1)  # exposures are logged beside the answers
    for name, request_id in zip(names, ids):
        data = gateway.http.get(f"/v1/users/{name}/data").json()
        assert [one["request_id"] for one in data["exposures"]] == [request_id]


def test_what_is_held_of_a_person_is_shown_and_forgotten(gateway):
    gateway.post(*(event("fay", f"i{row}", event_id=f"fay-{row}") for row in range(5)))
    gateway.http.put("/v1/users/fay", json={"categorical": {"age_group": "25-34"}}).raise_for_status()
    shown = gateway.recommend("fay", k=2)["request_id"]
    time.sleep(1)  # exposures are logged beside the answers
    first = gateway.http.get("/v1/users/fay/data", params={"limit": 3}).json()
    assert [one["event_id"] for one in first["events"]] == ["fay-0", "fay-1", "fay-2"]
    assert first["features"] == {"age_group": "25-34"}
    assert [one["request_id"] for one in first["exposures"]] == [shown]
    second = gateway.http.get("/v1/users/fay/data", params={"limit": 3, "cursor": first["next_cursor"]}).json()
    assert [one["event_id"] for one in second["events"]] == ["fay-3", "fay-4"]
    assert second["next_cursor"] is None
    assert gateway.http.delete("/v1/users/fay").json() == {"user_id": "fay", "events_deleted": 5}
    assert gateway.http.get("/v1/users/fay/data").status_code == 404
    assert gateway.post(event("fay", "i9")).json()["outcomes"][0]["reason"] == "this person has asked to be forgotten"
    assert gateway.http.put("/v1/users/fay", json={}).status_code == 409
    assert gateway.recommend("fay", k=30)["is_new_user"]


def test_the_models_own_memory_of_a_forgotten_person_is_not_used(gateway):
    assert "i0" not in gateway.ids("known", k=30), "the model knows that this person took i0"
    gateway.http.delete("/v1/users/known").raise_for_status()
    assert "i0" in gateway.ids("known", k=30)


def test_no_log_line_names_a_person_or_an_item(gateway):
    gateway.post(event("a-very-secret-person", "i3"))
    gateway.recommend("a-very-secret-person", k=2)
    routes = {line.get("route") for line in running.lines(gateway)}
    assert "/v1/users/{user_id}/recommendations" in routes
    assert "a-very-secret-person" not in gateway.log()
