"""The page without a browser: what it shows, what it escapes, whom it lets do what."""

import re

import httpx
import pytest

from serving.gateway.page.covers import cover
from serving.gateway.page.dashboard import Sample, Trend, quantile


@pytest.fixture
def browser(gateway):
    """A client that keeps cookies and follows redirects, as a browser does."""
    with httpx.Client(base_url=gateway.url, follow_redirects=True, timeout=30, trust_env=False) as client:
        yield client


@pytest.fixture
def signed_in(browser):
    browser.post("/page/sign-in", data={"user_id": "reader"})
    return browser


def cards(text):
    return re.findall(r'data-item="([^"]+)"', text)


def test_the_way_in_offers_popular_items_and_signs_somebody_new_in(browser):
    text = browser.get("/").text
    choices = re.findall(r'name="liked" value="([^"]+)"', text)
    assert choices[0] in ("i1", "i2") and "Choose 3 things" in text
    page = browser.post("/page/sign-in", data={"liked": choices[:2]})
    assert page.url.path == "/" and re.search(r"new-[0-9a-f]{8}", page.text)
    assert not set(choices[:2]) & set(cards(page.text))  # what was liked is not shown again


def test_a_like_changes_the_list_and_is_remembered(signed_in):
    before = signed_in.get("/page/list").text
    liked = cards(before)[0]
    form = {"item_id": liked, "event": "like", "event_id": "page-like-1", "request_id": ""}
    after = signed_in.post("/page/events", data=form).text
    assert liked in cards(before) and liked not in cards(after)
    assert re.search(rf"<b>like</b> Title {liked[1:]}\b", after)
    assert signed_in.post("/page/events", data=form).status_code == 200  # the same event again is no second one
    assert signed_in.get("/page/list").text.count("<b>like</b>") == 1


def test_an_event_of_an_unknown_kind_is_a_problem_in_words(signed_in):
    answer = signed_in.post("/page/events", data={"item_id": "i1", "event": "fly", "event_id": "x"})
    assert answer.status_code == 422 and "no event rule" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("/page/sign-in", {"user_id": "a\x00b"}),
        ("/page/sign-in", {"user_id": "x" * 257}),
        ("/page/sign-in", {"liked": ["\x01"]}),
        ("/page/events", {"item_id": "i1", "event": "like", "event_id": "e", "value": "nan"}),
        ("/page/events", {"item_id": "i1", "event": "like", "event_id": "e", "request_id": "a b"}),
        ("/page/events", {"item_id": "", "event": "like", "event_id": "e"}),
    ],
)
def test_what_a_form_may_not_hold_is_a_problem_and_no_failure(signed_in, path, form):
    assert signed_in.post(path, data=form).status_code == 422


def test_nobody_acts_without_signing_in(browser):
    form = {"item_id": "i1", "event": "like", "event_id": "y"}
    assert browser.post("/page/events", data=form).status_code == 401


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "http://elsewhere.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "null", "Sec-Fetch-Site": "same-origin"}, 200),
        ({"Origin": "null", "Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({}, 200),
    ],
)
def test_a_form_of_another_site_is_refused(signed_in, headers, status):
    form = {"item_id": "i1", "event": "like", "event_id": "z"}
    assert signed_in.post("/page/events", data=form, headers=headers).status_code == status


@pytest.mark.parametrize(("path", "form"), [("/page/key", {"key": "zy_x"}), ("/page/sign-out", {})])
def test_another_site_neither_signs_out_nor_sets_a_key(signed_in, path, form):
    answer = signed_in.post(path, data=form, headers={"Origin": "http://elsewhere.example"})
    assert answer.status_code == 403 and answer.json()["type"] == "urn:zhiyin:problem:other-origin"


def test_cookies_are_out_of_reach_of_scripts_and_other_sites(gateway):
    with httpx.Client(base_url=gateway.url, trust_env=False) as client:
        cookie = client.post("/page/sign-in", data={"user_id": "a b;c"}).headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie and "a%20b%3Bc" in cookie


@pytest.mark.parametrize("name", ['<script>alert("1")</script>', "' onmouseover='x", '"><img src=x>'])
def test_what_people_write_is_shown_as_text(browser, name):
    page = browser.post("/page/sign-in", data={"user_id": name})
    assert page.status_code == 200 and name not in page.text


def test_titles_and_tags_are_shown_as_text(gateway, browser):
    wicked = '<img src=x onerror="alert(1)">'
    gateway.http.put("/v1/items/i3", json={"title": wicked, "tags": [wicked], "domain": wicked, "creator": wicked})
    browser.post("/page/sign-in", data={"user_id": "curious"})
    for path in ("/page/list?domain=%3Cimg%3E", "/dashboard", "/", "/page/similar/i1"):
        assert wicked not in browser.get(path).text


def test_no_redirect_leads_away(browser):
    answer = browser.post("/page/sign-in?next=//elsewhere.example", data={"user_id": "u"}, follow_redirects=False)
    assert answer.headers["location"] == "/"


def test_why_and_more_like_this(signed_in):
    assert "Why" in signed_in.get("/page/why/i5").text
    assert "More like" in signed_in.get("/page/similar/i5").text
    assert signed_in.get("/page/similar/nothing").status_code == 404


def test_more_like_this_in_three_ways(signed_in):
    """One way is chosen, the list is its own, and an item that nobody has taken says what it gets instead."""
    lists = {}
    for by in ("both", "content", "behaviour"):
        text = signed_in.get("/page/similar/i5", params={"by": by}).text
        pressed = re.findall(r'aria-pressed="true" hx-get="/page/similar/i5\?by=(\w+)"', text)
        assert pressed == [by] and text.count("aria-pressed") == 3 and "so this is by both" not in text
        lists[by] = re.findall(r'<li><img src="/page/cover/([^"]+)"', text)
    assert len({tuple(items) for items in lists.values()}) == 3 and all(len(one) == 6 for one in lists.values())
    assert signed_in.get("/page/similar/i5").text == signed_in.get("/page/similar/i5", params={"by": "both"}).text
    assert "Nobody has taken it yet" in signed_in.get("/page/similar/i29", params={"by": "behaviour"}).text
    assert signed_in.get("/page/similar/i5", params={"by": "sound"}).status_code == 422


def test_the_dashboard_counts_what_was_asked(signed_in):
    signed_in.get("/page/list")
    text = signed_in.get("/dashboard").text
    assert "/page/list" in text and "events held" in text and "<td>music</td>" in text


def test_the_page_of_the_api_names_every_call(signed_in):
    text = signed_in.get("/docs").text
    for path in signed_in.get("/openapi.json").json()["paths"]:
        assert path in text


def test_the_page_needs_nothing_from_a_network(signed_in):
    for path in ("/", "/dashboard", "/docs"):
        page = signed_in.get(path)
        assert not re.search(r'(?:src|href)="(?:https?:)?//', page.text)
        assert "script-src 'self'" in page.headers["content-security-policy"]
        assert not re.search(r"<script(?![^>]*src=)|<[^>]*\s(?:on\w+|style)=", page.text)


def test_a_cover_is_the_same_for_the_same_item_and_says_nothing_of_it():
    assert cover("i1", "a") == cover("i1", "a") != cover("i2", "a")
    assert "<script" not in cover("</svg><script>", "<script>")


def test_a_quantile_lies_within_its_bucket():
    """Ten values, of which five are at most 1 and all at most 2: the median is 1, nine tenths lie at 1.8."""
    assert quantile([(1.0, 5), (2.0, 10), (float("inf"), 10)], 0.5) == 1.0
    assert quantile([(1.0, 5), (2.0, 10), (float("inf"), 10)], 0.9) == pytest.approx(1.8)
    assert quantile([(1.0, 0), (float("inf"), 4)], 0.5) == 1.0 and quantile([], 0.5) == 0.0


def test_the_trend_is_requests_a_second():
    trend = Trend()
    for time_s, requests in ((0, 0), (2, 10), (2.1, 11), (4, 12)):
        trend.look(Sample(time_s, requests, 0))
    assert trend.rates() == [(5.0, 0.0), (1.0, 0.0)]
