"""Settings under the names of the last release: read, said, and never silently overruled."""

from __future__ import annotations

import pytest

from components.settings import SettingsError, with_new_names

RENAMED = {
    "retrieval.sharpness": "retrieval.score_exponent",
    "retrieval.history_length": "data.history_length",
    "serving.history_length": "data.history_length",
}


def test_an_old_key_is_read_under_its_new_name_and_said() -> None:
    given = {"name": "x", "retrieval": {"sharpness": 1.5, "epochs": 3}}
    found, notices = with_new_names(given, RENAMED)
    assert found == {"name": "x", "retrieval": {"score_exponent": 1.5, "epochs": 3}}
    (line,) = notices
    assert "retrieval.sharpness is now called retrieval.score_exponent" in line
    assert given["retrieval"] == {"sharpness": 1.5, "epochs": 3}


def test_new_keys_stay_without_a_word() -> None:
    given = {"retrieval": {"score_exponent": 1.5}, "serving": None}
    assert with_new_names(given, RENAMED) == (given, [])


def test_a_setting_can_move_to_a_section_that_is_absent_or_empty() -> None:
    for data in ({}, {"data": None}):
        found, _ = with_new_names({"serving": {"history_length": 50}, **data}, RENAMED)
        assert found == {"serving": {}, "data": {"history_length": 50}}


def test_two_names_of_one_setting_may_agree_and_must_not_differ() -> None:
    same = {"retrieval": {"history_length": 50}, "serving": {"history_length": 50}}
    found, notices = with_new_names(same, RENAMED)
    assert found["data"] == {"history_length": 50} and len(notices) == 2
    for first, second in (({"retrieval": {"history_length": 9}}, {}), ({}, {"data": {"history_length": 9}})):
        with pytest.raises(
            SettingsError, match=r"history_length is now called data\.history_length, .* 50 and 9|9 and 50"
        ):
            with_new_names({"serving": {"history_length": 50}, **first, **second}, RENAMED)


def test_a_renamed_setting_is_renamed_in_the_space_of_the_tuner() -> None:
    given = {"tuning": {"space": {"sharpness": {"low": 0.5, "high": 2.0}}}}
    found, notices = with_new_names(given, RENAMED)
    assert found == {"tuning": {"space": {"score_exponent": {"low": 0.5, "high": 2.0}}}}
    assert "tuning.space.sharpness is now called tuning.space.score_exponent" in notices[0]


def test_a_section_that_is_no_mapping_is_named() -> None:
    with pytest.raises(SettingsError, match="data: got 7, expected a mapping"):
        with_new_names({"serving": {"history_length": 50}, "data": 7}, RENAMED)
