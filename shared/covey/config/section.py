"""The base class of all sections of a configuration, and how a validation error becomes one sentence."""

from __future__ import annotations

import difflib
import functools
import types
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, ClassVar, Literal, Union, get_args, get_origin

import pydantic
from pydantic import BaseModel, ConfigDict, model_validator

from covey.config.expectations import ALIASES, expectation, shown

MAX_CHARACTERS = 1_500
"""Longest sentence about several errors; errors beyond it are counted, not told."""


class OnResume(StrEnum):
    """What becomes of a key that is changed as a run is resumed; a field says it by `Annotated[type, OnResume...]`."""

    APPLIES = "yes"
    MEMBERS = "yes, in all members"
    FIXED = "no"


class Section(BaseModel):
    """Base class of all sections: immutable, and a key that it does not know is an error.

    A key without a value (null) has its default, unless null is one of its values (a limit that is off).

    Attributes:
        on_resume: What becomes of its keys that are changed as a run is resumed, where a field does not say otherwise.
    """

    on_resume: ClassVar[OnResume] = OnResume.APPLIES

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    @model_validator(mode="before")
    @classmethod
    def _without_empty_keys(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        return {k: v for k, v in data.items() if v is not None or k not in never_null(cls)}


@functools.cache
def never_null(model: type[BaseModel]) -> frozenset[str]:
    """Names and aliases of a model's fields of which null is not a value."""
    fields = [(n, f) for n, f in model.model_fields.items() if types.NoneType not in get_args(f.annotation)]
    return frozenset(name for n, f in fields for name in (n, f.alias) if name)


def explain(error: pydantic.ValidationError, model: type[BaseModel], at: str = "") -> str:
    """All validation errors as one sentence: dotted path, value, what was expected, nearest valid key of each.

    Args:
        error: What pydantic raised.
        model: The model that was validated.
        at: Path of the model, for errors; empty if it is the whole configuration.
    """
    by_path: dict[str, list[tuple[list[str], list[str], Any]]] = {}
    for each in error.errors():
        path, keys = _locate(each["loc"], model)
        parts = [at, *path] if at else path
        by_path.setdefault(".".join(parts), []).append((parts, keys, each))
    clauses = [_clause(path, located, model) for path, located in by_path.items()]
    told, length = 1, len(clauses[0])
    while told < len(clauses) and length + len(clauses[told]) < MAX_CHARACTERS:
        length += len(clauses[told])
        told += 1
    more = f" (and {len(clauses) - told} more)" if told < len(clauses) else ""
    return "; also ".join(clauses[:told]) + more


def _clause(path: str, located: Sequence[tuple[list[str], list[str], Any]], model: type[BaseModel]) -> str:
    """What is wrong with one value, as a clause: the errors of a value that may be of several kinds make one."""
    parts, keys, first = located[0]
    about = first.get("ctx", {})
    match first["type"]:
        case "extra_forbidden":
            return f"{path}: unknown key{_meant(parts, keys, model)}"
        case "missing":
            return f"{path}: missing, expected a value"
        case "union_tag_not_found":
            return f"{path}.{_discriminator(about)}: missing, expected a value"
        case "union_tag_invalid":
            tag, names = about["tag"], about["expected_tags"]
            hint = nearest(tag, names.replace("'", "").split(", "))
            return f"{path}.{_discriminator(about)}: {tag!r}: expected one of {names}{hint}"
    messages = dict.fromkeys(expectation(e, section_at(model, parts)) for _, _, e in located)
    text = " or ".join(m if i == 0 else m.removeprefix("expected ") for i, m in enumerate(messages))
    # A section's own check names the values that do not go together.
    value = (
        "" if first["type"] == "value_error" and isinstance(first["input"], Mapping) else f"{shown(first['input'])}: "
    )
    return f"{path}: {value}{text}" if path else f"{value}{text}"


def _meant(parts: Sequence[str], keys: Sequence[str], model: type[BaseModel]) -> str:
    """A clause that suggests the key that an unknown one stands for, by any of its usual names; else the valid keys."""
    name = parts[-1]
    names = [name.lower(), *ALIASES.get(name.lower(), ())]
    own = next((n for n in names if n in keys), "")
    if own:
        return f"; did you mean {own!r}?"
    close = nearest(name, keys)
    # Another algorithm's key is no key of this one: what its own section lacks is sought in the others.
    others = [path for n in names for path in _paths_of(model, n) if path.split(".")[:-1] != list(parts[:-1])]
    elsewhere = next(iter(others), "")
    if elsewhere and (not close or name.lower() in ALIASES):
        return f"; did you mean {elsewhere!r}?"
    return close or f"; expected one of {', '.join(keys)}"


def _paths_of(model: type[BaseModel], name: str) -> list[str]:
    """Dotted paths of the keys of that name in the sections of a configuration, where a section has one."""
    found = []
    for section, field in model.model_fields.items():
        kinds: tuple[Any, ...] = get_args(field.annotation) if _is_union(field.annotation) else (field.annotation,)
        if any(_is_section(kind) and name in kind.model_fields for kind in kinds):
            found.append(f"{section}.{name}")
    return found


def nearest(name: str, known: Sequence[str]) -> str:
    """A clause that suggests the known name closest to `name`; empty where none is close."""
    by_lower = {k.lower(): k for k in known}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1)
    return f"; did you mean {by_lower[close[0]]!r}?" if close else ""


def _discriminator(about: Mapping[str, Any]) -> str:
    return str(about["discriminator"]).strip("'")


def section_at(model: type[BaseModel], parts: Sequence[str]) -> tuple[str, ...]:
    """Keys of the section that stands at a path; empty where a value of another kind does."""
    at: Any = model
    for part in parts:
        at = _inner(at, part)
        kinds = [k for k in get_args(at) if _is_section(k)] if _is_union(at) else []
        at = kinds[0] if len(kinds) == 1 else at
    return tuple(at.model_fields) if parts and _is_section(at) else ()


def _locate(loc: Sequence[str | int], model: type[BaseModel]) -> tuple[list[str], list[str]]:
    """The path of an error as it stands in the file, and the valid keys of the section that holds its last key.

    Where a value may be of several types, pydantic's location also names the type that it tried; the path leaves that
    out.
    """
    path: list[str] = []
    keys: list[str] = []
    at: Any = model
    for part in loc:
        kinds = [a for a in get_args(at) if a is not types.NoneType] if _is_union(at) else [at]
        if len(kinds) > 1:
            at = next((k for k in kinds if _has_tag(k, part)), None)
            continue
        (at,) = kinds
        path.append(str(part))
        keys = sorted(at.model_fields) if _is_section(at) else []
        at = _inner(at, part)
    return path, keys


def _inner(at: Any, part: str | int) -> Any:
    """The type of the value under a key of `at`, a section, dict or list type; None where any value may stand."""
    if _is_section(at):
        return next((f.annotation for n, f in at.model_fields.items() if part in (n, f.alias)), None)
    return get_args(at)[-1] if get_origin(at) in (dict, list) else None


def _is_section(at: Any) -> bool:
    return isinstance(at, type) and issubclass(at, BaseModel)


def _is_union(at: Any) -> bool:
    return get_origin(at) in (Union, types.UnionType)


def _has_tag(kind: Any, tag: str | int) -> bool:
    """Whether `kind` is a section of which some Literal field, such as an algorithm's name, may be `tag`."""
    return _is_section(kind) and any(
        get_origin(f.annotation) is Literal and tag in get_args(f.annotation) for f in kind.model_fields.values()
    )
