"""YAML as people write it: one sentence for whatever is wrong with it, and bounded however its anchors multiply."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

from covey.errors import ConfigError

MAX_CHARACTERS = 1 << 20
MAX_VALUES = 1 << 16
"""After anchors are written out: each of twelve lines that names the line before nine times makes it nine times."""

MAX_DEPTH = 32


def read_yaml(path: Path, what: str) -> Any:
    """The value that a file holds.

    Raises:
        ConfigError: it cannot be read, or as `parse_yaml`.
    """
    try:
        with path.open(encoding="utf-8") as file:
            return parse_yaml(file.read(MAX_CHARACTERS + 1), what)
    except OSError as exc:
        raise ConfigError(f"{what}: cannot be read ({os.strerror(exc.errno or 0)}); give a YAML file") from exc
    except UnicodeDecodeError as exc:
        raise ConfigError(f"{what}: is not YAML: {exc}") from exc


def parse_yaml(text: str, what: str) -> Any:
    """The value of a text; `what` names it in errors.

    Raises:
        ConfigError: not YAML, values that JSON has no word for (dates, sets), too long, or nested too deeply.
    """
    if len(text) > MAX_CHARACTERS:
        raise ConfigError(f"{what}: over {MAX_CHARACTERS} characters, expected at most so many")
    try:
        value = yaml.safe_load(text)
        if _size(value, {}, MAX_DEPTH) > MAX_VALUES:
            raise ValueError(f"more than {MAX_VALUES} values, anchors written out")
    except RecursionError as exc:
        raise ConfigError(f"{what}: nested deeper than {MAX_DEPTH} levels; write it flatter") from exc
    except Exception as exc:  # PyYAML lets out whatever its constructors run into: ValueError, IndexError, KeyError ...
        raise ConfigError(f"{what}: is not YAML: {exc}") from exc
    return value


def _size(value: Any, known: dict[int, int], depth: int) -> int:
    """Values in a value, itself included; what an anchor names is counted once for each place."""
    if not isinstance(value, dict | list):
        if value is not None and not isinstance(value, str | int | float):
            raise ValueError(f"{value!r} is a {type(value).__name__}, expected text or a number: put it in quotes")
        str(value).encode()  # not everything that an escape can write is text
        return 1
    if not depth:
        raise RecursionError
    if id(value) not in known:
        children = (*value, *value.values()) if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_size(child, known, depth - 1) for child in children)
    return known[id(value)]
