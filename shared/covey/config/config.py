"""The whole configuration of a run: its model, reading it from a YAML file, overrides, and checks across sections."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Union

import pydantic
from pydantic import AfterValidator, Field

from covey.config.algorithm_settings import AlgorithmSettings
from covey.config.evolution import Evolution, Mutation, Selection
from covey.config.fitness import NAMED_OPPONENTS, Fitness, is_path
from covey.config.installed_algorithms import check_installed, installed_algorithms
from covey.config.manifest import as_sections, translate
from covey.config.section import OnResume, Section, explain, nearest
from covey.config.sections import (
    EVAL_STEPS_CAP,
    Actors,
    Checkpoint,
    Environment,
    Learner,
    Logging,
    ReplayBuffer,
    Training,
)
from covey.config.stored import without_gone_keys
from covey.config.yaml_text import parse_yaml, read_yaml
from covey.errors import ConfigError

if TYPE_CHECKING:
    AnyAlgorithm = AlgorithmSettings
else:
    # The section is that of the algorithm which `name` names.
    AnyAlgorithm = Annotated[Union[tuple(installed_algorithms()[0].values())], Field(discriminator="name")]  # noqa: UP007


MAX_NAME_BYTES = 128
"""Most bytes of a run's name in UTF-8: with the time behind it, it is the name of a directory, which holds 255."""


def _run_name(name: str) -> str:
    """The name itself, if it can be the beginning of a directory's name on every system.

    Raises:
        ValueError: it would lead elsewhere, as a path does, or cannot be shown or stored.
    """
    plain = name.isprintable() and not set(name) & set('/\\:*?"<>|') and name == name.strip(" .-")
    if not name or not plain or len(name.encode()) > MAX_NAME_BYTES:
        raise ValueError(
            f'expected a name of 1 to {MAX_NAME_BYTES} bytes that is no path: no / or \\ : * ? " < > |, no control '
            "characters, no space, dot or hyphen at its ends; write `name: my-run`"
        )
    return name


class Config(Section):
    """Configuration of one training run."""

    name: Annotated[str, AfterValidator(_run_name), OnResume.FIXED] = Field(
        default="run",
        description="Name of the run, whose directory is `runs/NAME-TIMESTAMP`; no path. Where it is missing, the name "
        "of the file.",
    )
    algorithm: AnyAlgorithm = Field(description="The algorithm that trains, and its hyperparameters.")
    environment: Environment
    # Validated as NetConfig by covey.networks.resolve, as soon as the agents are known.
    network: Annotated[dict[str, Any], OnResume.FIXED] = Field(
        default_factory=dict,
        description="Architecture of the networks: either one block of keys for all agents, or one for each agent id "
        "or group id. Agents that are not named have the defaults.",
    )
    mutation: Mutation = Field(default_factory=Mutation)
    selection_strategy: Selection = Field(default_factory=Selection, alias="tournament_selection")
    evolution: Evolution = Field(default_factory=Evolution)
    replay_buffer: ReplayBuffer = Field(default_factory=ReplayBuffer)
    fitness: Fitness = Field(default_factory=Fitness)
    training: Training
    learner: Learner = Field(default_factory=Learner)
    actors: Actors = Field(default_factory=Actors)
    checkpoint: Checkpoint = Field(default_factory=Checkpoint)
    logging: Logging = Field(default_factory=Logging)

    @property
    def train_slots(self) -> int:
        """Number of environment copies in which one actor process trains."""
        return self.actors.max_slots or max(self.environment.num_envs, self.training.pop_size)

    @property
    def eval_slots(self) -> int:
        """Number of environment copies in which one actor process evaluates; few, as each takes memory."""
        return max(1, self.environment.num_envs // 4)

    @property
    def eval_episodes(self) -> int:
        """Number of episodes in one evaluation of one member."""
        return self.training.eval_loop * self.environment.num_envs

    @property
    def eval_episode_steps(self) -> int:
        """Env steps after which an evaluation episode is cut off."""
        return self.training.eval_steps or EVAL_STEPS_CAP


def load_config(path: Path, overrides: Sequence[str] = (), *, stored: bool = False) -> Config:
    """Read a YAML file, apply `section.key=value` overrides (the values are YAML), and validate the result.

    The file may be a manifest of AgileRL, see `covey.config.manifest`.

    Args:
        path: The file.
        overrides: What `--set` says.
        stored: Whether a run wrote the file, perhaps one of an earlier version with keys that are gone.

    Raises:
        ConfigError: the file cannot be read or is not YAML, or a value is not acceptable; names the dotted path.
    """
    data = read_yaml(path, f"config {path}")
    if not isinstance(data, dict):
        raise ConfigError(f"config {path} holds {type(data).__name__}, expected sections such as 'algorithm:'")
    data = without_gone_keys(data) if stored else as_sections(data)
    data.setdefault("name", path.stem)
    return _overridden(data, overrides)


def config_of(data: Mapping[str, Any], overrides: Sequence[str] = ()) -> Config:
    """Read a configuration from what a YAML file would hold.

    Args:
        data: Its sections.
        overrides: As of `load_config`.

    Raises:
        ConfigError: a value is not acceptable; names the dotted path.
    """
    return _overridden(as_sections(copy.deepcopy(dict(data))), overrides)


def _overridden(data: dict[str, Any], overrides: Sequence[str]) -> Config:
    for override in overrides:
        apply_override(data, override)
    return parse_config(translate(data))


def apply_override(data: dict[str, Any], override: str) -> None:
    """Set the value of one override, `section.key=value`, in a nested dictionary; sections that are missing are made.

    Raises:
        ConfigError: the override has another form, or its path leads through a value that is not a section.
    """
    dotted, equals, text = override.partition("=")
    if not equals or not dotted:
        raise ConfigError(f"--set {override}: expected section.key=value")
    *parents, key = dotted.split(".")
    at = data
    for parent in parents:
        if at.get(parent) is None:
            at[parent] = {}
        at = at[parent]
        if not isinstance(at, dict):
            raise ConfigError(f"--set {override}: {parent} is no section")
    at[key] = parse_yaml(text, f"--set {override}")


def parse_config(data: Mapping[str, Any]) -> Config:
    """Validate a configuration given as a nested mapping.

    Raises:
        ConfigError: the first value that is not acceptable, with its dotted path and the expectation.
    """
    section = data.get("algorithm")
    if isinstance(section, Mapping):
        check_installed(section.get("name"))
    try:
        config = Config.model_validate(data)
    except pydantic.ValidationError as exc:
        raise ConfigError(explain(exc, Config)) from exc
    evolvable = config.algorithm.evolvable
    for name in config.mutation.rl_hp_selection:
        if name not in evolvable:
            raise ConfigError(
                f"mutation.rl_hp_selection.{name}: no hyperparameter of {config.algorithm.name} that can mutate, "
                f"expected one of {', '.join(evolvable)}{nearest(name, evolvable)}"
            )
    for agent, opponent in (config.fitness.opponents or {}).items():
        known = opponent in NAMED_OPPONENTS or is_path(opponent)
        if not known and not (isinstance(opponent, int) and 0 <= opponent < config.training.pop_size):
            raise ConfigError(
                f"fitness.opponents.{agent}: {opponent!r}: expected 'random', 'elite', a member of the first "
                f"generation, 0 to {config.training.pop_size - 1}, or a path with a slash in it, such as ./policies"
            )
    config.algorithm.check_training(config.training)
    if config.environment.frame_stack > 1 and getattr(config.algorithm, "normalize_observations", False):
        raise ConfigError(
            f"algorithm.normalize_observations: true with environment.frame_stack {config.environment.frame_stack}, "
            "expected one of the two; images are scaled without it"
        )
    if config.selection_strategy.strategy == "multi_frequency":
        config.selection_strategy.brackets(config.training.pop_size)
        if config.evolution.mode == "steady_state":
            raise ConfigError(
                "evolution.mode: 'steady_state', expected 'generational' with selection_strategy.strategy "
                "'multi_frequency', whose sub-populations are compared in every so many generations"
            )
    if config.training.deterministic and config.evolution.mode == "steady_state":
        raise ConfigError(
            "evolution.mode: 'steady_state', expected 'generational' with training.deterministic: who is compared with "
            "whom would depend on who is ready first"
        )
    if config.training.deterministic and config.actors.local != 1:
        config = config.model_copy(update={"actors": config.actors.model_copy(update={"local": 1})})
    return config
