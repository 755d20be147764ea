"""Keys, scopes, revocation; media only from below media_root; answers over TLS."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from components.settings import to_json
from serving.gateway import api_keys
from serving.gateway.access import Access, RateLimit
from serving.gateway.problems import Problem
from serving.gateway.records import StoredItem
from tests.serving.gateway import running
from tests.serving.gateway.running import until


def add_key(store_url, *scopes):
    token, key = api_keys.make_key("test", scopes, 1)
    running.run(lambda store: store.put_key(key), store_url)
    return token, key.key_id


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture(scope="module")
def guarded(model_server, tmp_path_factory):
    """A gateway whose store has keys, and media with things beside them."""
    folder = tmp_path_factory.mktemp("guarded")
    media = folder / "media"
    media.mkdir()
    (media / "song.mp3").write_bytes(bytes(range(256)) * 4)
    (media / "page.html").write_text("<script>alert(1)</script>")
    (folder / "secret.txt").write_text("secret")
    (media / "link.mp3").symlink_to(folder / "secret.txt")
    store = folder / "store.sqlite"
    running.fill(store)
    uris = {"song": "song.mp3", "page": "page.html", "up": "../secret.txt", "link": "link.mp3", "gone": "gone.mp3",
            "absolute": str(folder / "secret.txt"), "file": f"file://{folder}/secret.txt", "nul": "a\0b"}  # fmt: skip
    items = [StoredItem(name, {"media_uri": uri}) for name, uri in uris.items()]
    running.run(lambda opened: opened.put_items(items), store)
    tokens = {scope: add_key(store, scope) for scope in api_keys.SCOPES}
    settings = running.settings(model_server, store, model_server.copy())
    settings = replace(settings, data=replace(settings.data, media_root=str(media)))
    gateway = running.Gateway(folder / "process", settings)
    yield gateway, tokens, store
    gateway.stop()


def test_each_scope_opens_its_calls_and_no_others(guarded):
    gateway, tokens, _ = guarded
    calls = {
        "read": lambda headers: gateway.http.get("/v1/popular", headers=headers),
        "write": lambda headers: gateway.post_with(headers, {"user_id": "u", "item_id": "i1"}),
        "admin": lambda headers: gateway.http.delete("/v1/users/somebody", headers=headers),
    }
    gateway.post_with = lambda headers, event: gateway.http.post("/v1/events", json=event, headers=headers)
    for scope, (token, _) in tokens.items():
        for needed, call in calls.items():
            expected = 200 if scope in (needed, "admin") else 403
            assert call(bearer(token)).status_code == expected, (scope, needed)


def test_missing_wrong_and_revoked_keys_are_refused(guarded):
    gateway, tokens, store = guarded
    token, key_id = add_key(store, "read")
    assert gateway.http.get("/v1/popular").status_code == 401
    assert gateway.http.get("/v1/popular").headers["WWW-Authenticate"] == "Bearer"
    wrong = [token[:-1] + ("a" if token[-1] != "a" else "b"), "zy_", "zy__", f"zy_{key_id}_", "x", "zy_" + "a" * 5000,
             token.removeprefix("zy_"), token.upper()]  # fmt: skip
    for one in wrong:
        assert gateway.http.get("/v1/popular", headers=bearer(one)).status_code == 401, one
    assert gateway.http.get("/v1/popular", headers=bearer(token)).status_code == 200
    used = running.run(lambda opened: opened.get_key(key_id), store).last_used_s
    assert used > 1_700_000_000
    running.run(lambda opened: api_keys.revoke(opened, key_id, 2), store)
    assert gateway.http.get("/v1/popular", headers=bearer(token)).status_code == 401


def test_no_secret_is_kept(guarded):
    _, tokens, store = guarded
    secret = tokens["admin"][0].split("_", 2)[2]  # the secret may hold "_" itself
    assert len(secret) > 20
    assert not any(secret.encode() in file.read_bytes() for file in store.parent.glob("store.sqlite*"))


def test_who_may_only_read_adds_no_likes_by_the_page(guarded):
    gateway, tokens, store = guarded
    headers = {"Cookie": f"zy_key={tokens['read'][0]}"}
    before = running.run(lambda opened: opened.num_events(), store)
    assert gateway.http.post("/page/sign-in", data={"liked": ["i1"]}, headers=headers).status_code == 403
    assert running.run(lambda opened: opened.num_events(), store) == before
    assert gateway.http.post("/page/sign-in", data={"user_id": "u"}, headers=headers).status_code == 303


def test_health_needs_no_key(guarded):
    gateway, _, _ = guarded
    assert gateway.http.get("/health/live").status_code == 200


def test_media_are_sent_whole_and_by_ranges(guarded):
    gateway, tokens, _ = guarded
    headers = bearer(tokens["read"][0])
    whole = gateway.http.get("/v1/media/song", headers=headers)
    assert (whole.status_code, whole.content) == (200, bytes(range(256)) * 4)
    assert whole.headers["content-type"] == "audio/mpeg"
    part = gateway.http.get("/v1/media/song", headers={**headers, "Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, bytes(range(10, 20)))
    assert part.headers["content-range"] == "bytes 10-19/1024"
    assert gateway.http.get("/v1/media/song", headers={**headers, "Range": "bytes=9999-"}).status_code == 416


def test_nothing_beside_the_media_is_sent(guarded):
    gateway, tokens, _ = guarded
    headers = bearer(tokens["read"][0])
    for name in ("up", "link", "gone", "absolute", "file", "nul", "i1", "..%2f..%2fsecret.txt"):
        answer = gateway.http.get(f"/v1/media/{name}", headers=headers)
        assert answer.status_code == 404, name
        assert b"secret" not in answer.content.replace(b"secret.txt", b"")
    page = gateway.http.get("/v1/media/page", headers=headers)
    assert page.headers["content-type"] == "application/octet-stream", "what is no medium is not run by a browser"


def test_without_keys_others_are_not_served(model_server, tmp_path):
    store = tmp_path / "store.sqlite"
    running.fill(store)
    file = tmp_path / "settings.json"
    file.write_text(to_json(replace(running.settings(model_server, store), host="0.0.0.0")))
    command = [sys.executable, "-m", "serving.gateway", str(file)]
    environment = os.environ | {"PYTHONPATH": "."}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=120)
    assert done.returncode == 2
    assert "zhiyin keys add" in done.stderr


def test_the_first_key_closes_a_running_service(model_server, tmp_path):
    store = tmp_path / "store.sqlite"
    running.fill(store)
    gateway = running.Gateway(tmp_path / "process", running.settings(model_server, store))
    assert gateway.http.get("/v1/popular").status_code == 200
    token, _ = add_key(store, "read")
    until(lambda: gateway.http.get("/v1/popular").status_code == 401)
    assert gateway.http.get("/v1/popular", headers=bearer(token)).status_code == 200
    gateway.stop()


@pytest.mark.parametrize("only_this_machine_can_call", [False, True])
def test_revoking_the_last_key_opens_a_service_to_nobody_else(tmp_path, only_this_machine_can_call):
    store = str(tmp_path / "store.sqlite")
    _, key_id = add_key(store, "admin")

    async def go(opened):
        now = [1000.0]
        access = Access(opened, only_this_machine_can_call, lambda: now[0])
        with pytest.raises(Problem):
            await access.check(None, "read")
        await api_keys.revoke(opened, key_id, 2)
        now[0] += 60.0
        if only_this_machine_can_call:
            assert await access.check(None, "admin") == "" and not access.is_closed
        else:
            with pytest.raises(Problem) as refused:
                await access.check(None, "admin")
            assert refused.value.status_code == 401 and access.is_closed

    running.run(go, store)


def test_a_key_that_the_store_confirmed_counts_while_it_is_away(redis_server, tmp_path):
    """Revocation waits for the store; answers do not."""
    redis = running.Redis(tmp_path / "redis")
    token, _ = add_key(redis.url, "read")

    async def go(store):
        access = Access(store, opens_without_keys=True)
        assert await access.check(token, "read")
        redis.kill()
        assert await access.check(token, "read")
        with pytest.raises(Problem) as refused:
            await access.check("zy_0123456789ab_x", "read")
        assert refused.value.status_code == 503

    running.run(go, redis.url)


def test_a_bucket_fills_again_at_its_rate():
    now = [0.0]
    limit = RateLimit(2.0, 2, lambda: now[0])
    limit.take("a")
    limit.take("a")
    limit.take("another")
    with pytest.raises(Problem) as refused:
        limit.take("a")
    assert refused.value.headers["Retry-After"] == "1"
    now[0] = 0.5
    limit.take("a")
    with pytest.raises(Problem):
        limit.take("a")


def test_scopes_have_to_exist():
    with pytest.raises(ValueError, match="sing"):
        api_keys.make_key("x", ("sing",), 0)


def test_a_new_items_medium_is_decoded_at_arms_length_and_a_broken_one_costs_only_itself(guarded, clips):
    gateway, tokens, _ = guarded
    headers = bearer(tokens["write"][0])
    media = Path(gateway.settings.data.media_root)
    (media / "tone.wav").write_bytes(clips.audio(clips.tone(1.0)))
    body = {"title": "A tone", "embeddings": {"style": [1, 0, 0, 0]}, "media_uri": "tone.wav"}
    assert gateway.http.put("/v1/items/tone", json=body, headers=headers).json()["status"] == "shown"
    assert "a medium cannot be used" not in gateway.log()
    broken = gateway.http.put("/v1/items/noise", json={**body, "media_uri": "song.mp3"}, headers=headers)
    assert broken.json()["status"] == "shown", "its other columns still place it"
    assert "a medium cannot be used" in gateway.log()
    assert gateway.http.get("/v1/media/tone", headers=bearer(tokens["read"][0])).headers["content-type"] == "audio/wav"
