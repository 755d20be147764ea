"""Discovers the versions in a model's base path and picks those that its policy may serve."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path

import tensorflow as tf

from components.file_state import size_and_mtime
from serving.model_server.config import ModelSettings

log = logging.getLogger(__name__)

_VERSION = re.compile(r"[0-9]+")
MAX_VERSION = 2**63 - 1


class Storage:
    """Looks at base paths; an oddity is logged when it appears, not at every look."""

    def __init__(self) -> None:
        self._odd: dict[str, set[str]] = {}  # what was odd at the last look at a model

    def candidates(self, settings: ModelSettings) -> dict[int, str] | None:
        """Version -> folder of the versions that the policy may serve, newest first; None where it cannot be read.

        Of the policy `latest`, those are all: which are the newest that load is not known here.
        """
        found, oddities = _look(settings)
        before = self._odd.get(settings.name, set())
        for oddity in oddities:
            if oddity not in before:
                log.warning("model %r: %s", settings.name, oddity)
        self._odd[settings.name] = {*oddities, *(before if found is None else ())}
        return found


def _look(settings: ModelSettings) -> tuple[dict[int, str] | None, list[str]]:
    """The candidates, and what is odd about the base path, in words."""
    base = settings.base_path.rstrip("/")
    try:
        names = sorted(name.rstrip("/") for name in _names(base))
    except (tf.errors.OpError, OSError) as error:
        return None, [f"cannot list {base}: {error}"]
    found: dict[int, str] = {}
    oddities = []
    for name in names:
        if not _VERSION.fullmatch(name) or int(name) > MAX_VERSION:
            oddities.append(f"{base}/{name} is ignored: a version folder's name is a whole number")
        elif int(name) in found:
            oddities.append(f"{base}/{name} is ignored: version {int(name)} is {found[int(name)]}")
        else:
            found[int(name)] = f"{base}/{name}"
    newest_first = sorted(found, reverse=True)
    if settings.policy == "specific":
        for number in set(settings.specific_versions) - set(newest_first):
            oddities.append(f"version {number} is to be served, but {base} does not hold it")
        newest_first = [number for number in newest_first if number in settings.specific_versions]
    if not newest_first:
        oddities.append(f"no version to serve under {base}: version folders are named 1, 2, ...")
    return {number: found[number] for number in newest_first}, oddities


def _names(folder: str) -> list[str]:
    try:
        return tf.io.gfile.listdir(folder)
    except UnicodeDecodeError:  # TensorFlow lists nothing where one name is not UTF-8; a disk may hold one
        return [os.fsencode(path.name).decode(errors="backslashreplace") for path in Path(folder).iterdir()]


def fingerprint(folder: str) -> tuple[tuple[str, int, int], ...]:
    """Path, bytes and modification time of every file loaded from `folder`: changes as long as a copy is under way.

    Warm-up requests are left out: they may change while their version is served.
    """
    files = []
    try:
        for parent, _, names in tf.io.gfile.walk(folder):
            for name in () if parent.endswith("/assets.extra") else names:
                files.append((f"{parent}/{name}", *size_and_mtime(f"{parent}/{name}")))
    except (tf.errors.OpError, OSError, UnicodeDecodeError) as error:
        # A file went away between listing and looking: a change, too. Or a name is not UTF-8: nothing beyond is seen.
        files.append((str(error), -1, -1))
    return tuple(sorted(files))
