"""`zhiyin up`: the online service of a configuration, from its tables and its pushed model."""

from __future__ import annotations

import argparse
import asyncio
import signal
import socket
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

from components.interpreter import module_command, module_environment
from components.settings import SettingsError, to_json
from pipeline import config as configuration
from pipeline import store_tables
from pipeline.commands.arguments import DEMO_CONFIG, Commands, add_command, add_config, user_path
from pipeline.supervisor import CannotStart, Child, Supervisor
from pipeline.versions import versions_in
from serving.gateway.config import ServerSettings
from serving.gateway.stores.base import StoreUnavailable, open_store

START_S = 300.0  # for a child to answer; loading TensorFlow and a model takes most of it
MODEL_SERVER, GATEWAY = "model server", "gateway"


def add_parser(commands: Commands) -> None:
    """`up [--config FILE] [--host H] [--port P] [--store URL] [--model-server HOST:PORT] [--tls-cert F --tls-key
    F]`."""
    command = add_command(
        commands,
        "up",
        "start the online service: model server, gateway, store",
        "./zhiyin up --config configs/demo.yaml",
        run,
    )
    add_config(command, DEMO_CONFIG)
    command.add_argument("--host", default="127.0.0.1", help="to listen on (default loopback); others need a key")
    command.add_argument("--port", type=int, default=8080, help="of the gateway (default 8080); 0 = a free one")
    command.add_argument(
        "--store", default="", help="a file or redis://HOST:PORT/DB (default: a file in the work folder)"
    )
    command.add_argument(
        "--model-server",
        metavar="HOST:PORT",
        action="append",
        default=[],
        help="gRPC of a running model server, instead of starting one; of several the first answers",
    )
    command.add_argument("--tls-cert", type=user_path, help="PEM file; with --tls-key the gateway speaks HTTPS")
    command.add_argument("--tls-key", type=user_path, help="PEM file")
    command.add_argument("--no-import", action="store_true", help="leave the configured tables out of the store")


@dataclass(frozen=True)
class _Plan:
    """What is to be started."""

    settings: ServerSettings
    starts_model_server: bool
    model_folder: Path


def run(arguments: argparse.Namespace) -> int:
    """Fill the store, start both processes, say where the service is, and keep them running until Ctrl-C."""
    config = configuration.load(arguments.config)
    plan = _plan(arguments, config)
    if not arguments.no_import:
        print(_import(configuration.localised(config), plan.settings.store), flush=True)
    with tempfile.TemporaryDirectory(prefix="zhiyin-up-") as folder:
        supervisor = Supervisor(_children(plan, Path(folder)))
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: supervisor.stop())
        try:
            return _serve(plan, supervisor)
        finally:
            supervisor.end()


def _plan(arguments: argparse.Namespace, config: configuration.Config) -> _Plan:
    if bool(arguments.tls_cert) != bool(arguments.tls_key):
        raise SettingsError("--tls-cert and --tls-key: got one of them, expected both")
    local = configuration.localised(config)
    folder = local.serving_path / local.name
    starts = not arguments.model_server
    if starts and not versions_in(folder):
        raise SettingsError(
            f"no model has been pushed under {folder}; run ./zhiyin run --config {arguments.config} first"
        )
    if arguments.port:
        _require_free(arguments.host, arguments.port)
    local.work_path.mkdir(parents=True, exist_ok=True)
    settings = ServerSettings(
        model_name=local.name,
        data=local.data,
        gateway=local.gateway,
        show_unreleased=local.serving.show_unreleased,
        list_defaults=local.serving.defaults,
        model_servers=tuple(arguments.model_server) or (f"127.0.0.1:{_free_port()}",),
        store=arguments.store or store_tables.default_store(local),
        host=arguments.host,
        port=arguments.port or _free_port(),
        tls_certificate=str(arguments.tls_cert.absolute()) if arguments.tls_cert else "",
        tls_key=str(arguments.tls_key.absolute()) if arguments.tls_key else "",
    )
    return _Plan(settings, starts, folder)


def _import(config: configuration.Config, url: str) -> str:
    async def go() -> store_tables.Imported:
        store = open_store(url)
        await store.open()
        try:
            return await store_tables.import_tables(config, store)
        finally:
            await store.close()

    try:
        done = asyncio.run(go())
    except (StoreUnavailable, ValueError) as error:
        raise SettingsError(f"--store: {error}") from error
    return f"store: {done.items:,} items, {done.events:,} events, {done.users:,} people are new"


def _children(plan: _Plan, folder: Path) -> list[Child]:
    file = folder / "gateway.json"
    file.write_text(to_json(replace(plan.settings)), encoding="utf-8")
    children = [Child(GATEWAY, module_command("serving.gateway", str(file)), module_environment())]
    if plan.starts_model_server:
        port = plan.settings.model_servers[0].rpartition(":")[2]
        name, base = f"--model_name={plan.settings.model_name}", f"--model_base_path={plan.model_folder}"
        # Many short requests side by side: one that is split over threads waits for them more than it wins.
        flags = (f"--port={port}", "--rest_api_port=0", "--tensorflow_session_parallelism=1", name, base)
        children.insert(0, Child(MODEL_SERVER, module_command("serving.model_server", *flags), module_environment()))
    return children


def _serve(plan: _Plan, supervisor: Supervisor) -> int:
    settings = plan.settings
    if plan.starts_model_server:
        print("starting the model server ...", flush=True)
        host, _, port = settings.model_servers[0].rpartition(":")
        supervisor.start(MODEL_SERVER)
        if not _wait(supervisor, MODEL_SERVER, host, int(port)):
            return 0
    supervisor.start(GATEWAY)
    if not _wait(supervisor, GATEWAY, settings.host, settings.port):
        return 0
    scheme = "https" if settings.tls_certificate else "http"
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    print(
        f"ready: {scheme}://{host}:{settings.port}/  (API: /openapi.json, metrics: /metrics; Ctrl-C stops)", flush=True
    )
    supervisor.run()
    print("stopping ...", flush=True)
    return 0


def _wait(supervisor: Supervisor, name: str, host: str, port: int) -> bool:
    """Until the child listens (an address of every interface leads to loopback); False where all is to stop before.

    Raises CannotStart where the child ends.
    """
    until = time.monotonic() + START_S
    while not supervisor.is_stopping:
        if supervisor.has_ended(name):
            raise CannotStart(f"the {name} did not start; its last lines above say why")
        try:
            socket.create_connection((host, port), timeout=1).close()
            return True
        except OSError:
            if time.monotonic() > until:
                raise CannotStart(f"the {name} did not answer within {START_S:.0f} s") from None
            time.sleep(0.1)
    return False


def _require_free(host: str, port: int) -> None:
    """Raises SettingsError where the gateway could not listen: whoever does there would be taken for it."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise SettingsError(f"--host, --port: cannot listen on {host}, {port}: {error.strerror}") from error


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
