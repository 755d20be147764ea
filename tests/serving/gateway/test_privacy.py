"""Pseudonyms and forgetting: which bytes are left."""

from dataclasses import replace

import pytest

from serving.gateway.config import PrivacyConfig
from serving.gateway.privacy import (
    Pseudonyms,
    Tombstones,
    load_keys,
    marks_of,
    pseudonym,
    rotating,
)
from tests.serving.gateway import running

KEY, OTHER = b"k" * 32, b"o" * 32
WHO = "Ada-Lovelace-1815"


def pseudonymous(model_server, store, folder, keys=(KEY,)):
    file = folder / "pseudonyms.key"
    file.write_text("".join(f"{key.hex()}\n" for key in keys))
    settings = running.settings(model_server, store)
    privacy = PrivacyConfig(pseudonyms=True, key_file=str(file))
    return replace(settings, gateway=replace(settings.gateway, privacy=privacy))


def bytes_left(folder):
    return b"".join(file.read_bytes() for file in folder.rglob("*") if file.is_file())


async def lists_kept(store):
    return [one async for one in store.exposures()]


def rotate(url, key):
    async def go(store):
        await store.rename_users(Pseudonyms([key]), "a rotation")
        await store.clear_files()

    running.run(go, url)


def use(gateway):
    """Everything a person may do."""
    gateway.post(*({"user_id": WHO, "item_id": f"i{n}", "event": "like"} for n in range(4))).raise_for_status()
    gateway.http.put(f"/v1/users/{WHO}", json={"categorical": {"age_group": "25-34"}}).raise_for_status()
    return gateway.recommend(WHO, k=5)


def test_with_pseudonyms_the_id_is_nowhere_and_its_owner_finds_everything(model_server, tmp_path):
    store = tmp_path / "store.sqlite"
    running.fill(store)
    gateway = running.Gateway(tmp_path / "process", pseudonymous(model_server, store, tmp_path))
    answer = use(gateway)
    assert {"i0", "i1", "i2", "i3"}.isdisjoint(item["item_id"] for item in answer["items"])
    data = gateway.http.get(f"/v1/users/{WHO}/data").json()
    assert (data["user_id"], len(data["events"])) == (WHO, 4)
    gateway.stop()
    left = bytes_left(tmp_path)
    assert WHO.encode() not in left
    assert pseudonym(WHO, KEY).encode() in left

    rotate(store, OTHER)
    left = bytes_left(tmp_path)
    assert pseudonym(WHO, KEY).encode() not in left, "the old pseudonym is gone"
    rotated = running.Gateway(tmp_path / "rotated", pseudonymous(model_server, store, tmp_path, (KEY, OTHER)))
    assert len(rotated.http.get(f"/v1/users/{WHO}/data").json()["events"]) == 4

    assert rotated.http.delete(f"/v1/users/{WHO}").json()["events_deleted"] == 4
    rotated.stop()
    left = bytes_left(tmp_path)
    for name in (WHO, pseudonym(WHO, KEY), Pseudonyms([KEY, OTHER])(WHO)):
        assert name.encode() not in left


def test_who_was_forgotten_stays_so_after_a_rotation(model_server, tmp_path):
    store = tmp_path / "store.sqlite"
    running.fill(store)
    gateway = running.Gateway(tmp_path / "process", pseudonymous(model_server, store, tmp_path))
    use(gateway)
    gateway.http.delete(f"/v1/users/{WHO}").raise_for_status()
    gateway.stop()
    rotate(store, OTHER)
    rotated = running.Gateway(tmp_path / "rotated", pseudonymous(model_server, store, tmp_path, (KEY, OTHER)))
    said = rotated.post({"user_id": WHO, "item_id": "i1", "event": "like"}).json()
    assert (said["accepted"], said["refused"]) == (0, 1)
    assert rotated.http.put(f"/v1/users/{WHO}", json={}).status_code == 409
    rotated.recommend(WHO, k=3)
    assert rotated.post({"user_id": "somebody else", "item_id": "i1", "event": "like"}).json()["accepted"] == 1
    rotated.stop()
    assert running.run(lists_kept, store) == [], "nor is what they are shown written down"
    assert WHO.encode() not in bytes_left(tmp_path)


def test_the_marks_of_a_person_are_those_of_every_pseudonym_they_had():
    once, twice, tombstones = Pseudonyms([KEY]), Pseudonyms([KEY, OTHER]), Tombstones(KEY)
    assert marks_of(tombstones, twice, WHO) == (tombstones(once(WHO)), tombstones(twice(WHO)))
    assert marks_of(tombstones, once, WHO) == (tombstones(once(WHO)),)
    assert marks_of(tombstones, Pseudonyms(), WHO) == (tombstones(WHO),)
    assert marks_of(tombstones, twice, "") == ()


def test_ids_of_every_generation_are_found_from_any_of_them():
    once, twice = Pseudonyms([KEY])(WHO), Pseudonyms([KEY, OTHER])(WHO)
    rotated = Pseudonyms([KEY, OTHER])
    assert rotated.former(WHO) == [once]
    assert Pseudonyms([KEY]).former(WHO) == Pseudonyms().former(WHO) == []
    assert {once, twice} <= rotated.later(once)
    assert {WHO, once, twice} <= rotated.later(WHO)


def test_without_pseudonyms_forgetting_leaves_no_byte_either(model_server, tmp_path):
    store = tmp_path / "store.sqlite"
    running.fill(store)
    gateway = running.Gateway(tmp_path / "process", running.settings(model_server, store))
    use(gateway)
    gateway.stop()
    assert WHO.encode() in bytes_left(tmp_path)
    gateway.start()
    gateway.http.delete(f"/v1/users/{WHO}").raise_for_status()
    gateway.stop()
    assert WHO.encode() not in bytes_left(tmp_path)


def test_redis_forgets_in_its_log_too(model_server, tmp_path):
    if running.REDIS is None:
        pytest.skip("redis-server is not installed")
    redis = running.Redis(tmp_path / "redis")
    running.fill(redis.url)
    gateway = running.Gateway(tmp_path / "process", running.settings(model_server, redis.url))
    use(gateway)
    assert WHO.encode() in bytes_left(tmp_path)
    gateway.http.delete(f"/v1/users/{WHO}").raise_for_status()
    running.until(lambda: WHO.encode() not in bytes_left(tmp_path))
    gateway.post({"user_id": "Charles", "item_id": "i1", "event": "like"}).raise_for_status()
    gateway.stop()
    assert b"Charles" in bytes_left(tmp_path)
    rotate(redis.url, KEY)
    running.until(lambda: b"Charles" not in bytes_left(tmp_path))
    assert pseudonym("Charles", KEY).encode() in bytes_left(tmp_path)
    redis.stop()


def test_a_list_of_all_names_finds_nobody_without_the_key():
    """The rainbow attempt: every candidate under every guessable key."""
    kept = Pseudonyms([KEY])(WHO)
    guesses = [b"", b"zhiyin", b"key" * 11, b"p_", kept.encode()[:32]]
    candidates = [WHO, *(f"u{n:04}" for n in range(1000))]
    tables = {pseudonym(one, key) for one in candidates for key in guesses}
    assert kept not in tables
    assert Pseudonyms([KEY])(WHO) == kept, "the owner of the key does"


def test_tombstones_of_two_stores_cannot_be_joined():
    assert Tombstones(KEY)(WHO) != Tombstones(OTHER)(WHO)


def test_no_keys_are_told_while_people_are_kept_under_two(tmp_path):
    file = tmp_path / "people.key"
    file.write_text(KEY.hex())
    settings = PrivacyConfig(pseudonyms=True, key_file=str(file))
    assert load_keys(settings) == [KEY]
    rotating(file).write_text(OTHER.hex())
    with pytest.raises(ValueError, match="rotate-pseudonyms again"):
        load_keys(settings)


def test_keys_that_cannot_be_used_are_named(tmp_path):
    with pytest.raises(ValueError, match="at least 32"):
        Pseudonyms([b"short"])
    with pytest.raises(ValueError, match="cannot read"):
        load_keys(PrivacyConfig(pseudonyms=True, key_file=str(tmp_path / "none")))
    (tmp_path / "odd").write_text("not hexadecimal\n")
    with pytest.raises(ValueError, match="hexadecimal"):
        load_keys(PrivacyConfig(pseudonyms=True, key_file=str(tmp_path / "odd")))
    assert load_keys(PrivacyConfig()) == []
    assert Pseudonyms()("as it is") == "as it is"
    assert Pseudonyms([KEY])("") == ""
