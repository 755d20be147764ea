"""`zhiyin stream` as it is called: what it prints, how it stops, and which faults it names."""

import os
import signal
import subprocess
import sys
from collections import Counter

import pytest
import yaml

from components.settings import SettingsError
from pipeline import cli
from pipeline.kafka_topic import Topic, read_properties
from tests.pipeline.stream.clients import events_of, fill, made, needs_kafka, publish, write
from tests.serving.gateway import running


@pytest.fixture
def configuration(tmp_path):
    (tmp_path / "items.csv").write_text("item_id,title\ni0,One\n")
    (tmp_path / "events.csv").write_text("user_id,item_id\n")
    tables = {"catalogue": {"path": str(tmp_path / "items.csv")}, "events": {"path": str(tmp_path / "events.csv")}}
    file = tmp_path / "config.yaml"
    settings = {"name": "streamed", "work_dir": str(tmp_path / "work"), "data": tables}
    settings["evaluation"] = {"min_gain_over_popularity": 0.0, "max_loss_to_last": 0.0}
    file.write_text(yaml.safe_dump(settings))
    return file


class TestCommand:
    @needs_kafka
    def test_out_and_in(self, topic, two, configuration, tmp_path, capsys):
        fill(two[0], made(50))
        (tmp_path / "client.properties").write_text("# nothing secret here\nclient.id = a test\n")
        words = ["--config", str(configuration), "--kafka", topic.address, "--topic", topic.name]
        words += ["--client-properties", str(tmp_path / "client.properties")]
        assert cli.main(["stream", "publish", *words, "--store", str(two[0])]) == 0
        write(topic, b"no JSON")
        assert cli.main(["stream", "take", *words]) == 0
        assert cli.main(["stream", "take", *words]) == 0
        file = tmp_path / "work" / "stream" / f"{topic.name}.rejects.jsonl"
        lines = capsys.readouterr().out.splitlines()
        assert lines == [
            f"publish {topic}: 50 sent",
            f"take {topic}: 50 accepted, 1 rejected, with place and reason in {file}",
            f"take {topic}: nothing new",
        ]
        assert len(file.read_text().splitlines()) == 1
        assert Counter(events_of(tmp_path / "work" / "store.sqlite")) == Counter(made(50))

    @needs_kafka
    def test_followed_until_it_is_stopped(self, topic, two, configuration, tmp_path):
        log = tmp_path / "log"
        words = ("--config", str(configuration), "--kafka", topic.address, "--topic", topic.name, "--follow")
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "pipeline.cli", "stream", "take", *words, "--store", str(two[1])],
                stdout=output, stderr=subprocess.STDOUT, env=os.environ | {"PYTHONPATH": os.getcwd()},  # noqa: PTH109
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell in the background ignores it
            )  # fmt: skip
        for number in range(2):
            write(topic, {"user_id": "u", "item_id": "i", "event_id": str(number)})
            running.until(lambda number=number: log.read_text().count("1 accepted") == number + 1)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=running.START_S) == 130, log.read_text()
        assert [event.event_id for event in events_of(two[1])] == ["0", "1"]

    @needs_kafka
    def test_a_topic_that_is_not_there_is_named(self, broker, two):
        with pytest.raises(SettingsError, match="there is no topic none at 127.0.0.1"):
            publish(two[0], Topic(broker.address, "none"))

    def test_a_broker_that_is_away_is_named(self, configuration, two, capsys):
        fill(two[0], made(1))
        address = f"127.0.0.1:{running.free_port()}"
        words = ["--config", str(configuration), "--kafka", address, "--topic", "t", "--store", str(two[0])]
        for way in ("publish", "take"):
            assert cli.main(["stream", way, *words]) == 1
            assert f"Kafka at {address}: no broker has answered within 5 s" in capsys.readouterr().err

    def test_a_store_that_is_not_there_is_not_made_to_be_sent(self, configuration, tmp_path, capsys):
        words = ["--config", str(configuration), "--kafka", "127.0.0.1:1", "--topic", "t"]
        assert cli.main(["stream", "publish", *words, "--store", str(tmp_path / "none")]) == 2
        assert "there is no store" in capsys.readouterr().err
        assert not (tmp_path / "none").exists()

    def test_the_extra_that_is_missing_is_named(self, two, monkeypatch):
        monkeypatch.setitem(sys.modules, "confluent_kafka", None)
        with pytest.raises(SettingsError, match=r"pip install 'zhiyin\[kafka\]'"):
            publish(two[0], Topic("127.0.0.1:1", "t"))

    @pytest.mark.parametrize("name", ["", "..", "a/b", "ü", "x" * 250])
    def test_a_name_that_no_topic_has(self, name):
        with pytest.raises(SettingsError, match="--topic: got"):
            Topic("127.0.0.1:1", name)

    @pytest.mark.parametrize("line", ["acks=0", "enable.auto.commit=true", "bootstrap.servers=else:9092", "a word"])
    def test_properties_that_a_file_may_not_say(self, line, tmp_path):
        file = tmp_path / "client.properties"
        file.write_text(f"# comment\n\nsasl.username = me\n{line}\n")
        with pytest.raises(SettingsError, match=rf"{file}:4: "):
            read_properties(file)

    def test_a_property_that_the_client_does_not_know(self, two):
        with pytest.raises(SettingsError, match="--client-properties: .*nonsense"):
            publish(two[0], Topic("127.0.0.1:1", "t", {"nonsense": "1"}))

    def test_a_password_is_in_no_text(self, tmp_path):
        file = tmp_path / "client.properties"
        file.write_text("sasl.password = se=cret\n")
        properties = read_properties(file)
        assert properties == {"sasl.password": "se=cret"}
        assert "cret" not in repr(Topic("127.0.0.1:1", "t", properties))
