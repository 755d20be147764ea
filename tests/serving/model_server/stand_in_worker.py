"""A server process that serves nothing, in place of one that takes long to start."""

from __future__ import annotations

import os
from multiprocessing import connection
from pathlib import Path

from serving.model_server.config import ServerConfig


def work(config: ServerConfig, parent: connection.Connection) -> None:
    """As `processes._work`: ready at once, until the parent is gone. Leaves a file named by its process id.

    It cannot start while the only model's base path holds the file `broken`.
    """
    folder = Path(config.models[0].base_path)
    (folder / str(os.getpid())).touch()
    if (folder / "broken").exists():
        raise SystemExit(1)
    parent.send(True)
    try:
        parent.recv()
    except EOFError:
        raise SystemExit(0) from None
