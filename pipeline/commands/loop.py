"""`zhiyin loop`: trains again when enough has happened; what is blessed is pushed, what is not changes nothing."""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from components.interpreter import module_command, module_environment
from components.settings import SettingsError
from pipeline import config as configuration
from pipeline import store_tables
from pipeline.commands.arguments import DEMO_CONFIG, Commands, add_command, add_config
from pipeline.supervisor import end_with_parent
from serving.gateway.config import LoopConfig
from serving.gateway.stores.base import StoreUnavailable, open_store

DRIFTED = 3  # exit code


def add_parser(commands: Commands) -> None:
    """`loop --config FILE [--store URL] [--once]`."""
    command = add_command(
        commands,
        "loop",
        "train again when enough has happened in the service, and push what is blessed",
        "./zhiyin loop --config configs/demo.yaml",
        run,
    )
    add_config(command, DEMO_CONFIG)
    command.add_argument("--store", default="", help="as of `up`")
    command.add_argument("--once", action="store_true", help="one run now, from what the store holds")


@dataclass(frozen=True)
class Progress:
    """How far the last run had read."""

    num_events: int = 0
    time_s: float = 0.0

    @classmethod
    def read(cls, file: Path) -> Progress:
        """What was written; nothing read yet where there is no file."""
        return cls(**json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else cls()

    def write(self, file: Path) -> None:
        """Whole or not at all."""
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_name(f".{file.name}.partial")
        partial.write_text(json.dumps(vars(self)), encoding="utf-8")
        partial.replace(file)

    def is_due(self, num_events: int, now_s: float, config: LoopConfig) -> bool:
        """Whether enough events or enough time came since; of a store that was brought back from a copy all are new."""
        new = num_events - self.num_events if num_events >= self.num_events else num_events
        return new >= config.min_new_events or (new > 0 and now_s - self.time_s >= config.max_wait_s)


def run(arguments: argparse.Namespace) -> int:
    """Wait for enough events and run, again and again; with --once one run."""
    config = configuration.load(arguments.config)
    url = arguments.store or store_tables.default_store(config)
    file = config.work_path / "loop.json"
    if arguments.once:
        return _train_once(config, url, file)
    settings = config.gateway.loop
    command = module_command("pipeline.cli", "loop", "--once", "--config", str(arguments.config.absolute()))
    environment = module_environment(**{store_tables.STORE_VARIABLE: url})  # others may read a command line
    waited_for = f"{settings.min_new_events:,} new events in {store_tables.shown(url)}"
    print(f"waiting for {waited_for} (Ctrl-C stops)", flush=True)
    is_away, was_there = False, False
    while True:
        try:
            num_events = _num_events(url)
        except RuntimeError as error:  # a store that starts again is waited for; one that was never there is not
            if not was_there:
                raise
            if not is_away:
                print(f"{error}; waiting for it", flush=True)
            is_away = True
        else:
            is_away, was_there = False, True
            if Progress.read(file).is_due(num_events, time.time(), settings):
                # a run that outlived a killed loop would keep the next one's from its work folder
                code = subprocess.run(command, env=environment, check=False, preexec_fn=end_with_parent).returncode
                if code == DRIFTED:
                    print("the run's world has moved; what moved stands in its report", flush=True)
                elif code:  # the same data would fail again: wait for more
                    print(f"the run failed with exit code {code}; what is served stays", flush=True)
                    Progress(num_events, time.time()).write(file)
        time.sleep(settings.poll_s)


def _train_once(config: configuration.Config, url: str, file: Path) -> int:
    """One run over the store's tables. Exit code 0 too where the model was refused: that is a result.

    DRIFTED where the run ended and its world has moved, or what was asked of the version before it is not what that was
    trained on, beyond a limit (`drift` in the configuration).
    """
    from pipeline import catalog_updates, workflows
    from pipeline.drift.record import has_exceeded
    from pipeline.report.write import FOLDER

    progress = Progress(_num_events(url), time.time())
    report = config.work_path / FOLDER
    has_skew = is_skewed(config, url, report)
    before = catalog_updates.newest(config)
    stages = workflows.train(store_tables.with_store(config, url))
    progress.write(file)
    decision = workflows.evaluation(stages)["decision"]
    after = catalog_updates.newest(config)
    verdict = f"pushed version {after.name}" if after and after != before else "nothing pushed; what is served stays"
    reasons = "; ".join(filter(None, (decision["reason"], workflows.server_refusal(stages))))
    print(f"loop: {progress.num_events:,} events read; {reasons}; {verdict}", flush=True)
    return DRIFTED if has_skew or has_exceeded("drift", report) else 0


def is_skewed(config: configuration.Config, url: str, report: Path) -> bool:
    """Whether what was asked of the version that is served now is beyond a limit; it is written for the report."""
    from pipeline.drift.record import write_skew
    from pipeline.drift.skew import skew_of

    try:
        skew = skew_of(config, url)
    except SettingsError as error:  # the first run of all, or a version whose parts are gone
        print(f"skew: not measured, {error}", flush=True)
        return False
    write_skew(skew, report)
    for line in skew.lines():
        print(f"skew: {line}", flush=True)
    return bool(skew.exceeded)


def _num_events(url: str) -> int:
    async def go() -> int:
        store = open_store(url)
        await store.open()
        try:
            return await store.num_events()
        finally:
            await store.close()

    if "://" not in url and not Path(url).is_file():
        raise SettingsError(f"there is no store {store_tables.shown(url)}: ./zhiyin up makes it")
    try:
        return asyncio.run(go())
    except StoreUnavailable as error:
        raise RuntimeError(f"{store_tables.shown(url)}: {error}") from error
