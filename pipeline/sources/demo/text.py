"""Titles, descriptions and tags of the demo world: they name a few traits of an item by their pole, and sometimes
wrongly.

A trait is told as a word for its low or high end, so that text never holds the whole of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.sources.demo.world import TRAITS, DemoConfig, Items, generator

WRONG_WORD = 0.12  # chance that a word names the other pole
CHINESE_SHARE = 0.15

# Each trait: words for its low end, words for its high end.
ENGLISH = {
    "register": (("deep", "low"), ("high", "airy")),
    "tempo": (("slow", "unhurried"), ("fast", "brisk")),
    "brightness": (("muffled", "mellow"), ("bright", "crisp")),
    "grit": (("pure", "smooth"), ("gritty", "noisy")),
    "hue": (("warm", "amber"), ("cold", "azure")),
    "motion": (("still", "calm"), ("restless", "hectic")),
    "contrast": (("hazy", "faded"), ("stark", "vivid")),
    "angularity": (("round", "gentle"), ("spiky", "jagged")),
}
CHINESE = {
    "register": ("低沉", "高亢"),
    "tempo": ("缓慢", "急速"),
    "brightness": ("柔和", "清亮"),
    "grit": ("纯净", "粗粝"),
    "hue": ("暖色", "冷色"),
    "motion": ("静止", "奔涌"),
    "contrast": ("朦胧", "鲜明"),
    "angularity": ("圆润", "锋利"),
}
NOUNS = {
    "music": ("Harbour", "Lantern", "Waltz", "Signal", "Meridian", "Parade", "Lullaby", "Tides", "Engine", "Orchard"),
    "video": ("Rooftops", "Kitchen", "Night Market", "Workshop", "Ferry", "Street Corner", "Greenhouse", "Arcade"),
    "film": ("Witness", "Crossing", "Inheritance", "Lighthouse", "Homecoming", "Masquerade", "Border", "Winter"),
    "game": ("Citadel", "Labyrinth", "Drifters", "Tournament", "Outpost", "Voyage", "Puzzle Box", "Circuit"),
    "course": ("Drawing", "Harmony", "Optics", "Statistics", "Animation", "Acoustics", "Storytelling", "Geometry"),
}
CHINESE_NOUNS = {
    "music": ("夜航", "远山", "雨巷", "灯塔"),
    "video": ("街角", "渡口", "厨房", "夜市"),
    "film": ("归途", "边城", "长夜", "旧信"),
    "game": ("迷城", "远征", "星环", "机关"),
    "course": ("素描入门", "声学基础", "光影课", "叙事课"),
}
GENRES = {
    "music": ("electronic", "folk", "ambient", "jazz"),
    "video": ("vlog", "travel", "craft", "street"),
    "film": ("drama", "thriller", "short film", "documentary"),
    "game": ("puzzle", "adventure", "racing", "strategy"),
    "course": ("art", "science", "music theory", "design"),
}
SENTENCES = {
    "music": "Opens with {} tones and closes with {} ones.",
    "video": "Filmed in one afternoon: {} moods, {} details.",
    "film": "A story told in {} scenes and {} silences.",
    "game": "Explore {} worlds full of {} rooms.",
    "course": "Learn by {} examples and {} exercises.",
}
FIRST_NAMES = ("Ada", "Bram", "Chiyo", "Dario", "Elif", "Femi", "Greta", "Hao", "Ines", "Jonas", "Kavya", "Lin")
LAST_NAMES = (
    "Arden",
    "Bellamy",
    "Castellan",
    "Dvorak",
    "Eriksen",
    "Farouk",
    "Guo",
    "Holloway",
    "Ibarra",
    "Jansen",
    "Kimura",
    "Lindqvist",
)


@dataclass(frozen=True)
class ItemText:
    """The texts of one item; "" where the catalogue has none."""

    title: str
    description: str
    tags: list[str]
    creator: str


def write_texts(config: DemoConfig, items: Items) -> list[ItemText]:
    """The texts of every item, in order."""
    return [_item_text(generator(config, "text", row), items, row) for row in range(len(items.ids))]


def creator_name(domain: str, creator: int) -> str:
    """The name of a domain's n-th creator; different for each."""
    offset = list(NOUNS).index(domain)
    first = FIRST_NAMES[(creator + 5 * offset) % len(FIRST_NAMES)]
    last = LAST_NAMES[(creator * 7 + offset + creator // len(FIRST_NAMES)) % len(LAST_NAMES)]
    return f"{first} {last}"


def _item_text(rng: np.random.Generator, items: Items, row: int) -> ItemText:
    domain, traits = items.domains[row], items.traits[row]
    # A few traits are told, those that stand out more often; a title, a description and tags share them.
    told = rng.choice(len(TRAITS), size=4, replace=False, p=_salience(traits))
    poles = {TRAITS[index]: int((traits[index] > 0) != (rng.random() < WRONG_WORD)) for index in told}
    names = list(poles)

    chinese = rng.random() < CHINESE_SHARE
    words = [str(rng.choice(ENGLISH[name][pole])) for name, pole in poles.items()]
    if chinese:
        title = CHINESE[names[0]][poles[names[0]]] + str(rng.choice(CHINESE_NOUNS[domain]))
    elif rng.random() < 0.6:
        title = f"{words[0].title()} {rng.choice(NOUNS[domain])}"
    else:
        title = f"The {rng.choice(NOUNS[domain])} of {creator_name(domain, items.creators[row]).split()[1]}"
    description = "" if rng.random() < 0.1 else SENTENCES[domain].format(words[1], words[2])
    tags = [] if rng.random() < 0.05 else [str(rng.choice(GENRES[domain])), *([words[3]] if rng.random() < 0.7 else [])]
    creator = "" if rng.random() < 0.05 else creator_name(domain, items.creators[row])
    return ItemText(title, description, tags, creator)


def _salience(traits: np.ndarray) -> np.ndarray:
    weights = 0.2 + np.abs(traits)
    return weights / weights.sum()
