"""What the people of the demo world do: they choose by taste and popularity, and react by taste."""

from __future__ import annotations

import numpy as np

from pipeline.sources.demo.world import DAY_S, START_S, DemoConfig, Items, People, generator

EVENTS_PER_VISIT = 1.4
CHOICE_SHARPNESS = 2.6  # how much of a choice is affinity; the rest is popularity, novelty and chance
NOVELTY = 2.6  # what the front page adds to an item in its first days
NOVELTY_DAYS = 6
REPLAY_SHARE = 0.03

Event = tuple[str, str, int, str, float | None]  # user_id, item_id, seconds since 1970, event, value


def affinities(people_taste: np.ndarray, traits: np.ndarray) -> np.ndarray:
    """taste . traits: float64 [..., T] x [N, T] -> [..., N]."""
    return people_taste @ traits.T


def num_visits(config: DemoConfig) -> int:
    """How many visits give about `config.num_events` events."""
    return round(config.num_events / EVENTS_PER_VISIT)


def taste_at(people: People, user: int, time_s: int, config: DemoConfig) -> np.ndarray:
    """float64 [T]: the person's taste on the way from its start to its end."""
    progress = (time_s - START_S) / (config.num_days * DAY_S)
    return (1 - progress) * people.taste_start[user] + progress * people.taste_end[user]


def simulate(config: DemoConfig, items: Items, people: People, times_s: np.ndarray) -> list[Event]:
    """Walk through the visits in time; each is one choice among what has appeared, mostly of something not yet chosen.

    times_s: int64 [V], ascending. Returns the events in the order of time.
    """
    rng = generator(config, "events")
    users = rng.choice(len(people.ids), size=len(times_s), p=people.activity)
    seen = np.zeros((len(people.ids), len(items.ids)), bool)
    events: list[Event] = []
    for user, time_s in zip(users, times_s):
        affinity = affinities(taste_at(people, user, time_s, config), items.traits)
        published = items.published_s <= time_s
        replays = seen[user].any() and rng.random() < REPLAY_SHARE
        allowed = seen[user] if replays else published & ~seen[user]
        if not allowed.any():
            continue
        fresh = published & (time_s - items.published_s < NOVELTY_DAYS * DAY_S)
        appeal = CHOICE_SHARPNESS * affinity + items.pull + NOVELTY * fresh
        item = int(np.argmax(np.where(allowed, appeal + rng.gumbel(size=len(appeal)), -np.inf)))
        seen[user, item] = True
        pleasure = affinity[item] + rng.normal(0.0, 0.5)
        length_s = float(items.duration_s[item])
        for kind, delay_s, value in _reactions(rng, pleasure, length_s):
            events.append((people.ids[user], items.ids[item], int(time_s) + delay_s, kind, value))
    events.sort(key=lambda event: event[2])
    return events


def _reactions(rng: np.random.Generator, pleasure: float, length_s: float) -> list[tuple[str, int, float | None]]:
    """Kind, seconds after the start of the visit, value. A skip stands alone: what was skipped was not played."""
    reactions: list[tuple[str, int, float | None]] = []
    end_s = int(np.ceil(length_s))
    if pleasure < 0.5:
        reactions.append(("skip", 1, None))
    elif pleasure < 1.0 and rng.random() < 0.6:
        reactions.append(("play", 0, None))
    else:
        reactions.append(("complete", end_s, None))
    if pleasure > 1.0 and rng.random() < 0.4:
        reactions.append(("like", end_s + 1, None))
    if rng.random() < 0.18:
        reactions.append(("rating", end_s + 5, float(np.clip(np.rint(3.0 + 1.6 * (pleasure - 0.7)), 1, 5))))
    return reactions
