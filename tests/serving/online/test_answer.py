"""The whole answer against brute force in numpy: candidates under rules, the ranker's order, and the list, request by
request.
"""

from collections import Counter

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from components.config import DEFAULT_EVENTS
from serving.online.requests import EXPLAIN_SPECS
from tests.serving import ranked, tiny
from tests.serving.ranked import (
    CANDIDATES,
    COLD_START,
    CREATORS,
    DOMAINS,
    LAST_S,
    NAMES,
    NUM_ITEMS,
    POPULARITY,
    STORED,
    VECTORS,
    WEIGHTS,
    ask,
    fits,
)

LIKENESS = [[one @ other for other in VECTORS] for one in VECTORS]
NO_LIKENESS = -1.0  # of an item to an empty page
CREATOR_OF = CREATORS.tolist()


@pytest.fixture(scope="module", params=["exact", "scann"])
def answer(request, model):
    return ranked.recommender(model, request.param)


def sigmoid(values):
    return 1 / (1 + np.exp(-np.asarray(values, np.float64)))


def uniform(seed, number):
    """SplitMix64's mixer in Python's own whole numbers."""
    golden, mask = 0x9E3779B97F4A7C15, 2**64 - 1
    state = (seed * golden + number) & mask
    state = (state * golden + golden) & mask
    state = ((state ^ state >> 30) * 0xBF58476D1CE4E5B9) & mask
    state = ((state ^ state >> 27) * 0x94D049BB133111EB) & mask
    return ((state ^ state >> 31) >> 40) / 2**24


def page_of(candidates, utility, one):
    """The places one by one: positions, and whether each is explored or differs from the best by utility alone."""
    lowest, highest = (
        (min(utility[c] for c in candidates), max(utility[c] for c in candidates)) if candidates else (0, 0)
    )
    scaled = {c: (utility[c] - lowest) / (highest - lowest) if highest > lowest else 0.0 for c in candidates}
    page, reasons = [], []
    chance = {c: uniform(one["seed"], c) for c in candidates} if one["explore"] else {}
    likeness = dict.fromkeys(candidates, NO_LIKENESS)
    while len(page) < one["k"]:
        cap = one["cap"] or NUM_ITEMS
        made = Counter(CREATOR_OF[other] for other in page)
        open_ = [c for c in candidates if c not in page and (CREATOR_OF[c] == "" or made[CREATOR_OF[c]] < cap)]
        if not open_:
            break
        explored = uniform(one["seed"], -1 - (len(page) + 1)) < one["explore"]
        worth = {c: (1 - one["diversity"]) * scaled[c] - one["diversity"] * likeness[c] for c in open_}
        best = max(open_, key=chance.__getitem__ if explored else worth.__getitem__)
        reasons.append("explored" if explored else None if best == max(open_, key=scaled.__getitem__) else "diverse")
        page.append(best)
        likeness = {c: max(likeness[c], LIKENESS[c][best]) for c in candidates}
    return page, reasons


def oracle(one, kind):
    position = {f"i{row}": row for row in range(NUM_ITEMS)}
    given_ = [(position[item], 1) for item in one["history"] if item in position]
    stored = STORED.get(one["user_id"], [])
    known = stored if (one["time_s"] or LAST_S) >= LAST_S else []  # what is stored was taken at the last event
    taste = (given_ or known)[-5:]
    query = sum((weight * VECTORS[row] for row, weight in taste), np.zeros(tiny.DIM))
    scores = VECTORS @ query if taste else COLD_START
    hidden = {row for row, _ in given_ + stored} | {position[item] for item in one["exclude"] if item in position}
    allowed = {position[item] for item in one["allow"] if item in position} if any(one["allow"]) else range(NUM_ITEMS)
    eligible = [row for row in allowed if row not in hidden and fits(row, one)]
    eligible.sort(key=lambda row: (-scores[row], row))
    items = [row for row, _ in taste]
    cosines = VECTORS @ VECTORS[items].T if items else np.zeros((NUM_ITEMS, 1))
    shares = [
        np.mean([DOMAINS[row] == DOMAINS[other] != "" for other in items]) if items else 0.0 for row in range(NUM_ITEMS)
    ]
    likes = sum(weight == 2 for _, weight in taste) if not given_ else 0
    learned = VECTORS @ (query + 0.5 * VECTORS[items].sum(0))
    columns = [learned, 3 * cosines.max(1), POPULARITY - 1, shares, np.full(NUM_ITEMS, likes / 4)]
    probabilities = sigmoid(np.stack(columns, 1))
    weights = one["weights"] if any(one["weights"]) else list(WEIGHTS.values())
    utility = probabilities @ np.array(weights) if taste else scores
    wanted = max(CANDIDATES, one["k"] * (2 if kind == "scann" else 1))
    candidates = eligible[:wanted]
    if (
        kind == "scann" and taste
    ):  # the index knows no rules: what it finds is filtered, and all is searched where that leaves too few
        nearest = sorted(range(NUM_ITEMS), key=lambda row: -scores[row])[:wanted]
        found = [row for row in nearest if row in set(eligible)]
        candidates = found if len(found) >= one["k"] else candidates
    page, reasons = page_of(candidates, utility, one)
    widened = bool(one["cap"]) and len(page) < one["k"] and wanted < NUM_ITEMS
    if widened:
        kept = [
            row
            for at, row in enumerate(eligible)
            if CREATORS[row] == "" or list(CREATORS[eligible[:at]]).count(CREATORS[row]) < one["cap"]
        ]
        page, reasons = page_of(kept[:wanted], utility, one)
    usual = "ranked" if taste else "new_person"
    return page, utility, probabilities, [reason or usual for reason in reasons], widened


def check(answer, batch):
    output = ask(answer, batch)
    for row, one in enumerate(batch):
        kind = "scann" if answer._catalog.approximate else "exact"
        page, utility, probabilities, reasons, widened = oracle(one, kind)
        assert output["item_ids"][row, : len(page)].tolist() == [f"i{place}".encode() for place in page], one
        assert output["count"][row] == len(page) and not any(output["item_ids"][row, len(page) :])
        np.testing.assert_allclose(output["scores"][row, : len(page)], utility[page], atol=1e-5)
        np.testing.assert_allclose(output["probabilities"][row, : len(page)], probabilities[page], atol=1e-5)
        assert output["reasons"][row, : len(page)].tolist() == [reason.encode() for reason in reasons]
        assert output["widened"][row] == widened


def random_request(generator):
    ids = lambda most: [f"i{row}" for row in generator.integers(0, NUM_ITEMS + 3, generator.integers(0, most))]  # noqa: E731
    sometimes = lambda value, otherwise: value if generator.random() < 0.5 else otherwise  # noqa: E731
    return {
        "user_id": str(generator.choice(["known", "other", "new", ""])),
        "history": ids(9),
        "exclude": ids(20),
        "allow": sometimes([], ids(30)),
        "domain": str(generator.choice(["", "", "music", "film", "opera"])),
        "k": int(generator.integers(1, 25)),
        "weights": sometimes([0.0] * 5, generator.normal(size=5).astype(np.float32).tolist()),
        "diversity": sometimes(0.0, float(np.float32(generator.random()))),
        "cap": sometimes(0, int(generator.integers(1, 4))),
        "explore": sometimes(0.0, float(np.float32(generator.random()))),
        "seed": int(generator.integers(-(2**31), 2**31)),
        "age": sometimes(0, int(generator.integers(1, 120)) * 86_400),
        "time_s": sometimes(0, LAST_S - int(generator.integers(0, 40)) * 86_400),
    }


def test_random_requests_are_answered_as_by_brute_force(answer):
    """Same ids, utilities, probabilities, reasons: 400 requests in batches of mixed wishes."""
    generator = np.random.default_rng(11)
    for _ in range(20):
        check(answer, [random_request(generator) for _ in range(20)])


@pytest.mark.slow
def test_ten_thousand_random_requests(answer):
    generator = np.random.default_rng(12)
    for _ in range(100):
        check(answer, [random_request(generator) for _ in range(100)])


def test_similar_under_the_same_rules(answer):
    """300 times: nearest by cosine of what is not excluded, allowed, of the domain, recent, and at most so many of a
    creator.
    """
    generator = np.random.default_rng(13)
    for _ in range(300):
        one, item = random_request(generator), int(generator.integers(NUM_ITEMS))
        asked = tiny.similar_to(f"i{item}", k=one["k"], exclude=[one["exclude"]], domain=[one["domain"]],
                                allow=[one["allow"]], cap=[one["cap"]], age=[one["age"]],
                                time_s=[one["time_s"]])  # fmt: skip
        output = answer.similar(**asked)
        hidden = {item, *(int(name[1:]) for name in one["exclude"])}
        allowed = {int(name[1:]) for name in one["allow"]} if any(one["allow"]) else set(range(NUM_ITEMS))
        page = []
        for row in np.argsort(-(VECTORS @ VECTORS[item]), kind="stable"):
            made = sum(CREATORS[row] == CREATORS[other] != "" for other in page)
            if row in allowed - hidden and fits(row, one) and made < (one["cap"] or NUM_ITEMS):
                page.append(row)
        assert output["item_ids"][0, : len(page)].numpy().tolist() == [
            f"i{row}".encode() for row in page[: one["k"]]
        ], one
        assert output["count"][0] == min(len(page), one["k"])


@pytest.mark.parametrize("candidates", [20, NUM_ITEMS])
def test_a_capped_list_of_an_approximate_index_is_as_long_as_the_exact_one(model, candidates):
    """Two of seven leaves are searched, and each creator may have one item: others lie in the other leaves."""
    leaves = {"num_leaves": 7, "leaves_to_search": 2, "candidates": candidates}
    lengths = {}
    for kind, index in (("exact", {}), ("scann", leaves)):
        made = ranked.recommender(model, kind, **index)
        batch = [ranked.SILENT | {"user_id": "", "history": [f"i{row}"], "cap": 1} for row in range(NUM_ITEMS)]
        lengths[kind] = [ask(made, [one | {"k": k}])["count"][0] for one in batch[::6] for k in (8, 12, 40)]
    assert lengths["scann"] == lengths["exact"]


@pytest.mark.parametrize("num_items", [0, 2])
def test_explanations_of_any_number_of_items_have_their_shapes(answer, num_items):
    ids = [[f"i{row}" for row in range(num_items)]] * 2
    whole = tiny.request(("known", "new"), ((), ()), exclude=((), ()), k=(1, 1))
    asked = {name: whole[name] for name in EXPLAIN_SPECS._fields if name in whole}
    found = answer.explain(**asked, item_ids=tf.reshape(tf.constant(ids, tf.string), [2, num_items]))
    assert found["utility"].shape == (2, num_items) and found["field_parts"].shape == (2, num_items, len(NAMES))
    names = [name.encode() for name in NAMES] if num_items else [b""] * len(NAMES)
    assert found["field_names"].numpy().tolist() == [names] * 2


def test_what_is_withdrawn_is_in_no_answer(answer):
    everything = [f"i{row}" for row in range(NUM_ITEMS)]
    before = answer._catalog.is_active.numpy()
    answer.withdraw_items(tf.constant(everything[::2]))
    try:
        for user_id in ("known", "new"):
            page = answer.recommend(**tiny.request((user_id,), k=(NUM_ITEMS,)))
            shown = {item.decode() for item in page["item_ids"].numpy()[0] if item}
            assert shown and shown <= set(everything[1::2])
        similar = answer.similar(**tiny.similar_to("i1", k=NUM_ITEMS))["item_ids"].numpy()[0]
        assert {item.decode() for item in similar if item} == set(everything[3::2])
    finally:
        answer._catalog._is_active.assign(before)


ids = st.lists(st.sampled_from([f"i{row}" for row in range(NUM_ITEMS)] + ["", "nope"]), max_size=10)
requests = st.fixed_dictionaries(
    {
        "user_id": st.sampled_from(["known", "other", "new"]),
        "history": ids,
        "exclude": ids,
        "allow": st.one_of(st.just([]), ids),
        "domain": st.sampled_from(["", "", "music", "film"]),
        "k": st.integers(1, NUM_ITEMS + 5),
        "weights": st.lists(st.floats(-5, 5, width=32), min_size=5, max_size=5),
        "diversity": st.floats(0, 1, width=32),
        "age": st.sampled_from([0, 0, 86_400, 40 * 86_400]),
        "time_s": st.sampled_from([0, LAST_S - 86_400, LAST_S - 50 * 86_400]),
        "cap": st.integers(0, 4),
        "explore": st.floats(0, 1, width=32),
        "seed": st.integers(-(2**31), 2**31 - 1),
    }
)


@settings(max_examples=150, deadline=None)
@given(batch=st.lists(requests, min_size=1, max_size=4))
def test_the_rules_hold_in_every_answer(answer, batch):
    """Whatever the wishes: distinct, never seen or excluded, allowed, of the domain, at most so many of a creator;
    never starved.
    """
    output = ask(answer, batch)
    position = {f"i{row}": row for row in range(NUM_ITEMS)}
    for row, one in enumerate(batch):
        shown = [position[item.decode()] for item in output["item_ids"][row] if item]
        assert len(shown) == len(set(shown)) == output["count"][row] <= one["k"]
        hidden = {position[item] for item in one["history"] + one["exclude"] if item in position}
        hidden |= {place for place, _ in STORED.get(one["user_id"], [])}
        allowed = (
            {position[item] for item in one["allow"] if item in position}
            if any(one["allow"])
            else set(range(NUM_ITEMS))
        )
        eligible = {place for place in allowed - hidden if fits(place, one)}
        assert set(shown) <= eligible
        cap = one["cap"] or NUM_ITEMS

        def made(places):
            return {name: list(CREATORS[list(places)]).count(name) for name in set(CREATORS[list(places)]) - {""}}

        assert all(count <= cap for count in made(shown).values())
        most = sum(min(cap, count) for count in made(eligible).values()) + sum(
            CREATORS[place] == "" for place in eligible
        )
        assert len(shown) == min(one["k"], most), "fewer than asked for only where the rules leave fewer"


def test_a_batch_equals_its_parts_and_a_seed_repeats(answer):
    generator = np.random.default_rng(5)
    batch = [random_request(generator) | {"k": 10, "explore": 0.5} for _ in range(5)]
    whole, again = ask(answer, batch), ask(answer, batch)
    np.testing.assert_array_equal(whole["item_ids"], again["item_ids"])
    for row, one in enumerate(batch):
        np.testing.assert_array_equal(ask(answer, [one])["item_ids"][0], whole["item_ids"][row])


def test_exploration_takes_its_share(answer):
    """Half of 200 pages of ten places: about a thousand explored places; other seeds, other pages."""
    one = random_request(np.random.default_rng(0)) | {
        "user_id": "known", "history": [], "exclude": [], "allow": [], "domain": "", "k": 10, "cap": 0, "explore": 0.5,
        "age": 0, "time_s": 0,
    }  # fmt: skip
    output = ask(answer, [one | {"seed": seed} for seed in range(200)])
    explored = (output["reasons"] == b"explored").mean()
    assert 0.45 < explored < 0.55 and len({tuple(page) for page in output["item_ids"].tolist()}) > 190


def test_diversity_lowers_likeness_within_the_page(answer):
    """The mean cosine between the items of a page is lower with diversity; without it the page is the best by
    utility.
    """
    base = {"user_id": "known", "history": [], "exclude": [], "allow": [], "domain": "", "k": 6, "weights": [0.0] * 5,
            "cap": 0, "explore": 0.0, "seed": 0, "age": 0, "time_s": 0}  # fmt: skip
    output = ask(answer, [base | {"diversity": share} for share in (0.0, 0.8, 1.0)])
    likeness = []
    for page in output["item_ids"]:
        vectors = VECTORS[[int(item[1:]) for item in page]]
        likeness.append(np.mean((vectors @ vectors.T)[np.triu_indices(6, 1)]))
    assert max(likeness[1:]) < likeness[0] - 0.01 and (np.diff(output["scores"][0]) <= 0).all()


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("diversity", [1.5], "diversity must be from 0 to 1, or -1"),
        ("diversity", [-0.5], "diversity must be from 0 to 1, or -1"),
        ("explore_share", [float("nan")], "explore_share must be from 0 to 1"),
        ("max_per_creator", [-2], "max_per_creator must not be below -1"),
        ("max_item_age_s", [-1], "max_item_age_s must not be negative"),
        ("objective_weights", [[1.0, 2.0]], "objective_weights must have 5 columns"),
        ("objective_weights", [[1.0, 2.0, 3.0, 4.0, float("inf")]], "objective_weights must be finite"),
        ("allow_ids", [["i1"], ["i2"]], "allow_ids must have a row for each user_id"),
        ("seed", [1, 2], "seed must have one value for each request"),
    ],
)
def test_wishes_that_cannot_be_are_named(answer, name, value, reason):
    good = tiny.request(("known",))
    with pytest.raises(tf.errors.InvalidArgumentError, match=reason):
        answer.recommend(**good | {name: tf.constant(value, good[name].dtype)})


def test_the_default_rules_are_the_objectives():
    assert list(DEFAULT_EVENTS) == NAMES
