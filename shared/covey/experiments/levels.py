"""Levels: what policies score in a task that were not learned (random, scripted, a bound), by which scores are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydantic
from pydantic import BaseModel, ConfigDict, Field

from covey.config.yaml_text import read_yaml
from covey.errors import ConfigError

OWN = Path(__file__).with_name("levels.yaml")
"""The tasks whose levels covey knows."""


@dataclass(frozen=True, slots=True)
class Level:
    """What a policy that was not learned scores.

    Attributes:
        name: Such as "random" or "bound".
        score: Mean return of an episode.
        stderr: Its standard error; None where it is not known, 0 where the score is exact.
        how: The policy.
    """

    name: str
    score: float
    stderr: float | None = None
    how: str = ""


@dataclass(frozen=True, slots=True)
class Task:
    """An environment with arguments that make it one task.

    Attributes:
        title: For readers.
        unit: What a score is.
        environments: Names of the environment in a configuration.
        config: Arguments that a run must have to be of this task.
        defaults: Arguments that it may have besides, with these values.
        levels: From worst to best: the first is normalised to 0, the last to 1.
    """

    title: str
    unit: str
    environments: tuple[str, ...]
    config: Mapping[str, Any]
    defaults: Mapping[str, Any]
    levels: tuple[Level, ...]

    def is_of(self, environment: str, config: Mapping[str, Any]) -> bool:
        """Whether an environment with these arguments is this task."""
        told = {k: v for k, v in config.items() if k not in self.defaults or self.defaults[k] != v}
        return environment in self.environments and told == dict(self.config)

    def normalised(self, score: float) -> float:
        """(score - first level) / (last level - first level)."""
        first, last = self.levels[0].score, self.levels[-1].score
        return (score - first) / (last - first)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _LevelEntry(_Strict):
    name: str
    score: float
    stderr: float | None = None
    how: str = ""


class _TaskEntry(_Strict):
    title: str = ""
    unit: str = "return of an episode"
    environment: str | list[str]
    config: dict[str, Any] = Field(default_factory=dict)
    defaults: dict[str, Any] = Field(default_factory=dict)
    levels: list[_LevelEntry]


def read_levels(path: Path = OWN) -> list[Task]:
    """Read a file of tasks and their levels, as `levels.yaml` beside this module is one.

    Raises:
        ConfigError: it cannot be read, or a task is not described as expected.
    """
    data = read_yaml(path, f"levels {path}")
    if not isinstance(data, list):
        raise ConfigError(f"levels {path} holds {type(data).__name__}, expected a list of tasks; begin each with '- '")
    tasks = []
    for i, value in enumerate(data, start=1):
        try:
            entry = _TaskEntry.model_validate(value)
        except pydantic.ValidationError as exc:
            wrong = exc.errors()[0]
            where = ".".join(map(str, wrong["loc"]))
            raise ConfigError(
                f"levels {path}: task {i}: {where or 'entry'}: {wrong['msg']}; expected environment and levels, each "
                "with name and score"
            ) from exc
        names = (entry.environment,) if isinstance(entry.environment, str) else tuple(entry.environment)
        levels = tuple(Level(level.name, level.score, level.stderr, level.how) for level in entry.levels)
        if len(levels) < 2 or levels[0].score == levels[-1].score or not names:
            raise ConfigError(
                f"levels {path}: task {i}: expected an environment and two levels or more, of which the first and the "
                "last have other scores"
            )
        tasks.append(Task(entry.title or names[0], entry.unit, names, entry.config, entry.defaults, levels))
    return tasks


def task_of(tasks: Sequence[Task], environment: str, config: Mapping[str, Any]) -> Task | None:
    """The task that an environment with these arguments is; None if no levels are known for it."""
    return next((task for task in tasks if task.is_of(environment, config)), None)
