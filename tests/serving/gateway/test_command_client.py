"""`add`, `withdraw` and `recommend` through a real gateway."""

import http.server
import json
import threading

import pytest
import yaml

from components.config import DataConfig, TableConfig
from pipeline import cli
from pipeline.gateway_client import GatewayClient, GatewayRefused, item_body
from serving.gateway.api_keys import make_key
from tests.serving.gateway import running

CHANGES_ITEMS = True


@pytest.fixture
def configuration(tmp_path):
    """Of the tiny world: what a catalogue may say of an item."""
    data = {
        "catalogue": {"path": str(tmp_path / "items.csv")},
        "events": {"path": str(tmp_path / "events.csv")},
        "embeddings": {"style": 4},
    }
    settings = {
        "name": "tiny",
        "work_dir": str(tmp_path / "work"),
        "data": data,
        "evaluation": {"min_gain_over_popularity": 0.0, "max_loss_to_last": 0.0},
    }
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(settings))
    return str(file)


@pytest.fixture
def with_keys(model_server, tmp_path):
    """A gateway that needs a key, and a key that may only read."""
    store = tmp_path / "store.sqlite"
    running.fill(store)
    token, key = make_key("reader", ("read",), 1)
    running.run(lambda opened: opened.put_key(key), store)
    gateway = running.Gateway(tmp_path / "gateway", running.settings(model_server, store, rate_limit_burst=3,
                                                                     rate_limit_per_s=0.01))  # fmt: skip
    yield gateway, token
    gateway.stop()


def test_a_list_is_what_the_gateway_answers(gateway, configuration, capsys):
    words = ["recommend", "--config", configuration, "--gateway", gateway.url, "--user", "listener", "--k", "3"]
    assert cli.main([*words, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    expected = gateway.recommend("listener", k=3)["items"]
    assert [item["item_id"] for item in printed["items"]] == [item["item_id"] for item in expected]
    assert printed["user_id"] == "listener"
    assert printed["fallback"] is True
    assert cli.main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert expected[0]["title"] in lines[0]
    assert lines[-1] == "nothing is known of 'listener': this is what new people get"


def test_new_items_are_shown_by_the_service_and_faults_are_told(gateway, configuration, tmp_path, capsys):
    table = tmp_path / "new.csv"
    table.write_text(
        "item_id,title,domain,media_uri,embedding:style\n"
        'premiere,Premiere,film,,"[1, 0, 0, 0]"\n'
        'elsewhere,Elsewhere,film,../secret.mp3,"[0, 1, 0, 0]"\n'
        ",Nameless,film,,\n"
    )
    words = ["add", "--config", configuration, "--gateway", gateway.url, "--catalogue", str(table)]
    assert cli.main(words) == 0
    told = capsys.readouterr().out
    assert "1 items added, 2 rejects; 1 are shown by every model server." in told
    assert "elsewhere media_uri" in told
    assert "missing_required" in told
    assert "premiere" in gateway.ids("somebody", k=40)


def test_a_withdrawn_item_is_gone_and_an_unknown_one_is_named(gateway, configuration, capsys):
    words = ["withdraw", "--config", configuration, "--gateway", gateway.url, "--item", "i7", "nothing/such?"]
    assert cli.main(words) == 2
    told = capsys.readouterr()
    assert told.out == "i7: withdrawn; the service and its model servers know\n"
    assert "the service has no item 'nothing/such?'" in told.err
    assert "i7" not in gateway.ids("somebody", k=40)


def test_what_a_key_lacks_is_told_and_no_key_stands_in_a_message(
    with_keys, configuration, tmp_path, capsys, monkeypatch
):
    gateway, token = with_keys
    recommend = ["recommend", "--config", configuration, "--gateway", gateway.url, "--user", "u"]
    assert cli.main(recommend) == 1
    assert "401 Unauthorized" in (told := capsys.readouterr().err)
    assert "--api-key-file FILE or ZHIYIN_API_KEY" in told
    file = tmp_path / "key"
    file.write_text(token + "\n")
    assert cli.main([*recommend, "--api-key-file", str(file)]) == 0
    monkeypatch.setenv("ZHIYIN_API_KEY", token)
    assert cli.main(recommend) == 0
    withdraw = ["withdraw", "--config", configuration, "--gateway", gateway.url, "--item", "i1"]
    assert cli.main(withdraw) == 1
    assert "403 Forbidden" in (told := capsys.readouterr().err)
    assert token not in told
    assert cli.main(recommend) == 0
    assert cli.main(recommend) == 1
    assert "429 Too Many Requests" in (told := capsys.readouterr().err)
    assert "try again in " in told


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("recommend", "--user", "u", "--at", "2024-05-31"), "--at: means nothing with --gateway"),
        (("recommend", "--all-users", "--json"), "--all-users: means nothing with --gateway"),
        (("withdraw", "--restore", "--item", "i1"), "--restore: means nothing with --gateway"),
        (("withdraw", "--server", "localhost:1", "--item", "i1"), "--server: means nothing with --gateway"),
        (("withdraw", "--item", "i1", "--api-key-file", "/nowhere/key"), "--api-key-file: "),
    ],
)
def test_flags_of_the_model_in_this_process_are_refused(configuration, capsys, words, message):
    command, *others = words
    assert cli.main([command, "--config", configuration, "--gateway", "http://127.0.0.1:1", *others]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("url", ["127.0.0.1:8080", "ftp://host", "http://name:word@host", "http://host/path"])
def test_an_address_that_is_none_of_a_gateway_is_refused(configuration, capsys, url):
    assert cli.main(["recommend", "--config", configuration, "--user", "u", "--gateway", url]) == 2
    assert "expected http://HOST:PORT" in capsys.readouterr().err


def test_a_gateway_that_is_away_is_told():
    with pytest.raises(GatewayRefused, match=r"http://127\.0\.0\.1:\d+: cannot be reached"):
        GatewayClient(f"http://127.0.0.1:{running.free_port()}").withdraw(["i1"])


class Elsewhere(http.server.BaseHTTPRequestHandler):
    """Sends everybody on to another address."""

    def do_DELETE(self):
        self.send_response(307)
        self.send_header("Location", "http://127.0.0.1:1/")
        self.end_headers()

    def log_message(self, *_):
        """Quiet."""


def test_a_redirect_is_not_followed_with_the_key():
    with http.server.HTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(GatewayRefused, match="answers 307, but not as a gateway does"):
            GatewayClient(f"http://127.0.0.1:{server.server_port}", "zy_key").withdraw(["i1"])
        server.shutdown()


def test_the_columns_of_a_row_go_where_the_api_takes_them():
    data = DataConfig(
        catalogue=TableConfig(path=""),
        events=TableConfig(path=""),
        numeric=("loudness",),
        categorical=("label",),
        embeddings={"style": 2},
    )
    row = {"item_id": "i", "title": "T", "tags": ["a"], "loudness": 1.5, "label": "x", "embedding:style": [1, 0]}
    assert item_body(row, data) == {
        "item_id": "i",
        "title": "T",
        "tags": ["a"],
        "numeric": {"loudness": 1.5},
        "categorical": {"label": "x"},
        "embeddings": {"style": [1.0, 0.0]},
    }
