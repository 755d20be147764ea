"""The events of many users at once give the sequences that each user's events alone give, to the byte."""

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.batches import NUM_BUCKETS, by_user, unpacked
from components.config import DEFAULT_EVENTS, EventRule, SplitConfig
from components.events.interactions import Event
from components.events.sequence_columns import sequence_records
from components.events.sequences import sequence_example, user_sequences
from components.events.splits import SPLITS, Cuts

# Two kinds of one weight: of equally strong events the later one speaks.
RULES = {**DEFAULT_EVENTS, "share": EventRule(weight=3.0, positive_from=0.9)}  # .9 as float32 is below it
TYPES = {"user_id": pa.string(), "timestamp": pa.int64(), "value": pa.float32()}
EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["u", "v", "ü", "ﬁ", "\U0001f600"]),
        st.builds(
            Event,
            item_id=st.sampled_from(["a", "b", "c", "ä", "\U0001f600"]),
            event=st.sampled_from(sorted(RULES)),
            value=st.none() | st.sampled_from([0.0, 0.9, 4.0, 3.5]),
            time_s=st.integers(0, 6),
            split=st.sampled_from(["train", "valid", "test"]),
        ),
    ),
    min_size=1,
    max_size=60,
)
CUTS = st.tuples(st.integers(0, 7), st.integers(0, 7)).map(lambda pair: Cuts(*sorted(pair)))


def table_of(events):
    """(user, Event)s as rows."""
    columns = {"user_id": [user for user, _ in events]}
    for name in ("item_id", "event", "value", "split"):
        columns[name] = [getattr(event, name) for _, event in events]
    columns["timestamp"] = [event.time_s for _, event in events]
    return pa.table({name: pa.array(values, TYPES.get(name, pa.string())) for name, values in columns.items()})


def user_by_user(events, split, cuts):
    """{split: sequences as bytes, by user}."""
    found = {name: [] for name in SPLITS}
    for user in sorted({user for user, _ in events}):
        own = [event for owner, event in events if owner == user]
        for sequence in user_sequences(user, own, RULES, split, cuts):
            found[sequence.split].append(sequence_example(sequence).SerializeToString(deterministic=True))
    return found


@pytest.mark.parametrize("kind", ["time", "time_per_user", "user", "given"])
@given(events=EVENTS, cuts=CUTS, shares=st.sampled_from([(0.1, 0.1), (0.3, 0.3), (0.0, 0.4)]), is_timed=st.booleans())
@settings(deadline=None, max_examples=150)
def test_all_users_at_once(kind, events, cuts, shares, is_timed):
    """In every kind of split, with times and without, copies, visits across cuts, and moments with many events."""
    # What is given twice over in two splits has no order that is said anywhere.
    given_split = {(user, event._replace(split=None)): event.split for user, event in events}
    events = [
        (user, event._replace(split=given_split[user, event._replace(split=None)] if kind == "given" else None))
        for user, event in events
    ]
    if not is_timed and kind in ("user", "given"):
        events = [(user, event._replace(time_s=None)) for user, event in events]
        events = list({(user, event._replace(split=None)): (user, event) for user, event in events}.values())
    split = SplitConfig(kind, *shares)
    found = dict(sequence_records(table_of(events), RULES, split, cuts if kind == "time" else None))
    assert found == user_by_user(events, split, cuts if kind == "time" else None)


@given(EVENTS)
@settings(deadline=None, max_examples=50)
def test_a_user_s_rows_are_in_one_bucket_and_no_row_is_lost(events):
    rows = table_of(events)
    buckets = {bucket: unpacked([batch]) for bucket, batch in by_user(rows)}
    assert set(buckets) <= set(range(NUM_BUCKETS))
    users = [set(part["user_id"].to_pylist()) for part in buckets.values()]
    assert sum(map(len, users)) == len(set.union(*users))
    gathered = [row for part in buckets.values() for row in part.to_pylist()]
    assert sorted(map(repr, gathered)) == sorted(map(repr, rows.to_pylist()))
    again = {bucket: unpacked([batch, batch]).num_rows for bucket, batch in by_user(rows)}
    assert again == {bucket: 2 * part.num_rows for bucket, part in buckets.items()}
