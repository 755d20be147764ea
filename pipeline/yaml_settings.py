"""Reads YAML settings as people mean them: 1e-3 is a number, a key stands once, a file is one document in UTF-8.

PyYAML follows YAML 1.1, in which 1e-3 is text, 010 is eight, 1:30 is ninety, and the key `no` is false.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from components.settings import SettingsError

_INT = re.compile(r"[-+]?(?:0|[1-9][0-9_]*|0x[0-9a-fA-F_]+)$")
_FLOAT = re.compile(
    r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*|[0-9][0-9_]*(?=[eE]))(?:[eE][-+]?[0-9]+)?$"
    r"|[-+]?\.(?:inf|Inf|INF)$|\.(?:nan|NaN|NAN)$"
)
_INT_TAG, _FLOAT_TAG, _TIMESTAMP_TAG = (f"tag:yaml.org,2002:{name}" for name in ("int", "float", "timestamp"))
_REPLACED = (_INT_TAG, _FLOAT_TAG, _TIMESTAMP_TAG)  # a date is text, as every table takes it


class _Loader(yaml.SafeLoader):
    """YAML 1.2's numbers, text for keys, and an error for a key that stands twice."""

    yaml_implicit_resolvers = {
        first: [rule for rule in rules if rule[0] not in _REPLACED]
        for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key must be plain text", key.start_mark)
            line = key.start_mark.line + 1
            if key.value in lines and key.tag != "tag:yaml.org,2002:merge":
                raise SettingsError(f"line {line}: {key.value!r} is there already, in line {lines[key.value]}")
            lines[key.value] = line
            if key.tag != "tag:yaml.org,2002:merge":
                key.tag = "tag:yaml.org,2002:str"
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(_INT_TAG, _INT, list("-+0123456789"))
_Loader.add_implicit_resolver(_FLOAT_TAG, _FLOAT, list("-+0123456789."))


def read_yaml(path: Path) -> Any:
    """The one document in a YAML file.

    Raises SettingsError, one line that names the file, where it cannot be read, is not UTF-8 or no YAML, or where a key
    stands twice.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise SettingsError(f"cannot read the configuration {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise SettingsError(f"{path} is not UTF-8 (line {line}); save it as UTF-8") from error
    try:
        return yaml.load(text, _Loader)  # a SafeLoader  # nosec B506
    except SettingsError as error:
        raise SettingsError(f"{path}: {error}") from error
    except yaml.composer.ComposerError as error:
        if "single document" in str(error):
            raise SettingsError(f"{path} holds more than one document; a configuration is one") from error
        raise _not_yaml(path, error) from error
    except yaml.YAMLError as error:
        raise _not_yaml(path, error) from error


def _not_yaml(path: Path, error: yaml.YAMLError) -> SettingsError:
    return SettingsError(f"{path} is not YAML: {' '.join(str(error).split())}")
