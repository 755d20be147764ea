"""A person's variant is sticky, fair, the same everywhere, and changes their list."""

import itertools
import time

import pytest

from serving.gateway.config import ExperimentConfig, VariantConfig
from serving.gateway.experiments import applied, assignments, share_point, variant_of
from serving.gateway.model_requests import RecommendRequest, Rules
from tests.serving.gateway import running

HALVES = ExperimentConfig({"control": VariantConfig(0.5), "one_each": VariantConfig(0.5, diversity=1.0)})
PEOPLE = [f"person {n}" for n in range(20_000)]


def test_shares_are_kept_and_experiments_are_independent():
    thirds = ExperimentConfig({"a": VariantConfig(0.2), "b": VariantConfig(0.3), "c": VariantConfig(0.5)})
    found = [variant_of("thirds", thirds, one) for one in PEOPLE]
    for variant, share in (("a", 0.2), ("b", 0.3), ("c", 0.5)):
        assert found.count(variant) / len(PEOPLE) == pytest.approx(share, abs=0.015)
    other = [variant_of("other", HALVES, one) for one in PEOPLE]
    both = sum(1 for one, two in zip(found, other) if (one, two) == ("c", "control")) / len(PEOPLE)
    assert both == pytest.approx(0.25, abs=0.015)


def test_a_persons_variant_does_not_change_and_another_salt_is_another_split():
    assert [variant_of("x", HALVES, one) for one in PEOPLE[:100]] == [
        variant_of("x", HALVES, one) for one in PEOPLE[:100]
    ]
    salted = ExperimentConfig(HALVES.variants, salt="again")
    moved = sum(variant_of("x", HALVES, one) != variant_of("x", salted, one) for one in PEOPLE)
    assert moved / len(PEOPLE) == pytest.approx(0.5, abs=0.02)


def test_the_edges_of_the_shares_belong_to_a_variant():
    odd = ExperimentConfig({"most": VariantConfig(1 - 1e-7), "none": VariantConfig(0.0)})
    assert {variant_of("x", odd, one) for one in PEOPLE} == {"most"}
    assert min(share_point("x", one) for one in PEOPLE) >= 0
    assert max(share_point("x", one) for one in PEOPLE) < 1
    assert assignments({"x": HALVES}, "") == {}


def test_shares_must_add_up():
    with pytest.raises(ValueError, match="add up to 0.9"):
        ExperimentConfig({"a": VariantConfig(0.4), "b": VariantConfig(0.5)})


def test_what_the_caller_says_stays():
    request = RecommendRequest("u", 5, rules=Rules(domain="film"))
    variant = VariantConfig(
        1.0, model="other", diversity=0.7, max_per_creator=2, objective_weights={"like": 2.0}, exploration_rate=0.1
    )
    changed = applied(request, variant, ("complete", "like"), frozenset())
    assert (changed.model, changed.diversity, changed.rules) == ("other", 0.7, Rules(domain="film", max_per_creator=2))
    assert (changed.objective_weights, changed.exploration_rate) == ((0.0, 2.0), 0.1)
    stated = frozenset(("diversity", "max_per_creator", "objective_weights", "exploration_rate"))
    assert applied(request, variant, ("complete", "like"), stated) == RecommendRequest(
        "u", 5, rules=request.rules, model="other"
    )


def test_a_list_that_the_model_did_not_make_is_of_its_variant_too(tmp_path):
    store = tmp_path / "store.sqlite"
    running.fill(store)
    settings = running.settings(f"127.0.0.1:{running.free_port()}", store, experiments={"variety": HALVES})
    gateway = running.Gateway(tmp_path / "process", settings)
    answers = [gateway.recommend(f"visitor{number}") for number in range(12)]
    assert all(answer["degraded"] for answer in answers)
    assert {answer["variants"]["variety"] for answer in answers} == {"control", "one_each"}
    gateway.stop()


def test_two_gateways_agree_lists_differ_and_exposures_say_so(model_server, tmp_path):
    store = tmp_path / "store.sqlite"
    running.fill(store)
    settings = running.settings(model_server, store, experiments={"variety": HALVES})
    first, second = (running.Gateway(tmp_path / name, settings) for name in ("first", "second"))
    people = [f"visitor{n}" for n in range(12)]
    first.post(*({"user_id": one, "item_id": item, "event": "like"} for one in people for item in ("i4", "i8")))
    variants = {one: first.recommend(one)["variants"]["variety"] for one in people}
    assert set(variants.values()) == {"control", "one_each"}
    assert variants == {one: second.recommend(one)["variants"]["variety"] for one in people}
    lists = {one: tuple(first.ids(one, k=10)) for one in people}
    for one, two in itertools.combinations(people, 2):
        assert (lists[one] == lists[two]) == (variants[one] == variants[two])
    stated = first.ids(next(one for one in people if variants[one] == "one_each"), k=10, diversity=0)
    control = next(lists[one] for one in people if variants[one] == "control")
    assert tuple(stated) == control
    time.sleep(1)
    shown = first.http.get(f"/v1/users/{people[0]}/data").json()["exposures"]
    assert {one["variants"]["variety"] for one in shown} == {variants[people[0]]}
    first.stop()
    second.stop()
