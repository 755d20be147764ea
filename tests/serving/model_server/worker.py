"""A server process that serves nothing, in place of one that takes long to start."""

from __future__ import annotations

import os
from multiprocessing import connection
from pathlib import Path

from serving.model_server.config import ServerConfig

BROKEN = "broken"  # a file in the base path of the only model: while it is there, no process can start


def work(config: ServerConfig, parent: connection.Connection) -> None:
    """As `processes._work`: ready at once, until the parent is gone. Leaves a file named by its process id."""
    folder = Path(config.models[0].base_path)
    (folder / str(os.getpid())).touch()
    if (folder / BROKEN).exists():
        raise SystemExit(1)
    parent.send(True)
    try:
        parent.recv()
    except EOFError:
        raise SystemExit(0) from None
