"""Parsing YAML that may be wrong or hostile: errors of one sentence, and bounds on its size and depth."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

from covey.errors import ConfigError

MAX_CHARACTERS = 1 << 20
"""Longest text that is parsed."""

MAX_VALUES = 1 << 16
"""Most values in a text, with everything counted that an alias repeats.

Twelve lines of which each repeats the line before nine times are 9^12 values.
"""

MAX_DEPTH = 32
"""Most lists and mappings inside one another."""


class _EachKeyOnce(yaml.SafeLoader):
    """PyYAML's safe loader, which would take the last of two values that a mapping gives to one key."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """A mapping as it is written, before aliases and merges; raises a ValueError for a key that it has twice."""
        node = super().compose_mapping_node(anchor)
        lines: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                line, name = key.start_mark.line + 1, (key.tag, key.value)
                if name in lines:
                    where = f"in lines {lines[name]} and {line}"
                    raise ValueError(f"key {key.value[:80]!r} stands twice, {where}; keep one of them")
                lines[name] = line
        return node


def read_yaml(path: Path, what: str) -> Any:
    """Parse a YAML file; `what` names it in errors.

    Raises:
        ConfigError: the file cannot be read, or for the reasons of `parse_yaml`.
    """
    try:
        with path.open(encoding="utf-8") as file:
            return parse_yaml(file.read(MAX_CHARACTERS + 1), what)
    except OSError as exc:
        raise ConfigError(f"{what} cannot be read ({os.strerror(exc.errno or 0)}); give a YAML file") from exc
    except UnicodeDecodeError as exc:
        raise ConfigError(f"{what} is not YAML: {exc}") from exc


def parse_yaml(text: str, what: str) -> Any:
    """Parse a YAML text; `what` names it in errors.

    Raises:
        ConfigError: the text is not YAML, gives a key twice, holds values that JSON does not have (dates, sets), is too
            long, or nests too deeply.
    """
    if len(text) > MAX_CHARACTERS:
        raise ConfigError(f"{what}: over {MAX_CHARACTERS} characters, expected at most so many")
    try:
        value = yaml.load(text, _EachKeyOnce)
        if _size(value, {}, MAX_DEPTH) > MAX_VALUES:
            raise ValueError(f"more than {MAX_VALUES} values, anchors written out")
    except RecursionError as exc:
        raise ConfigError(f"{what}: nested deeper than {MAX_DEPTH} levels; write it flatter") from exc
    except Exception as exc:  # PyYAML lets out whatever its constructors run into: ValueError, IndexError, KeyError ...
        raise ConfigError(f"{what} is not YAML: {exc}") from exc
    return value


def _size(value: Any, known: dict[int, int], depth: int) -> int:
    """Count the values inside a parsed value and itself; what aliases repeat counts at every place.

    Args:
        value: What is counted.
        known: Counts of the lists and mappings met so far, by identity, so that repeated ones cost nothing.
        depth: How many more levels of nesting are allowed.
    """
    if not isinstance(value, dict | list):
        if value is not None and not isinstance(value, str | int | float):
            raise ValueError(f"{value!r} is a {type(value).__name__}, expected text or a number: put it in quotes")
        str(value).encode()  # raises where escapes wrote what is not text, such as half of a surrogate pair
        return 1
    if not depth:
        raise RecursionError
    if id(value) not in known:
        children = (*value, *value.values()) if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_size(child, known, depth - 1) for child in children)
    return known[id(value)]
