"""What the benchmark of the online service makes of the outcomes of requests."""

import pytest

from benchmarks import service
from benchmarks.service import effect, kills, load, overload
from benchmarks.service.generator import RECOMMEND, Outcome
from components.settings import SettingsError


def outcomes(statuses, every_s=0.1, milliseconds=10.0):
    return [Outcome(RECOMMEND, at * every_s, milliseconds, status) for at, status in enumerate(statuses)]


def test_all_is_well_at_the_first_of_twenty_good_answers_in_a_row():
    assert kills.seconds_to_normal(outcomes([200] * 5 + [503, 0, 503] + [200] * 20), 0.0) == pytest.approx(0.8)
    assert kills.seconds_to_normal(outcomes([200] * 20), 0.0) == 0.0
    assert kills.seconds_to_normal(outcomes([0] + [200] * 19), 0.0) is None


def test_a_service_is_normal_from_the_first_good_second():
    after = outcomes([503] * 10 + [200] * 20)
    assert overload.seconds_to_normal(after, 0.0) == pytest.approx(1.0)
    assert overload.seconds_to_normal(outcomes([503] * 30), 0.0) is None


def test_a_rate_is_sustained_where_answers_are_the_models_and_in_time():
    assert overload.is_sustained(outcomes([200] * 200))
    assert overload.is_sustained(outcomes([200] * 199 + [503]))
    assert not overload.is_sustained(outcomes([200] * 20 + [503]))
    assert not overload.is_sustained(outcomes([200] * 200, milliseconds=101.0))


@pytest.mark.parametrize(("after", "counted"), [("bcd", True), ("abc", False), ("bac", False), ("", False)])
def test_a_like_has_counted_where_the_liked_item_left_for_a_full_list(after, counted):
    before, after = ({"items": [{"item_id": one} for one in ids]} for ids in ("abc", after))
    assert effect.has_counted(before, "a", after) is counted


def test_the_gateways_own_share_is_the_median_of_what_each_request_took_beside_the_model():
    route, name = 'route="/v1/users/{user_id}/recommendations"', "zhiyin_gateway_own_seconds"
    gained = {
        f'{name}_bucket{{le="0.001",{route}}}': 2.0,
        f'{name}_bucket{{le="0.0015",{route}}}': 8.0,
        f'{name}_bucket{{le="0.1",{route}}}': 10.0,
        f'{name}_bucket{{le="+Inf",{route}}}': 10.0,
        f"{name}_count{{{route}}}": 10.0,
        f"{name}_sum{{{route}}}": 0.05,
    }
    assert load.own_share(gained) == pytest.approx({"own_mean_ms": 5.0, "own_p50_ms": 1.25})
    assert load.own_share({}) == {"own_mean_ms": None, "own_p50_ms": None}


def test_a_summary_counts_errors_and_quantiles_by_kind():
    found = load.summary([*outcomes([200] * 97 + [500, 0]), Outcome("event", 0.0, 50.0, 503)])
    assert (found["requests"], found["p50_ms_recommend"], found["p50_ms_event"]) == (100, 10, 50)
    assert (found["errors"], found["refused"], found["unanswered"]) == (3, 1, 1)
    assert found["p50_ms_similar"] is None


def test_a_case_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="expected some of effect, kills"):
        service.run(tmp_path, ["loads"])
    with pytest.raises(SettingsError, match="there is no finished demo in"):
        service.run(tmp_path, ["effect"])
