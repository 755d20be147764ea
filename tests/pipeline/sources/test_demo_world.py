"""The demo world's tables: repeatable, honest about time, and worth learning from."""

import csv
import json
import re
from collections import Counter, defaultdict

import numpy as np
import pytest

from pipeline.sources.demo import dataset
from pipeline.sources.demo.ground_truth import Feedback, linear_scores, load_truth, oracle_scores, tune_linear
from pipeline.sources.demo.text import ENGLISH
from pipeline.sources.demo.world import TRAITS, DemoConfig
from pipeline.sources.folder import STAMP
from pipeline.sources.summary import SourceError

TINY = DemoConfig(seed=3, num_items=12, num_people=10, num_events=300, num_days=20, media=False)


def read(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".npz"
    }


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """The default world without its media files."""
    folder = tmp_path_factory.mktemp("demo") / "world"
    summary = dataset.write_demo(folder, DemoConfig(media=False))
    return folder, summary


@pytest.fixture(scope="module")
def interactions(world):
    """{(user, item): (first time, positive)} as the default event rules read it, and the times of the cuts of the
    default split."""
    events = sorted(read(world[0] / "events.csv"), key=lambda event: int(event["timestamp"]))
    times = [int(event["timestamp"]) for event in events]
    pairs = {}
    for event in events:
        positive = event["event"] != "skip" and (event["event"] != "rating" or float(event["value"]) >= 4)
        key = event["user_id"], event["item_id"]
        first, before = pairs.get(key, (int(event["timestamp"]), False))
        pairs[key] = first, before or positive
    return pairs, times[int(0.8 * len(times))], times[int(0.9 * len(times))]


def test_the_same_seed_gives_the_same_bytes_and_another_seed_another_world(tmp_path):
    first, second, other = (tmp_path / name for name in ("first", "second", "other"))
    dataset.write_demo(first, TINY)
    dataset.write_demo(second, TINY)
    dataset.write_demo(other, DemoConfig(**{**TINY.__dict__, "seed": 4}))
    assert contents(first) == contents(second)
    assert contents(first)["events.csv"] != contents(other)["events.csv"]
    truth, again = load_truth(first / "truth.npz"), load_truth(second / "truth.npz")
    assert np.array_equal(truth.traits, again.traits)
    assert np.array_equal(truth.taste_end, again.taste_end)


def test_what_is_there_is_left_alone_and_what_is_unfinished_is_made_anew(tmp_path):
    folder = tmp_path / "world"
    assert dataset.write_demo(folder, TINY).fresh
    before = (folder / "events.csv").stat().st_mtime_ns
    again = dataset.write_demo(folder, TINY)
    assert not again.fresh
    assert (folder / "events.csv").stat().st_mtime_ns == before
    assert again.events == len(read(folder / "events.csv"))

    stale = tmp_path / "world.partial" / "media"
    stale.mkdir(parents=True)
    (stale / "left_over.mp3").write_bytes(b"half")
    assert dataset.write_demo(folder, DemoConfig(**{**TINY.__dict__, "seed": 9})).fresh
    assert not (tmp_path / "world.partial").exists()
    assert not list((folder / "media").iterdir())
    assert json.loads((folder / STAMP).read_text())["identity"]["seed"] == 9


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(SourceError, match="holds other files"):
        dataset.write_demo(tmp_path, TINY)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_the_world_has_the_promised_size_and_variety(world):
    folder, summary = world
    catalogue, events, users = (read(folder / f"{name}.csv") for name in ("catalogue", "events", "users"))
    assert (summary.items, summary.users, summary.events) == (len(catalogue), len(users), len(events))
    assert len(catalogue) == 300
    assert len(users) == 500
    assert 18_000 <= len(events) <= 22_000
    assert {item["domain"] for item in catalogue} == {"music", "video", "film", "game", "course"}
    assert {item["media_uri"].rpartition(".")[2] for item in catalogue} == {
        "",
        "wav",
        "mp3",
        "flac",
        "ogg",
        "m4a",
        "mp4",
        "webm",
    }
    assert {event["event"] for event in events} == {"play", "complete", "like", "skip", "rating"}
    assert all((event["value"] != "") == (event["event"] == "rating") for event in events)
    assert {float(event["value"]) for event in events if event["value"]} == {1.0, 2.0, 3.0, 4.0, 5.0}
    assert sum(any("\u4e00" <= letter <= "\u9fff" for letter in item["title"]) for item in catalogue) > 20
    assert len({item["creator"] for item in catalogue}) > 40
    assert len({item["item_id"] for item in catalogue}) == 300


def test_events_are_in_order_and_name_known_items_that_have_appeared(world):
    folder, _ = world
    events, catalogue = read(folder / "events.csv"), {item["item_id"]: item for item in read(folder / "catalogue.csv")}
    times = [int(event["timestamp"]) for event in events]
    assert times == sorted(times)
    assert 55 < (times[-1] - times[0]) / 86_400 <= 60
    published = {
        key: np.datetime64(item["published_at"].rstrip("Z")).astype("datetime64[s]").astype(int)
        for key, item in catalogue.items()
    }
    assert all(published[event["item_id"]] <= time for event, time in zip(events, times))
    visits = Counter(
        (event["user_id"], event["item_id"]) for event in events if event["event"] in ("play", "complete", "skip")
    )
    assert np.mean([count > 1 for count in visits.values()]) < 0.05


def test_popularity_is_uneven(world):
    counts = np.sort(list(Counter(event["item_id"] for event in read(world[0] / "events.csv")).values()))[::-1]
    assert counts[: len(counts) // 5].sum() > 0.4 * counts.sum()


def test_cold_items_have_no_event_before_the_test_period(world, interactions):
    pairs, _, test_from = interactions
    truth = load_truth(world[0] / "truth.npz")
    cold = {item_id for item_id, is_cold in zip(truth.item_ids, truth.cold) if is_cold}
    firsts = [time for (_, item_id), (time, _) in pairs.items() if item_id in cold]
    assert len(cold) == 45
    assert min(firsts) > test_from
    assert len(firsts) > 400


def test_text_tells_a_part_of_the_traits_only(world):
    """An English item names at most four traits of eight, by their pole and not by their amount, and now and then
    wrongly."""
    folder, _ = world
    truth = load_truth(folder / "truth.npz")
    right, told = [], []
    for item, traits in zip(read(folder / "catalogue.csv"), truth.traits):
        words = set(re.findall("[a-z]+", f"{item['title']} {item['description']} {item['tags']}".lower()))
        named = {name: [bool(words & set(synonyms)) for synonyms in poles] for name, poles in ENGLISH.items()}
        told.append(sum(map(any, named.values())))
        right += [low == (traits[TRAITS.index(name)] < 0) for name, (low, high) in named.items() if low != high]
    assert max(told) <= 4
    assert 2.0 < np.mean(told) < 3.5
    assert 0.82 < np.mean(right) < 0.94


def test_what_is_heard_hints_at_what_is_seen(world):
    traits = load_truth(world[0] / "truth.npz").traits
    for audible in range(4):
        assert 0.3 < np.corrcoef(traits[:, audible], traits[:, 4 + audible])[0, 1] < 0.7


def ndcg_at_10(scores, relevant):
    """By the definition, one person at a time; people without relevant items are left out."""
    values = []
    for row, sought in zip(scores, relevant):
        if sought:
            top = np.argsort(-row, kind="stable")[:10]
            gains = sum(1 / np.log2(2 + rank) for rank, item in enumerate(top) if item in sought)
            values.append(gains / sum(1 / np.log2(2 + rank) for rank in range(min(10, len(sought)))))
    return float(np.mean(values))


def test_oracle_above_linear_model_above_random_on_cold_items(world, interactions):
    pairs, eval_from, test_from = interactions
    truth = load_truth(world[0] / "truth.npz")
    cold = [item_id for item_id, is_cold in zip(truth.item_ids, truth.cold) if is_cold]

    def feedback(low, high):
        chosen = [(user, item, positive) for (user, item), (time, positive) in pairs.items() if low <= time < high]
        return Feedback(*zip(*chosen))

    settings = tune_linear(truth, feedback(0, eval_from), feedback(eval_from, test_from))
    relevant = defaultdict(set)
    for (user, item), (time, positive) in pairs.items():
        if time >= test_from and positive and item in cold:
            relevant[user].add(cold.index(item))
    users = sorted(relevant)
    sought = [relevant[user] for user in users]
    random = ndcg_at_10(np.random.default_rng(0).random((len(users), len(cold))), sought)
    linear = ndcg_at_10(linear_scores(truth, feedback(0, test_from), users, cold, settings), sought)
    oracle = ndcg_at_10(oracle_scores(truth, users, cold, truth.end_s - 3 * 86_400), sought)
    assert len(users) > 250
    assert linear > 4 * random
    assert oracle > linear + 0.03


def test_references_of_a_person_without_history_and_of_an_unknown_item(world):
    truth = load_truth(world[0] / "truth.npz")
    liked = truth.item_ids[int(np.argmax(truth.traits[:, 1]))], truth.item_ids[int(np.argmin(truth.traits[:, 1]))]
    history = Feedback(["u0000", "u0000", "u0001", "u0001"], [*liked, *liked], [True, False, True, False])
    scores = linear_scores(truth, history, ["u0000", "nobody"], truth.item_ids)
    assert np.isfinite(scores).all()
    assert np.corrcoef(scores[1], truth.traits[:, 1])[0, 1] > 0.3, (
        "all liked the fast one, so a newcomer is offered fast ones"
    )
    with pytest.raises(KeyError, match="i9999"):
        oracle_scores(truth, ["u0000"], ["i9999"], truth.start_s)


def test_the_oracle_follows_the_drift(world):
    truth = load_truth(world[0] / "truth.npz")
    start, end = (oracle_scores(truth, ["u0000"], truth.item_ids, time)[0] for time in (truth.start_s, truth.end_s))
    by_hand = truth.sharpness * truth.traits @ truth.taste_start[0] + truth.pull
    assert np.allclose(start, by_hand)
    assert not np.allclose(start, end)
