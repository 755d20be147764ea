"""The page of neighbours to listen to: which items it shows, what they are near, and that their files are found."""

from __future__ import annotations

import dataclasses
import re
import shutil
import wave
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest

from pipeline.config import Config
from pipeline.report import neighbours, write
from pipeline.report.neighbours import PAGE, Card, spread
from pipeline.run_history import read_runs
from tests.pipeline.report.recorded import HOSTILE, ITEMS
from tests.serving import tiny

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")
def page(config: Config, tmp_path_factory) -> Path:
    """The page of the newest run; i5 has no file, all others a second of a tone."""
    media = tmp_path_factory.mktemp("media files")
    tone = (8000 * np.sin(np.arange(8000) / 3)).astype("<i2").tobytes()
    for item_id in set(ITEMS) - {"i5"}:
        with wave.open(str(media / f"{item_id}#1.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(8000)
            file.writeframes(tone)
    data = dataclasses.replace(config.data, media_root=str(media))
    return write.write_run(dataclasses.replace(config, data=data)).with_name(PAGE)


def test_the_report_leads_to_it_where_there_are_media(page: Path, config: Config) -> None:
    assert f'href="{PAGE}"' in page.with_name("index.html").read_text(encoding="utf-8")
    page.with_name("index.html").unlink()
    assert f'href="{PAGE}"' not in write.write_run(config).read_text(encoding="utf-8")


def test_without_media_nobody_s_interactions_are_read(config: Config, monkeypatch) -> None:
    """They are many, and the page would not be written."""
    asked = []
    monkeypatch.setattr(neighbours, "_plays", lambda *arguments: asked.append(arguments))
    (newest,) = read_runs(config.work_path)[-1:]
    assert neighbours.write_neighbours(newest, config.data, config.work_path / "report") is None and not asked


def test_plays_are_the_positive_interactions_of_everybody(config: Config) -> None:
    (newest,) = read_runs(config.work_path)[-1:]
    plays = neighbours._plays(newest.output("Interactions", "sequences"), ITEMS)
    assert {item_id for item_id, count in plays.items() if count} == {"i0", "i3"} and set(plays) == set(ITEMS)


def test_every_file_is_found_from_the_page(page: Path) -> None:
    """By a path relative to the page, in which a number sign is no fragment; an item without a file has no player."""
    text = page.read_text(encoding="utf-8")
    places = set(re.findall(r'<source src="([^"/][^"]*)"', text))
    assert len(places) == len(ITEMS) - 1 and all("#" not in place for place in places)
    assert all((page.parent / unquote(place)).is_file() for place in places)
    assert "no file" in text and HOSTILE not in text and "<script" not in text


def test_the_lists_are_those_of_the_servable(page: Path) -> None:
    """Ten items with three lists each, beside numpy; i11, which nobody has taken, has none by behaviour."""
    views = [tiny.vectors_of(12, seed) for seed in (8, 9, 0)]
    views[0] = tiny.from_mean(views[0])
    sections = page.read_text(encoding="utf-8").split("<section ")[1:]
    assert len(sections) == 10
    for section in sections:
        title = re.search(r"<h2>(.*?)</h2>", section)[1]
        row = 1 if "script" in title else ITEMS.index(title.removeprefix("Title of "))
        for place, part in enumerate(section.split("<ol ")[1:]):
            vectors = views[2 if row == 11 and place == 1 else place]
            nearest = [other for other in np.argsort(-(vectors @ vectors[row])) if other != row]
            if place == 1 and row != 11:
                nearest.remove(11)
            shown = [1 if "script" in one else ITEMS.index(one.removeprefix("Title of "))
                     for one in re.findall(r"<b>(.*?)</b>", part)]  # fmt: skip
            assert shown == nearest[:10]
        assert ("these are by both" in section) == (row == 11)


def test_items_are_spread_over_domains_and_from_the_most_to_the_least_taken() -> None:
    cards = [Card(f"{domain}{plays}", domain=domain, plays=plays) for domain in "abc" for plays in range(9)]
    chosen = spread(cards[::-1], 10)
    assert [card.item_id for card in chosen] == ["a8", "a5", "a3", "a0", "b8", "b4", "b0", "c8", "c4", "c0"]
    assert spread(cards, 2) == [cards[8], cards[17]]
    assert len(spread(cards[:4], 10)) == 4 and spread([], 10) == []
    assert len(spread(cards[:10], 10)) == 10, "a domain gives what another has not"


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_plays_when_it_is_opened_from_the_disk(page: Path, scheme: str) -> None:
    """In a real Chromium: a file plays, nothing is asked of a network, nothing sticks out of a phone's screen."""
    from axe_playwright_python.sync_playwright import Axe
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        context = browser.new_context(viewport={"width": 360, "height": 800}, color_scheme=scheme)
        shown, asked = context.new_page(), []
        shown.on("request", lambda request: asked.append(request.url))
        shown.goto(page.as_uri())
        play = "async () => { const one = document.querySelector('audio'); await one.play(); return one.duration; }"
        assert shown.evaluate(play) == pytest.approx(1.0, abs=0.05)
        assert all(url.startswith(("file:", "data:image/jpeg")) for url in asked)
        assert shown.evaluate("document.documentElement.scrollWidth") == 360
        found = Axe().run(shown).response["violations"]
        assert not [fault["id"] for fault in found if fault["impact"] in ("serious", "critical")]
        browser.close()
