"""The report in a real Chromium: nothing is asked of a network, it fits a phone, and it can be read by everybody."""

import shutil

import pytest

from pipeline.report import write
from tests.pipeline.report.recorded import FIRST_ID, SECOND_ID

pytestmark = pytest.mark.browser
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
if CHROMIUM is None:
    pytest.skip("chromium is not installed", allow_module_level=True)

from axe_playwright_python.sync_playwright import Axe  # noqa: E402
from playwright.sync_api import sync_playwright  # noqa: E402

SERIOUS = {"serious", "critical"}


@pytest.fixture(scope="module")
def files(config):
    return [write.write_run(config), write.write_two(config, FIRST_ID, SECOND_ID)]


@pytest.fixture(scope="module")
def chromium(files):  # after it: Playwright keeps an event loop running in this thread
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.mark.parametrize("width", [1200, 360])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_report_is_whole_by_itself_and_readable(chromium, files, width, scheme):
    """Nothing is fetched, nothing sticks out, the skip link leads to the report, axe finds nothing serious."""
    for file in files:
        context = chromium.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
        page, asked, said = context.new_page(), [], []
        page.on("request", lambda request, asked=asked: asked.append(request.url))
        page.on("console", lambda line, said=said: said.append(line.text))
        page.goto(file.as_uri())
        assert all(url == file.as_uri() or url.startswith("data:image/jpeg") for url in asked) and not said
        assert page.evaluate("document.documentElement.scrollWidth") == width
        page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        faults = [
            f"{fault['id']}: {node['html'][:120]}"
            for fault in Axe().run(page).response["violations"]
            if fault["impact"] in SERIOUS
            for node in fault["nodes"]
        ]
        assert not faults
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "main"
        context.close()
