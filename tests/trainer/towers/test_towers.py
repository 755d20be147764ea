"""Towers: unit vectors that nothing but an item's own, present content can change, and users whom the future cannot
reach.
"""

import copy
import dataclasses

import numpy as np
import pytest

from components.datasets.interactions import Interactions, read_interactions
from trainer.data import ItemTable
from trainer.keras import tf
from trainer.retrieval.run import build
from trainer.towers.item_tower import ItemTower
from trainer.towers.user_tower import BothTowers, ProfileTower, SequenceTower, compact, gap_buckets


@pytest.fixture(scope="module")
def table(item_file, tiny, tmp_path_factory) -> ItemTable:
    """The twelve items, for all tests of this file: `prepare` adds the same columns each time."""
    return ItemTable.build(item_file, tiny.DATA, tmp_path_factory.mktemp("table"))


@pytest.fixture(scope="module")
def train_split(table, sequence_files, tiny) -> Interactions:
    return read_interactions([sequence_files["train"]], table.item_ids, tuple(tiny.DATA.event_rules))


@pytest.fixture(scope="module")
def tower(table, train_split, tiny) -> ItemTower:
    """A tower that all tests ask and none changes."""
    tower = build(table, train_split, tiny.DATA, tiny.CONFIG).item_tower
    for weight in tower.trainable_weights:  # away from the start, where much is zero
        weight.assign(weight + tf.random.stateless_normal(weight.shape, [1, 2], stddev=0.3))
    tower.linear.kernel.assign(tf.random.stateless_normal(tower.linear.kernel.shape, [3, 4], stddev=0.3))
    tower.shrinkage.assign(5.0)  # content and id embedding both count
    return tower


def _features(table, tower, rows):
    return {name: tf.constant(array) for name, array in table.take(np.array(rows), tower.inputs).items()}


def test_vectors_are_unit_and_a_batch_equals_its_parts(tower, table):
    together = tower(_features(table, tower, [0, 1, 2, 3])).numpy()
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    for row in range(4):
        np.testing.assert_allclose(tower(_features(table, tower, [row])).numpy()[0], together[row], atol=1e-5)
    np.testing.assert_allclose(tower.encode(table)[:4], together, atol=1e-5)


def test_content_alone_and_behaviour_alone_are_what_the_vector_is_mixed_of(tower, table):
    """No id reaches the content, no content the behaviour; a cold item is its content."""
    features = _features(table, tower, range(len(table)))
    views = {name: value.numpy() for name, value in tower.views(features).items()}
    np.testing.assert_allclose(views["vector"], tower(features), atol=1e-6)
    share = tower.id_weight(features["id_row"]).numpy()[:, None]
    mixed = share * views["behaviour"] + (1 - share) * views["content"]
    np.testing.assert_allclose(mixed / np.linalg.norm(mixed, axis=1, keepdims=True), views["vector"], atol=1e-5)
    cold = tower.views({**features, "id_row": tf.zeros_like(features["id_row"])})
    assert not cold["behaviour"].numpy().any()
    np.testing.assert_array_equal(cold["content"], views["content"])
    np.testing.assert_allclose(cold["vector"], views["content"], atol=1e-6)
    elsewhere = {name: value if name == "id_row" else value[::-1] for name, value in features.items()}
    np.testing.assert_array_equal(tower.views(elsewhere)["behaviour"], views["behaviour"])
    for name, vectors in tower.encode_views(table).items():
        np.testing.assert_allclose(vectors, views[name], atol=1e-5)


@pytest.mark.parametrize("item_scale", [False, True])
def test_views_are_mixed_anew_as_if_the_items_were_encoded_anew(table, train_split, tiny, item_scale):
    config = dataclasses.replace(
        tiny.CONFIG, num_submodels=2, item_scale=item_scale, user_tower="profile", loss="profile_cosine"
    )
    tower = build(table, train_split, tiny.DATA, config).item_tower
    tower.linear.kernel.assign(tf.random.stateless_normal(tower.linear.kernel.shape, [3, 4], stddev=0.3))
    tower.shrinkage.assign(7.0)
    views = tower.encode_views(table)
    found = []
    for shrinkage in (0.0, 3.0, 1e6):
        tower.shrinkage.assign(shrinkage)
        found.append(tower.mixed(table, views))
        np.testing.assert_allclose(found[-1], tower.encode(table), atol=1e-6)
    assert np.abs(found[0] - found[1]).max() > 0.01 < np.abs(found[1] - found[2]).max()


def test_by_content_or_behaviour_alone_no_scale_counts(table, train_split, tiny):
    """Two submodels, each with a dimension that holds an item's scale in the vector."""
    config = dataclasses.replace(
        tiny.CONFIG, num_submodels=2, item_scale=True, user_tower="profile", loss="profile_cosine"
    )
    tower = build(table, train_split, tiny.DATA, config).item_tower
    views = tower.views(_features(table, tower, range(len(table))))
    np.testing.assert_allclose(views["vector"], tower(_features(table, tower, range(len(table)))), atol=1e-6)
    for name in ("content", "behaviour"):
        assert views[name].shape == views["vector"].shape and not views[name].numpy()[:, -2:].any()
    np.testing.assert_allclose(np.linalg.norm(views["behaviour"], axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("modality", ["text", "tags", "audio", "video", "embedding_given"])
def test_a_missing_modality_says_nothing(tower, table, modality):
    """Where has_<modality> is 0, what stands in its features cannot change the vector; where it is 1, it does."""
    columns = {"text": "text_tokens", "tags": "tag_ids", "audio": "audio_statistics", "video": "video_statistics"}
    column = columns.get(modality, modality)
    features = _features(table, tower, [0, 1])
    other = {**features, column: features[column][::-1]}
    assert np.abs(tower(features) - tower(other)).max() > 1e-3
    gone = {f"has_{modality}": tf.zeros(2, tf.int64)}
    np.testing.assert_allclose(tower({**features, **gone}), tower({**other, **gone}), atol=1e-6)


def test_a_modality_that_training_has_not_seen_says_nothing(table, train_split, tiny):
    """The twelfth item came later, and it alone has video: no token of video was fitted to anything."""
    table = copy.copy(table)
    table.arrays = {**table.arrays, "has_video": (np.arange(12) == 11).astype(np.int64)}
    tower = build(table, train_split, tiny.DATA, tiny.CONFIG, measured_on=np.arange(11)).item_tower
    for weight in tower.trainable_weights:
        weight.assign(weight + tf.random.stateless_normal(weight.shape, [1, 2], stddev=0.3))
    features = _features(table, tower, [11])
    other = {**features, "video_statistics": features["video_statistics"] + 1.0}
    np.testing.assert_array_equal(tower.content(other)[0], tower.content(features)[0])
    np.testing.assert_array_equal(tower.content(features)[1][:, list(tower.encoders).index("video")], 0)


def test_padding_frames_say_nothing(tower, table):
    features = _features(table, tower, [0, 1])
    features = {name: value for name, value in features.items() if not name.endswith("_statistics")}
    mels, frames = features["audio_log_mel"].numpy(), features["video_frames"].numpy()
    mels[:, 2, 100:] = 255  # the third segment has 100 valid frames
    frames[:, 3] = 255  # three of four key frames are valid
    padded = {**features, "audio_log_mel": tf.constant(mels), "video_frames": tf.constant(frames)}
    np.testing.assert_allclose(tower(padded), tower(features), atol=1e-5)
    mels[:, 0, :100] = 255
    assert np.abs(tower({**features, "audio_log_mel": tf.constant(mels)}) - tower(features)).max() > 1e-3


def test_statistics_in_the_table_equal_those_in_the_graph(tower, table):
    features = _features(table, tower, [0, 5])
    bare = {name: value for name, value in features.items() if not name.endswith("_statistics")}
    np.testing.assert_allclose(tower(bare), tower(features), atol=1e-5)


@pytest.mark.parametrize("level, frames", [(0, 300), (255, 300), (77, 1), (0, 0)])
def test_silence_noise_and_shortness_stay_finite(tower, table, level, frames):
    """C16, C17: digital silence, full scale, one frame, none at all."""
    features = _features(table, tower, [0])
    features.pop("audio_statistics")
    features["audio_log_mel"] = tf.fill([1, 3, 300, 64], np.uint8(level))
    features["audio_num_frames"] = tf.fill([1, 3], np.int64(frames))
    with tf.GradientTape() as tape:
        vector = tower(features)
        loss = tf.reduce_sum(vector[:, 0])
    assert np.isfinite(vector).all()
    gradients = tape.gradient(loss, tower.trainable_weights, unconnected_gradients="zero")
    assert all(np.isfinite(tf.convert_to_tensor(gradient)).all() for gradient in gradients)


def test_an_item_with_nothing_known_has_a_finite_unit_vector(tower, table):
    features = {name: tf.zeros_like(value) for name, value in _features(table, tower, [0]).items()}
    np.testing.assert_allclose(np.linalg.norm(tower(features).numpy()), 1, atol=1e-5)


def test_unknown_and_last_id_both_have_finite_different_vectors(tower, table):
    """C30: there is a row for the unknown id, and the last known id is inside."""
    features = _features(table, tower, [11, 11])
    features["id_row"] = tower.row_of_id(tf.constant(["item-11", "never seen"]))
    assert features["id_row"].numpy().tolist() == [12, 0]
    known, unknown = tower(features).numpy()
    assert np.isfinite([known, unknown]).all() and np.abs(known - unknown).max() > 1e-3


def test_an_item_may_be_called_like_keras_token_for_the_unknown(table, tiny):
    tower = ItemTower(table, [b"[UNK]", b"a"], [1, 1], tiny.CONFIG)
    rows = tf.function(lambda ids: tower.id_rows({"item_id": ids}))(tf.constant(["[UNK]", "a", "never seen"]))
    assert rows.numpy().tolist() == [1, 2, 0]


def test_only_the_modalities_asked_for_are_built(table, train_split, tiny):
    config = dataclasses.replace(tiny.CONFIG, modalities=("audio",), use_attributes=False)
    tower = build(table, train_split, tiny.DATA, config).item_tower
    assert [modality.name for modality in tower.modalities] == ["audio"] and "text_tokens" not in tower.inputs
    with pytest.raises(ValueError, match="no item has smell"):
        build(table, train_split, tiny.DATA, dataclasses.replace(tiny.CONFIG, modalities=("smell",)))


def test_gates_are_shares_of_what_is_present(tower, table):
    features = _features(table, tower, [0, 1])
    features["has_audio"] = tf.constant([0, 1], tf.int64)
    _, gates = tower.content(features)
    np.testing.assert_allclose(gates.numpy().sum(1), 1, atol=1e-5)
    audio = list(tower.encoders).index("audio")
    assert gates[0, audio] == 0 < gates[1, audio]


def _history(seed: int, length: int, dim: int = 8):
    random = np.random.default_rng(seed)
    vectors = random.normal(size=(1, length, dim)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    return {
        "vectors": vectors,
        "events": random.integers(1, 4, (1, length)).astype(np.int32),
        "age_s": np.sort(random.uniform(1, 1e6, (1, length)).astype(np.float32))[:, ::-1],
    }


def _tensors(history):
    return {"users": tf.zeros([1], tf.int32), **{name: tf.constant(value) for name, value in history.items()}}


@pytest.fixture(params=[ProfileTower, SequenceTower, BothTowers])
def users(request, tiny):
    tf.keras.utils.set_random_seed(3)
    tower = request.param(dataclasses.replace(tiny.DATA, history_length=6), tiny.CONFIG)
    tower(_tensors(_history(0, 3)))
    return tower


@pytest.mark.parametrize("places", [[0, 1, 2], [2, 3, 4], [0, 2, 4]])
def test_padding_anywhere_does_not_change_the_user(users, places):
    """C39: a batch of histories of different lengths equals the histories one by one."""
    history = _history(1, 3)
    padded = {name: np.zeros((1, 5, *value.shape[2:]), value.dtype) for name, value in history.items()}
    for name, value in history.items():
        padded[name][:, places] = value
    np.testing.assert_allclose(users(_tensors(padded)), users(_tensors(history)), atol=1e-5)


@pytest.mark.parametrize("place", [0, 1, 3])
def test_an_item_without_a_vector_does_not_change_the_user(users, place):
    """Its interaction has a kind and an age as others have."""
    history = _history(1, 4)
    history["vectors"][:, place] = 0
    without = {name: np.delete(value, place, 1) for name, value in history.items()}
    np.testing.assert_allclose(users(_tensors(history)), users(_tensors(without)), atol=1e-5)


def test_an_empty_history_gives_the_cold_start_vector(users):
    empty = users(_tensors({name: np.zeros_like(value) for name, value in _history(1, 3).items()})).numpy()
    np.testing.assert_allclose(np.linalg.norm(empty), 1, atol=1e-5)
    none = users(
        _tensors({"vectors": tf.zeros([1, 0, 8]), "events": tf.zeros([1, 0], tf.int32), "age_s": tf.zeros([1, 0])})
    )
    np.testing.assert_allclose(none, empty, atol=1e-5)


def test_as_it_is_served_a_history_may_have_no_column(users):
    """The graph knows neither the number of people nor that of their interactions."""
    shapes = {"vectors": [None, None, 8], "events": [None, None], "age_s": [None, None], "users": [None]}
    kinds = {"vectors": tf.float32, "events": tf.int32, "age_s": tf.float32, "users": tf.int32}
    signature = [{name: tf.TensorSpec(shapes[name], kinds[name]) for name in shapes}]
    traced = tf.function(lambda history: users(history), signature)
    history = {name: tf.zeros([2, 0, 8][: len(shapes[name])], kind) for name, kind in kinds.items()}
    padded = {name: tf.zeros([2, 3, 8][: len(shapes[name])], kind) for name, kind in kinds.items()}
    np.testing.assert_allclose(traced(history), traced(padded), atol=1e-5)


def test_the_future_cannot_change_the_past(users):
    """C29: the user before interaction t is the same, whatever interactions t, t + 1, ... are."""
    history = _history(2, 5)
    changed = {name: value.copy() for name, value in history.items()}
    for name, value in _history(9, 5).items():
        if name != "age_s":
            changed[name][:, 3:] = value[:, 3:]
    ordered = tf.constant([True])
    before, after = (users.prefix_states(_tensors(h), ordered).numpy() for h in (history, changed))
    np.testing.assert_allclose(after[:, :4], before[:, :4], atol=1e-6)
    assert np.abs(after[:, 4] - before[:, 4]).max() > 1e-3


def test_all_positions_at_once_equal_one_history_at_a_time(users):
    history = _history(4, 5)
    together = users.prefix_states(_tensors(history), tf.constant([True])).numpy()
    for length in range(5):
        part = {name: value[:, :length] for name, value in history.items()}
        part["age_s"] = part["age_s"] - history["age_s"][:, length]  # the request comes when the next interaction came
        np.testing.assert_allclose(users(_tensors(part))[0], together[0, length], atol=1e-5)


def test_only_the_newest_interactions_reach_the_sequence_tower(tiny):
    history = _history(5, 9)
    got = compact(_tensors(history), 6)
    np.testing.assert_array_equal(got["vectors"], history["vectors"][:, 3:])


def test_a_set_is_read_without_its_own_element(tiny):
    users = ProfileTower(tiny.DATA, tiny.CONFIG)
    history = _history(6, 3)
    history["events"][:] = 1
    others = users.prefix_states(_tensors(history), tf.constant([False])).numpy()[0]
    expected = history["vectors"][0, [1, 2]].sum(0) + users.prior(tf.zeros([1], tf.int32)).numpy()[0]
    np.testing.assert_allclose(others[0], expected / np.linalg.norm(expected), atol=1e-5)


@pytest.mark.parametrize("is_padded", [False, True])
def test_sums_of_flat_histories_and_the_gradients_of_weights_and_directions(tiny, is_padded):
    """Against matrices in numpy: three kinds of events, an item that comes twice, a user without a history."""
    tower, random = ProfileTower(tiny.DATA, tiny.CONFIG), np.random.default_rng(7)
    weights = random.normal(size=tower.event_weights.shape)
    tower.event_weights.assign(weights)
    rows, items = np.array([0, 0, 0, 1, 1, 3]), np.array([4, 2, 4, 0, 1, 4])
    events, counted = random.integers(1, 4, 6), np.array([1.0, 0.0, 1.0, 1.0, 0.5, 1.0])
    directions, slope = random.normal(size=(5, 3)), random.normal(size=(4, 3))
    by_kind = np.zeros((len(weights), 4, 5))
    np.add.at(by_kind, (events, rows, items), counted)
    columns = {"rows": rows, "items": items, "events": events}
    flat = {name: tf.constant(column, tf.int32) for name, column in columns.items()}
    tensors = [tf.constant(directions, tf.float32), tf.constant(counted, tf.float32)]
    with tf.GradientTape() as tape:
        tape.watch(tensors[0])
        total = tower.sums(tensors[0], flat, tensors[1], 4, is_padded)
        loss = tf.reduce_sum(total * tf.constant(slope, tf.float32))
    of_weights, of_directions = map(tf.convert_to_tensor, tape.gradient(loss, [tower.event_weights, tensors[0]]))
    matrix = np.tensordot(weights, by_kind, 1)  # [users, items]
    np.testing.assert_allclose(total, matrix @ directions, atol=1e-5)
    np.testing.assert_allclose(of_directions, matrix.T @ slope, atol=1e-5)
    np.testing.assert_allclose(of_weights, ((by_kind @ directions) * slope).sum((1, 2)), atol=1e-5)


def test_gap_buckets_by_hand():
    age_s = tf.constant([[700.0, 60.0, 60.0, 0.0], [0, 0, 0, 0]])
    mask = tf.constant([[True, True, True, False], [True, True, True, True]])
    assert gap_buckets(age_s, mask).numpy().tolist() == [
        [1 + 3, 1, 1 + 1, 0],
        [0, 0, 0, 0],
    ]  # 640 s, 0 s, 60 s to the request
