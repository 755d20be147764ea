"""Frozen dataclasses from plain mappings (YAML, JSON) and back; an unknown key is an error that names the near miss."""

from __future__ import annotations

import copy
import dataclasses
import difflib
import json
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

T = TypeVar("T")

# Old dotted key -> new dotted key of the whole configuration; settings of `retrieval` also as keys of `tuning.space`.
RENAMED_SETTINGS: Mapping[str, str] = {
    "references": "ground_truth",
    "retrieval.history_length": "data.history_length",
    "serving.history_length": "data.history_length",
    "retrieval.activity_power": "retrieval.user_weight_exponent",
    "retrieval.item_gain": "retrieval.item_scale",
    "retrieval.sharpness": "retrieval.score_exponent",
    "retrieval.side_by_side": "retrieval.num_submodels",
    "retrieval.spectral_start": "retrieval.svd_init",
    "retrieval.tag_objective": "retrieval.tag_loss_weight",
    "serving.index.free_rows": "serving.index.insert_capacity",
    "serving.index.refresh_from": "serving.index.rebuild_after_inserts",
}
_ABSENT = object()


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


def with_new_names(
    mapping: Mapping[str, Any], renamed: Mapping[str, str] = RENAMED_SETTINGS
) -> tuple[dict[str, Any], list[str]]:
    """Translate renamed settings of a whole configuration; `mapping` itself stays as it is.

    renamed: old dotted key -> new dotted key; several old keys may have one new key.
    Returns the configuration under today's names, and one line for each key that was given under its old name.
    Raises SettingsError where the names of one setting are given with different values.
    """
    found = copy.deepcopy(dict(mapping))
    notices = []
    for old, new in {**_of_tuning_space(renamed), **renamed}.items():
        value = _pop(found, old.split("."))
        if value is _ABSENT:
            continue
        if (kept := _set_default(found, new.split("."), value)) != value:
            raise SettingsError(f"{old} is now called {new}, and both are given: {value!r} and {kept!r}")
        notices.append(f"the setting {old} is now called {new}; the old name is read in this release only")
    return found, notices


def _of_tuning_space(renamed: Mapping[str, str]) -> dict[str, str]:
    """The same names as keys of `tuning.space`, which holds a range for each setting of `retrieval`."""
    section, space = "retrieval.", "tuning.space."
    return {
        space + old.removeprefix(section): space + new.removeprefix(section)
        for old, new in renamed.items()
        if old.startswith(section) and new.startswith(section)
    }


def _pop(mapping: Any, keys: Sequence[str]) -> Any:
    """Take the value at a path of keys out of nested mappings; `_ABSENT` where there is none."""
    *sections, last = keys
    for key in sections:
        mapping = mapping.get(key) if isinstance(mapping, dict) else None
    return mapping.pop(last, _ABSENT) if isinstance(mapping, dict) else _ABSENT


def _set_default(mapping: dict[str, Any], keys: Sequence[str], value: Any) -> Any:
    """The value at a path of keys, which is `value` where there was none; missing sections are made."""
    *sections, last = keys
    for key in sections:
        inner = mapping.setdefault(key, {})
        if inner is None:  # a section without a line under it
            inner = mapping[key] = {}
        if not isinstance(inner, dict):
            raise SettingsError(f"{key}: got {inner!r}, expected a mapping of settings")
        mapping = inner
    return mapping.setdefault(last, value)


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
    if hint is float and value != value:
        raise SettingsError(f"{path}: got {value!r}, expected a number")
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
