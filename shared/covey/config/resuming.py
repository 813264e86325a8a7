"""What may change as a run is resumed: every key of the configuration is of one of three kinds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from covey.config.algorithm_settings import AlgorithmSettings
from covey.config.config import Config, load_config
from covey.config.section import OnResume, Section
from covey.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Change:
    """A key whose value is another one than the run was trained with so far.

    Attributes:
        key: Dotted path, such as "training.max_steps".
        before: Its value up to now.
        after: The value that is wanted.
        kind: What becomes of such a change.
    """

    key: str
    before: Any
    after: Any
    kind: OnResume

    def __str__(self) -> str:
        """The change in words, such as "training.max_steps 1000 -> 1500"."""
        return f"{self.key} {_text(self.before)} -> {_text(self.after)}"


def on_resume(model: type[BaseModel], name: str) -> OnResume:
    """What becomes of a change of this key: what its field says, else what its section does."""
    if issubclass(model, AlgorithmSettings):
        if name == "name":
            return OnResume.FIXED
        if name in model.hyperparameters.model_fields:
            return OnResume.MEMBERS
    kinds = [kind for kind in model.model_fields[name].metadata if isinstance(kind, OnResume)]
    if kinds:
        return kinds[0]
    return model.on_resume if issubclass(model, Section) else OnResume.APPLIES


def changes(before: Config, after: Config) -> list[Change]:
    """Compare the configuration that a run was trained with to the one that it is resumed with.

    Returns:
        The keys that have other values, in the order of the configuration.

    Raises:
        ConfigError: a key that cannot change in a run has another value.
    """
    found = list(_changes("", before, after))
    for change in found:
        if change.kind is OnResume.FIXED:
            raise _fixed(change)
    return found


def resumed_config(path: Path, overrides: Sequence[str]) -> Config:
    """Read the configuration that a run has stored, and apply `section.key=value` overrides.

    Raises:
        ConfigError: an override is not acceptable, or changes the algorithm, whose keys the file has.
    """
    name = load_config(path, stored=True).algorithm.name
    for override in overrides:
        key, _, wanted = override.partition("=")
        if key == "algorithm.name" and wanted.strip() != name:
            raise _fixed(Change(key, name, wanted, OnResume.FIXED))
    return load_config(path, overrides, stored=True)


def _fixed(change: Change) -> ConfigError:
    """The error for a change that is not possible."""
    return ConfigError(
        f"{change.key}: {_text(change.after)}, expected {_text(change.before)}, with which the run was trained so far: "
        "it cannot change as a run is resumed; leave it out, or start a new run"
    )


def _changes(path: str, before: BaseModel, after: BaseModel) -> Iterator[Change]:
    """The keys of one section, and of those in it, that have other values."""
    if type(before) is not type(after):  # another algorithm
        yield Change(f"{path}name", getattr(before, "name", None), getattr(after, "name", None), OnResume.FIXED)
        return
    for name in type(after).model_fields:
        old, new = getattr(before, name), getattr(after, name)
        if isinstance(old, BaseModel) and isinstance(new, BaseModel):
            yield from _changes(f"{path}{name}.", old, new)
        elif old != new:
            yield Change(f"{path}{name}", old, new, on_resume(type(after), name))


def _text(value: Any) -> str:
    """A value as a configuration would have it, cut where it is long."""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    words = {None: "null", True: "true", False: "false"}
    text = words[value] if value is None or isinstance(value, bool) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
