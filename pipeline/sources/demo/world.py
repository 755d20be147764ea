"""The hidden side of the demo world: items with traits, people with tastes, and what tells of them.

Dimensions: N items, U people, T traits (the first half can be heard, the second half seen).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

AUDIBLE = ("register", "tempo", "brightness", "grit")
VISIBLE = ("hue", "motion", "contrast", "angularity")
TRAITS = (
    AUDIBLE + VISIBLE
)  # low .. high: deep-high, slow-fast, dull-bright, pure-noisy; warm-cold, calm-busy, faint-strong, round-spiky

CROSS_MODAL = 0.5  # correlation of each visible trait with the audible one at the same place in its list
CREATOR_SHARE = 0.3  # of the variance: works of one creator resemble each other
START_S = 1_704_067_200  # 2024-01-01 00:00 UTC
DAY_S = 86_400

DOMAINS = {"music": 0.34, "video": 0.22, "film": 0.16, "game": 0.14, "course": 0.14}
# Shares of what an item of the domain consists of besides its text.
MEDIA_KINDS = ("audio", "video", "both", "none")
MEDIA_SHARES = {
    "music": (0.76, 0.02, 0.20, 0.02),
    "video": (0.02, 0.20, 0.75, 0.03),
    "film": (0.02, 0.10, 0.84, 0.04),
    "game": (0.04, 0.36, 0.56, 0.04),
    "course": (0.30, 0.10, 0.54, 0.06),
}
AUDIO_FORMATS = ("mp3", "m4a", "ogg", "flac", "wav")
VIDEO_FORMATS = ("mp4", "webm")
AGE_GROUPS = ("13-17", "18-24", "25-34", "35-49", "50+")


@dataclass(frozen=True)
class DemoConfig:
    """Size and seed of the world."""

    seed: int = 0
    num_items: int = 300
    num_people: int = 500
    num_events: int = 20_000  # about so many
    num_days: int = 60
    cold_share: float = 0.15  # of the items: they appear in the last days, after the default split's test cut
    media: bool = True  # without it the tables are the same and name the files, but the files are not there

    def __post_init__(self) -> None:
        if min(self.num_items, self.num_people, self.num_events, self.num_days) < 10:
            raise ValueError("a demo world needs at least 10 items, 10 people, 10 events and 10 days")


@dataclass(frozen=True)
class Items:
    """The catalogue's hidden and plain facts, one row an item."""

    ids: list[str]
    traits: np.ndarray  # float64 [N, T], about standard normal
    domains: list[str]
    creators: list[int]  # index of the creator within the domain
    media: list[str]  # of MEDIA_KINDS
    formats: list[str]  # file extension, "" without media
    cold: np.ndarray  # bool [N]
    published_s: np.ndarray  # int64 [N], seconds since 1970
    pull: (
        np.ndarray
    )  # float64 [N]: what popularity adds to the affinity of everyone; 0 for cold items, which nobody knows yet
    duration_s: np.ndarray  # float64 [N], length of the media file


@dataclass(frozen=True)
class People:
    """Tastes: the affinity of a person for an item is taste . traits; the taste moves in a straight line from start to
    end."""

    ids: list[str]
    taste_start: np.ndarray  # float64 [U, T]
    taste_end: np.ndarray  # float64 [U, T]
    activity: np.ndarray  # float64 [U], share of all visits
    age_groups: list[str]


def generator(config: DemoConfig, purpose: str, index: int = 0) -> np.random.Generator:
    """A stream of its own for each purpose and item, so that a change of one leaves the others as they are."""
    return np.random.default_rng([config.seed, *purpose.encode(), index])


def make_items(config: DemoConfig, visit_times_s: np.ndarray) -> Items:
    """Draw the catalogue.

    visit_times_s: int64 [V], ascending; cold items appear after 92 % of the visits, hence after the cut of a test
    share of 10 %.
    """
    rng = generator(config, "items")
    count = config.num_items
    domains = _deal(rng, DOMAINS, count)
    creators = [int(rng.integers(_num_creators(config, domain))) for domain in domains]
    media = [str(rng.choice(MEDIA_KINDS, p=MEDIA_SHARES[domain])) for domain in domains]
    cold = np.zeros(count, bool)
    cold[rng.permutation(count)[: round(config.cold_share * count)]] = True

    first_cold_s = int(visit_times_s[int(0.92 * len(visit_times_s))])
    span_s = config.num_days * DAY_S
    published_s = START_S - rng.integers(DAY_S, 730 * DAY_S, count)
    appears_during = rng.random(count) < 0.2
    published_s[appears_during] = START_S + rng.integers(DAY_S, int(0.7 * span_s), count)[appears_during]
    published_s[cold] = first_cold_s + rng.integers(0, int(0.02 * span_s), count)[cold]
    pull = np.where(cold, 0.0, rng.normal(0.0, 1.3, count))
    return Items(
        ids=[f"i{index:04d}" for index in range(count)],
        traits=_traits(rng, domains, creators),
        domains=domains,
        creators=creators,
        media=media,
        formats=[_file_format(rng, kind) for kind in media],
        cold=cold,
        published_s=published_s,
        pull=pull,
        duration_s=np.round(rng.uniform(4.0, 8.0, count), 1),
    )


def make_people(config: DemoConfig) -> People:
    """Draw the people: a third of a taste comes with the age group, the rest is their own; over the days it turns by
    up to 60 degrees."""
    rng = generator(config, "people")
    count, num_traits = config.num_people, len(TRAITS)
    groups = rng.integers(len(AGE_GROUPS), size=count)
    of_group = generator(config, "age groups").normal(size=(len(AGE_GROUPS), num_traits))[groups]
    start = _unit(np.sqrt(2 / 3) * rng.normal(size=(count, num_traits)) + np.sqrt(1 / 3) * of_group)
    aside = rng.normal(size=(count, num_traits))
    aside = _unit(aside - np.sum(aside * start, axis=1, keepdims=True) * start)
    turn = rng.uniform(0.0, np.pi / 3, (count, 1))
    activity = rng.lognormal(0.0, 0.6, count)
    return People(
        ids=[f"u{index:04d}" for index in range(count)],
        taste_start=start,
        taste_end=np.cos(turn) * start + np.sin(turn) * aside,
        activity=activity / activity.sum(),
        age_groups=[AGE_GROUPS[group] for group in groups],
    )


def visit_times(config: DemoConfig, num_visits: int) -> np.ndarray:
    """When the visits happen: int64 [num_visits] seconds since 1970, ascending; as many every day, most in the
    evening."""
    rng = generator(config, "times")
    days = rng.integers(config.num_days, size=num_visits)
    hours = np.clip(rng.normal(19.0, 4.0, num_visits) % 24, 0, 23.999)
    return np.sort(START_S + days * DAY_S + (hours * 3600).astype(np.int64))


def _traits(rng: np.random.Generator, domains: list[str], creators: list[int]) -> np.ndarray:
    count, half = len(domains), len(AUDIBLE)
    own = rng.normal(size=(count, len(TRAITS)))
    style_of: dict[tuple[str, int], np.ndarray] = {}
    for key in sorted(set(zip(domains, creators))):
        style_of[key] = rng.normal(size=len(TRAITS))
    styles = np.array([style_of[key] for key in zip(domains, creators)])
    traits = np.sqrt(CREATOR_SHARE) * styles + np.sqrt(1 - CREATOR_SHARE) * own
    traits[:, half:] = CROSS_MODAL * traits[:, :half] + np.sqrt(1 - CROSS_MODAL**2) * traits[:, half:]
    return traits


def _deal(rng: np.random.Generator, shares: dict[str, float], count: int) -> list[str]:
    """`count` names in the given shares, the rounding left to the first, in random order."""
    names = [name for name, share in shares.items() for _ in range(round(share * count))][:count]
    names += [next(iter(shares))] * (count - len(names))
    return [names[index] for index in rng.permutation(count)]


def _num_creators(config: DemoConfig, domain: str) -> int:
    return max(2, round(DOMAINS[domain] * config.num_items / 5))


def _file_format(rng: np.random.Generator, kind: str) -> str:
    if kind == "none":
        return ""
    if kind == "audio":
        return str(rng.choice(AUDIO_FORMATS, p=(0.3, 0.25, 0.15, 0.15, 0.15)))
    return str(rng.choice(VIDEO_FORMATS, p=(0.7, 0.3)))


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)
