"""The page in a real Chromium: each story of a person, by keyboard too, on a phone, in the dark."""

import re
import shutil
from dataclasses import replace

import pytest

from serving.gateway.records import Event
from tests.serving.gateway import running

pytestmark = pytest.mark.browser
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
if CHROMIUM is None:
    pytest.skip("chromium is not installed", allow_module_level=True)

from axe_playwright_python.sync_playwright import Axe  # noqa: E402
from playwright.sync_api import expect, sync_playwright  # noqa: E402

PATIENCE_MS = 60_000  # the machine may be busy
LIKE, SKIP = re.compile("^Like "), re.compile("^Skip ")  # not "More like this"
SERIOUS = {"serious", "critical"}


@pytest.fixture(scope="module")
def service(model_server, tmp_path_factory, clips):
    """A gateway whose item i0 is a sound and whose item i1 a moving picture."""
    folder = tmp_path_factory.mktemp("browser")
    media = folder / "media"
    media.mkdir()
    (media / "tone.wav").write_bytes(clips.audio(clips.tone(1.0)))
    running.fill(folder / "store.sqlite", media_uri="tone.wav")
    third = Event("third", "someone", "i3", "like", 1_700_000_000)  # with i1 and i2, three that somebody new can choose
    running.run(lambda store: store.add_events([third]), folder / "store.sqlite")
    settings = running.settings(model_server, folder / "store.sqlite")
    started = running.Gateway(folder / "process", replace(settings, data=replace(settings.data, media_root=str(media))))
    yield started
    started.stop()


@pytest.fixture(scope="module")
def chromium(service):  # after it: Playwright keeps an event loop running in this thread
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--autoplay-policy=no-user-gesture-required"]
        )
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium, service):
    """visit(**options) opens a fresh context on the first page; what the console says is kept in `page.said`."""
    contexts = []

    def open_page(**options):
        context = chromium.new_context(base_url=service.url, **options)
        context.set_default_timeout(PATIENCE_MS)
        contexts.append(context)
        page = context.new_page()
        page.said = []
        page.on("console", lambda line: page.said.append(line.text) if line.type == "error" else None)
        page.on("pageerror", lambda error: page.said.append(str(error)))
        page.goto("/")
        return page

    yield open_page
    for context in contexts:
        context.close()


def sign_in(page, user_id):
    page.get_by_label("Id", exact=True).fill(user_id)
    page.get_by_role("button", name="Sign in", exact=True).click()
    expect(page.get_by_role("heading", name="Your list")).to_be_visible(timeout=PATIENCE_MS)


def shown(page):
    return page.locator("li.card").evaluate_all("cards => cards.map(card => card.dataset.item)")


def request_of(page):
    return page.locator("ol.list").get_attribute("data-request")


def after(page, act):
    """Do something and wait for the next list."""
    before = request_of(page)
    act()
    expect(page.locator("ol.list")).not_to_have_attribute("data-request", before, timeout=PATIENCE_MS)


def test_a_like_and_a_skip_change_the_list_before_ones_eyes(visit):
    page = visit()
    sign_in(page, "browser-1")
    liked, skipped = shown(page)[:2]
    after(page, lambda: page.locator(f'[data-item="{liked}"]').get_by_role("button", name=LIKE).click())
    assert liked not in shown(page)
    expect(page.get_by_label("What you did")).to_contain_text(f"like Title {liked[1:]}")
    if skipped in shown(page):
        after(page, lambda: page.locator(f'[data-item="{skipped}"]').get_by_role("button", name=SKIP).click())
    assert skipped not in shown(page)
    assert page.said == []


def test_playing_is_told_once_and_so_is_the_end(visit, service):
    page = visit()
    sign_in(page, "browser-2")
    page.evaluate("""() => htmx.ajax("GET", "/page/player/i0", {target: "#player"})""")
    expect(page.locator("#player audio")).to_be_visible(timeout=PATIENCE_MS)
    history = page.get_by_label("What you did")
    expect(history).to_contain_text("complete", timeout=PATIENCE_MS)
    events = service.http.get("/v1/users/browser-2/data").json()["events"]
    assert [event["event"] for event in events] in (["play", "complete"], ["complete", "play"])
    assert page.said == []


def test_somebody_new_chooses_three_things_and_gets_a_list(visit):
    page = visit()
    button = page.get_by_role("button", name="Show me a list")
    expect(button).to_be_disabled()
    boxes = page.locator("input[name=liked]")
    for place in range(3):
        boxes.nth(place).check()
    button.click()
    expect(page.locator("li.card").first).to_be_visible(timeout=PATIENCE_MS)


def test_why_this_shows_parts_and_more_like_this_shows_items(visit):
    page = visit()
    sign_in(page, "u0")
    card = page.locator("li.card").first
    card.get_by_role("button", name="Why this").click()
    expect(card.locator(".why")).to_contain_text("Why", timeout=PATIENCE_MS)
    card.get_by_role("button", name="More like this").click()
    expect(card.locator(".similar li").first).to_be_visible(timeout=PATIENCE_MS)
    ways = card.get_by_role("group", name="Alike in what")
    ways.get_by_role("button", name="Sound and look").click()
    expect(ways.get_by_role("button", name="Sound and look")).to_have_attribute(
        "aria-pressed", "true", timeout=PATIENCE_MS
    )
    expect(ways.get_by_role("button", name="Sound and look")).to_be_focused()
    assert card.locator(".alike").count() == 1 and card.locator(".similar li").count() == 6
    assert page.said == []


def test_the_domain_control_holds_for_the_whole_list(visit):
    page = visit()
    sign_in(page, "browser-3")
    after(page, lambda: page.get_by_label("Domain").select_option("film"))
    texts = page.locator("li.card .about > p:first-of-type").all_inner_texts()
    assert texts and all("film" in text for text in texts)


def test_everything_can_be_done_with_the_keyboard(visit):
    page = visit()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the list")).to_be_focused()
    page.get_by_label("Id", exact=True).focus()
    page.keyboard.type("browser-4")
    page.keyboard.press("Enter")
    expect(page.locator("li.card").first).to_be_visible(timeout=PATIENCE_MS)
    like = page.get_by_role("button", name=LIKE).first
    like.focus()
    after(page, lambda: page.keyboard.press("Enter"))
    expect(page.get_by_label("What you did")).to_contain_text("like")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_no_serious_fault_of_accessibility_and_nothing_wider_than_the_screen(visit, scheme, width):
    page = visit(color_scheme=scheme, viewport={"width": width, "height": 844})
    faults = list(serious(page))
    sign_in(page, "browser-5")
    faults += serious(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.goto("/dashboard")
    faults += serious(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert not faults


def serious(page):
    """Faults that axe calls serious or critical."""
    found = Axe().run(page).response["violations"]
    return [
        (fault["id"], fault["nodes"][0]["html"], fault["nodes"][0]["target"])
        for fault in found
        if fault["impact"] in SERIOUS
    ]


def test_script_in_a_title_is_text(visit, service):
    title = '<img src=x onerror="document.title=1">'
    service.http.put("/v1/items/i4", json={"title": title, "domain": "film"})
    page = visit()
    sign_in(page, "browser-6")
    page.evaluate("""() => htmx.ajax("GET", "/page/similar/i5", {target: "#player"})""")
    expect(page.locator("#player .similar li").first).to_be_visible(timeout=PATIENCE_MS)
    assert page.locator("img[src=x]").count() == 0 and page.title() != "1"
