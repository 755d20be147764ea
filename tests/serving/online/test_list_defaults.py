"""What a silent request gets: the operator's defaults, and nothing that is not out yet."""

import numpy as np
import pytest
import tensorflow as tf

from serving.config import ListDefaults
from tests.serving import ranked, tiny
from tests.serving.ranked import CREATORS, NUM_ITEMS, PUBLISHED_S, SILENT, STORED, ask


@pytest.fixture(scope="module")
def answer(model):
    return ranked.recommender(model, "exact")


@pytest.fixture(scope="module")
def answer_with_defaults(model):
    return ranked.recommender(model, "exact", ListDefaults(diversity=0.4, max_per_creator=2, explore_share=0.3))


class TestOperatorsDefaults:
    """What the operator configured holds where a request says nothing; the request overrides it, also by none."""

    def test_a_silent_request_is_one_that_names_the_defaults(self, answer, answer_with_defaults):
        explicit = SILENT | {"diversity": 0.4, "cap": 2, "explore": 0.3}
        for user_id in ("known", "other", "new"):
            silent, named = SILENT | {"user_id": user_id}, explicit | {"user_id": user_id}
            got, expected = ask(answer_with_defaults, [silent]), ask(answer, [named])
            assert got["item_ids"].tolist() == expected["item_ids"].tolist()
            assert got["reasons"].tolist() == expected["reasons"].tolist()

    def test_a_request_overrides_each_by_a_value_or_by_none(self, answer, answer_with_defaults):
        for own in ({"diversity": -1.0, "cap": -1, "explore": -1.0}, {"diversity": 0.9, "cap": 1, "explore": 1.0}):
            plain = {name: max(value, 0) for name, value in own.items()}
            got, expected = ask(answer_with_defaults, [SILENT | own]), ask(answer, [SILENT | plain])
            assert got["item_ids"].tolist() == expected["item_ids"].tolist()
        assert ask(answer, [SILENT])["item_ids"].tolist() != got["item_ids"].tolist()

    def test_recommend_user_and_similar_obey_too(self, answer_with_defaults):
        shown = answer_with_defaults.recommend_user(tf.constant(["known"]), tf.constant([12]))["item_ids"].numpy()[0]
        alike = answer_with_defaults.similar(**tiny.similar_to("i1", k=12))["item_ids"].numpy()[0]
        for page in (shown, alike):
            creators = [CREATORS[int(item[1:])] for item in page]
            assert max(creators.count(name) for name in set(creators) - {""}) == 2

    @pytest.mark.parametrize("share", [0.0, 0.3])
    def test_without_a_seed_two_people_do_not_explore_alike(self, answer_with_defaults, answer, share):
        """Whoever says how much is explored, the operator or the request."""
        made = answer if share else answer_with_defaults
        silent = SILENT | {"seed": 0, "explore": share}
        batch = [silent | {"user_id": f"new{row}"} for row in range(50)]
        pages = ask(made, batch)["item_ids"].tolist()
        assert pages == ask(made, batch)["item_ids"].tolist()
        assert len({tuple(page) for page in pages}) > 40


def test_what_is_not_out_yet_is_shown_from_its_day_on(answer):
    """Item by item: on the second before it is published it is in no list, on that second it is."""
    for row in np.flatnonzero(~np.isnan(PUBLISHED_S))[:8]:
        for user_id in ("known", "new"):
            if row in [place for place, _ in STORED.get(user_id, [])]:
                continue
            times_s = [int(PUBLISHED_S[row]) - 1, int(PUBLISHED_S[row])]
            one = SILENT | {"user_id": user_id, "k": NUM_ITEMS}
            before, after = ask(answer, [one | {"time_s": time_s} for time_s in times_s])["item_ids"].tolist()
            assert (f"i{row}".encode() in before, f"i{row}".encode() in after) == (False, True)
            similar = [
                answer.similar(**tiny.similar_to("i0", k=NUM_ITEMS, time_s=[time_s]))["item_ids"].numpy()[0].tolist()
                for time_s in times_s
            ]
            assert [f"i{row}".encode() in page for page in similar] == [False, True]
