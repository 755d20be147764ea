"""Discovers the versions in a model's base path and picks those that its policy may serve."""

from __future__ import annotations

import logging
import re

import tensorflow as tf

from serving.model_server.config import ModelSettings

log = logging.getLogger(__name__)

_VERSION = re.compile(r"\d+")
MAX_VERSION = 2**63 - 1


class Storage:
    """Looks at base paths; each oddity is logged once, not at every look."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def candidates(self, settings: ModelSettings) -> dict[int, str] | None:
        """Version -> folder of the versions that the policy may serve, newest first; None where it cannot be read.

        Of the policy `latest`, those are all: which are the newest that load is not known here.
        """
        base = settings.base_path.rstrip("/")
        try:
            names = sorted(name.rstrip("/") for name in tf.io.gfile.listdir(base))
        except tf.errors.OpError as error:
            self._warn(f"model {settings.name!r}: cannot list {base}: {error.message}")
            return None
        found: dict[int, str] = {}
        for name in names:
            if not _VERSION.fullmatch(name) or int(name) > MAX_VERSION:
                self._warn(
                    f"model {settings.name!r}: {base}/{name} is ignored: a version folder's name is a whole number"
                )
            elif int(name) in found:
                self._warn(
                    f"model {settings.name!r}: {base}/{name} is ignored: version {int(name)} is {found[int(name)]}"
                )
            else:
                found[int(name)] = f"{base}/{name}"
        newest_first = sorted(found, reverse=True)
        if settings.policy == "specific":
            for number in set(settings.specific_versions) - set(newest_first):
                self._warn(f"model {settings.name!r}: version {number} is to be served, but {base} does not hold it")
            newest_first = [number for number in newest_first if number in settings.specific_versions]
        if not newest_first:
            self._warn(
                f"model {settings.name!r}: no version to serve under {base}: version folders are named 1, 2, ..."
            )
        return {number: found[number] for number in newest_first}

    def _warn(self, message: str) -> None:
        if message not in self._said:
            self._said.add(message)
            log.warning("%s", message)


def fingerprint(folder: str) -> tuple[tuple[str, int, int], ...]:
    """Path, bytes and modification time of every file loaded from `folder`: changes as long as a copy is under way.

    Warm-up requests are left out: they may change while their version is served.
    """
    files = []
    try:
        for parent, _, names in tf.io.gfile.walk(folder):
            for name in () if parent.endswith("/assets.extra") else names:
                stat = tf.io.gfile.stat(f"{parent}/{name}")
                files.append((f"{parent}/{name}", stat.length, stat.mtime_nsec))
    except tf.errors.OpError as error:  # a file went away between listing and looking: a change, too
        files.append((str(error), -1, -1))
    return tuple(sorted(files))
