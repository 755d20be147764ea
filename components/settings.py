"""Frozen dataclasses from plain mappings (YAML, JSON) and back; an unknown key is an error that names the near miss."""

from __future__ import annotations

import dataclasses
import difflib
import json
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")


class SettingsError(ValueError):
    """A setting that cannot be used: its dotted path, what was got, what was expected."""


def from_mapping(cls: type[T], mapping: Any, path: str = "") -> T:
    """Build the frozen dataclass `cls`, nested ones included, from a mapping of its field names.

    path: the dotted path of `mapping` in the whole configuration, for messages.
    Raises SettingsError naming the key, the value and the expectation.
    """
    if not isinstance(mapping, Mapping):
        raise SettingsError(f"{path or 'the configuration'}: got {mapping!r}, expected a mapping of settings")
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in mapping:
        if key not in fields:
            raise SettingsError(f"unknown setting {_join(path, key)!r}{_did_you_mean(str(key), fields)}")
    hints = typing.get_type_hints(cls)
    values = {key: _convert(hints[key], value, _join(path, key)) for key, value in mapping.items()}
    for name, field in fields.items():
        has_default = field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
        if name not in values and not has_default:
            raise SettingsError(f"missing setting {_join(path, name)!r}")
    try:
        return cls(**values)
    except SettingsError:
        raise
    except ValueError as error:
        raise SettingsError(f"{path}: {error}" if path else str(error)) from error


def to_json(settings: Any) -> str:
    """The settings as canonical JSON: equal settings give equal text, so it can stand in a cache key."""
    return json.dumps(dataclasses.asdict(settings), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def from_json(cls: type[T], text: str) -> T:
    """The inverse of `to_json`."""
    return from_mapping(cls, json.loads(text))


def _convert(hint: Any, value: Any, path: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        return _convert(next(arg for arg in args if arg is not type(None)), value, path)
    if origin is typing.Literal:
        if value not in args:
            raise SettingsError(f"{path}: got {value!r}, expected one of {', '.join(map(str, args))}")
        return value
    if dataclasses.is_dataclass(hint):
        return from_mapping(hint, value, path)  # type: ignore[arg-type]
    if origin is tuple:
        if isinstance(value, str) or not isinstance(value, (list, tuple)):
            raise SettingsError(f"{path}: got {value!r}, expected a list")
        if len(args) == 2 and args[1] is Ellipsis:
            return tuple(_convert(args[0], element, f"{path}[{i}]") for i, element in enumerate(value))
        if len(args) != len(value):
            raise SettingsError(f"{path}: got {len(value)} values, expected {len(args)}")
        return tuple(_convert(arg, element, f"{path}[{i}]") for i, (arg, element) in enumerate(zip(args, value)))
    if origin is dict:
        if not isinstance(value, Mapping):
            raise SettingsError(f"{path}: got {value!r}, expected a mapping")
        return {str(key): _convert(args[1], element, _join(path, key)) for key, element in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise SettingsError(f"{path}: got {value!r}, expected {hint.__name__}")
    return value


def _join(path: str, key: Any) -> str:
    return f"{path}.{key}" if path else str(key)


def _did_you_mean(key: str, known: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(key, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(sorted(known))}"
