"""Types of command-line values, with messages that say what was expected."""

from __future__ import annotations

import argparse

MAX_PORT = 2**16 - 1


def boolean(text: str) -> bool:
    """`true`, `1`, `false` or `0`, in any case."""
    if text.lower() in ("true", "1"):
        return True
    if text.lower() in ("false", "0"):
        return False
    raise argparse.ArgumentTypeError(f"got {text!r}, expected true or false")


def positive(text: str) -> int:
    """A whole number of 1 or more."""
    return _at_least(1, text)


def count(text: str) -> int:
    """A whole number of 0 or more."""
    return _at_least(0, text)


def port(text: str) -> int:
    """A port's number, or 0."""
    if count(text) > MAX_PORT:
        raise argparse.ArgumentTypeError(f"got {text}, expected {MAX_PORT} or less")
    return int(text)


def channel_arguments(text: str) -> tuple[tuple[str, int | str], ...]:
    """gRPC's settings as `name=value,name=value`; whole numbers become numbers, as in TF Serving."""
    arguments: list[tuple[str, int | str]] = []
    for part in filter(None, text.split(",")):
        name, equals, value = part.partition("=")
        if not (name and equals and value):
            raise argparse.ArgumentTypeError(
                f"got {part!r}, expected name=value, such as grpc.max_connection_age_ms=2000"
            )
        try:
            arguments.append((name, int(value)))
        except ValueError:
            arguments.append((name, value))
    return tuple(arguments)


def _at_least(least: int, text: str) -> int:
    value = int(text)
    if value < least:
        raise argparse.ArgumentTypeError(f"got {value}, expected {least} or more")
    return value
