"""`zhiyin stream`: events from the service's store into a Kafka topic, and from a topic into the store."""

from __future__ import annotations

import argparse
import asyncio
from collections import Counter
from pathlib import Path

from components.settings import SettingsError
from pipeline import config as configuration
from pipeline import store_tables
from pipeline.commands.arguments import DEMO_CONFIG, Commands, add_command, add_config, user_path
from serving.gateway.stores.base import StoreUnavailable, open_store

REJECTS = "stream"  # folder in the work folder
_WORDS = {
    "sent": "sent",
    "accepted": "accepted",
    "duplicate": "known already",
    "forgotten": "of people who asked to be forgotten",
    "rejected": "rejected",
    "gone": "gone from the topic before they could be read",
}


def add_parser(commands: Commands) -> None:
    """`stream publish|take --kafka HOST:PORT --topic TOPIC [--follow]`."""
    command = add_command(
        commands,
        "stream",
        "send the store's events to a Kafka topic, or take a topic's events into the store; "
        "run again after any failure, none is lost and none taken twice",
        "./zhiyin stream take --kafka localhost:9092 --topic events --follow",
        run,
    )
    add_config(command, DEMO_CONFIG)
    command.add_argument("action", choices=["publish", "take"])
    command.add_argument("--kafka", metavar="HOST:PORT", required=True, help="a broker, or several with commas")
    command.add_argument("--topic", required=True, help="one that is there; it must keep messages by time, not by key")
    command.add_argument("--store", default="", help="as of `up`")
    command.add_argument("--follow", action="store_true", help="go on with what comes later, until Ctrl-C")
    command.add_argument(
        "--client-properties",
        type=user_path,
        metavar="FILE",
        help="name=value lines for the client, librdkafka's names: sasl.username, sasl.password, ssl.ca.location",
    )


def run(arguments: argparse.Namespace) -> int:
    """One way or the other, up to what is there now or until it is stopped."""
    from pipeline.kafka_topic import Topic, read_properties

    config = configuration.load(arguments.config)
    properties = read_properties(arguments.client_properties) if arguments.client_properties else {}
    topic = Topic(arguments.kafka, arguments.topic, properties)
    url = arguments.store or store_tables.default_store(config)
    if "://" not in url and not Path(url).is_file():
        if arguments.action == "publish":
            raise SettingsError(f"there is no store {store_tables.shown(url)}: ./zhiyin up makes it")
        Path(url).parent.mkdir(parents=True, exist_ok=True)
    try:
        asyncio.run(_stream(arguments, config, url, topic))
    except StoreUnavailable as error:
        raise RuntimeError(f"{store_tables.shown(url)}: {error}") from error
    except ValueError as error:  # a key file that cannot be read, a store's address that is none
        raise SettingsError(str(error)) from error
    return 0


async def _stream(arguments: argparse.Namespace, config: configuration.Config, url: str, topic) -> None:
    from tqdm import tqdm

    from pipeline.event_stream import Publisher, Rejects, Taker, repeat
    from serving.gateway.privacy import Pseudonyms, load_keys

    pseudonyms, store = Pseudonyms(load_keys(config.gateway.privacy)), open_store(url)
    rejects = Rejects(config.work_path / REJECTS / f"{topic.name}.rejects.jsonl")
    await store.open()
    try:
        with tqdm(unit="event", desc=f"{arguments.action} {topic}", disable=None, leave=False) as bar:

            def say(counts: Counter[str]) -> None:
                if line := described(counts, rejects.file, arguments.follow):
                    bar.clear()
                    print(f"{arguments.action} {topic}: {line}", flush=True)

            if arguments.action == "publish":
                await repeat(Publisher(store, topic, pseudonyms, bar.update), arguments.follow, say)
            else:
                kinds = config.data.event_rules
                await repeat(Taker(store, topic, kinds, pseudonyms, rejects, bar.update), arguments.follow, say)
    finally:
        await store.close()


def described(counts: Counter[str], rejects: Path, follow: bool) -> str:
    """What was done, in a line; empty where nothing was, and more may come."""
    parts = [f"{count:,} {_WORDS[name]}" if name in _WORDS else name for name, count in counts.items() if count]
    if counts["rejected"]:
        parts.append(f"with place and reason in {rejects}")
    return ", ".join(parts) or ("" if follow else "nothing new")
