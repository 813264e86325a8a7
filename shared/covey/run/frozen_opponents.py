"""Opponents in evaluations that come from elsewhere: policies of another run or of a folder that covey export wrote.

`fitness.opponents` names them by path. They are copied into the run as it begins, so that it can be resumed, evaluated
and moved when what was named is gone or has trained on:

    RUN/opponents/HASH/     as covey export writes a member; HASH is of what the configuration names
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from covey.config import Config
from covey.config.fitness import is_path
from covey.errors import ConfigError, CoveyError, SpaceError, StorageError
from covey.run.directory import RunDirectory
from covey.run.exported import INDEX, load_policy, write_policies
from covey.run.files import cannot_write, read_json
from covey.run.init_from import BEST, parse_source
from covey.run.trained import TrainedMember
from covey.spaces import AgentSpec, EnvironmentSpaces, differing

MOST_NAMED = 3
"""Most leaves of spaces that a sentence names."""


@dataclass(frozen=True, slots=True)
class FrozenOpponent:
    """A policy from elsewhere that plays one agent, the same through the whole run.

    Attributes:
        source: Where it comes from, as the configuration names it.
        agent: The agent and its spaces where it was trained.
        file: The policy file.
    """

    source: str
    agent: AgentSpec
    file: bytes


def with_absolute_opponents(config: Config) -> Config:
    """The configuration with paths in `fitness.opponents` made absolute, as the run may be resumed from elsewhere."""
    opponents = config.fitness.opponents
    if not opponents or not any(map(is_path, opponents.values())):
        return config
    absolute = opponents | {agent: _absolute(source) for agent, source in _sources(config).items()}
    return config.model_copy(update={"fitness": config.fitness.model_copy(update={"opponents": absolute})})


def check_sources(config: Config) -> None:
    """Read the opponents that a new run's configuration names by path, for the errors that they may have.

    Raises:
        ConfigError: there is no such member, or it does not play the agent.
        StorageError: there is no such run or folder, or it cannot be read.
    """
    for agent, source in _sources(config).items():
        _read_source(agent, source)


def keep_opponents(run: RunDirectory, config: Config) -> None:
    """Copy the opponents that a configuration names by path into its run, unless the run has them.

    Raises:
        ConfigError, StorageError: as `check_sources`; or the run's directory cannot be written.
    """
    for agent, source in _sources(config).items():
        folder = kept_opponent(run, source)
        if (folder / INDEX).is_file():
            continue
        found = _read_source(agent, source)
        new = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
        try:
            if isinstance(found, TrainedMember):
                write_policies(found, new)
            else:
                new.mkdir(parents=True)
                for name in (INDEX, *set(read_json(found / INDEX)["agents"].values())):
                    shutil.copyfile(found / name, new / name)
            new.rename(folder)
        except OSError as exc:
            shutil.rmtree(new, ignore_errors=True)
            raise cannot_write(folder, exc) from exc


def kept_opponent(run: RunDirectory, source: str) -> Path:
    """The folder in a run that has, or will have, the copy of an opponent which the configuration names so."""
    return run.opponents / hashlib.sha256(source.encode()).hexdigest()[:16]


def read_opponents(run: RunDirectory, config: Config) -> dict[str, FrozenOpponent]:
    """The policies from elsewhere that play agents in a run's evaluations, by agent id, from the run's copies.

    Raises:
        StorageError: a copy is missing or damaged.
    """
    found = {}
    for agent, source in _sources(config).items():
        folder = kept_opponent(run, source)
        try:
            spaces = load_policy(folder).spaces
            file = (folder / str(read_json(folder / INDEX)["agents"][agent])).read_bytes()
            found[agent] = FrozenOpponent(source, spaces.agents[spaces.agent_ids.index(agent)], file)
        except (CoveyError, OSError, KeyError, ValueError) as exc:
            raise StorageError(
                f"fitness.opponents.{agent}: the copy of {source} in {folder} cannot be read ({exc}); remove that "
                "folder, and it is copied again as the run is resumed"
            ) from exc
    return found


def check_spaces(opponents: Mapping[str, FrozenOpponent], spaces: EnvironmentSpaces) -> None:
    """Refuse opponents that were trained for other spaces.

    Raises:
        SpaceError: an agent has others where its opponent was trained; names the leaves that differ.
    """
    here = {agent.agent_id: agent for agent in spaces.agents}
    for agent_id, opponent in opponents.items():
        found = list(differing(here[agent_id], opponent.agent)) if agent_id in here else []
        if found:
            named = "; ".join(found[:MOST_NAMED]) + "; ..." * (len(found) > MOST_NAMED)
            raise SpaceError(
                f"fitness.opponents.{agent_id}: {opponent.source} was trained for other spaces ({named}), expected "
                "those of this environment; name policies that were trained in it"
            )


def _sources(config: Config) -> dict[str, str]:
    """The paths in `fitness.opponents`, by agent."""
    opponents = config.fitness.opponents or {}
    return {agent: who for agent, who in opponents.items() if isinstance(who, str) and is_path(who)}


def _absolute(source: str) -> str:
    path, who = parse_source(source)
    return f"{path.resolve()}:{who}"


def _read_source(agent: str, source: str) -> TrainedMember | Path:
    """A run's member that is named, or the folder of an export, after a look at what is in it.

    Raises:
        ConfigError, StorageError: as `check_sources`.
    """
    path, who = parse_source(source)
    where = f"fitness.opponents.{agent}: {source}"
    found: TrainedMember | Path = path
    if (path / INDEX).is_file():
        if who != BEST:
            raise ConfigError(
                f"{where} is an exported folder of one member, expected no :{who} behind it; leave it out"
            )
        there = load_policy(path).spaces
    elif (path / "config.yaml").is_file():
        try:
            found = TrainedMember.read(RunDirectory(path), None if who == BEST else int(who))
        except CoveyError as exc:
            raise type(exc)(f"{where}: {exc}") from exc
        there = found.spaces
    else:
        what = "holds no policies" if path.exists() else "does not exist"
        raise StorageError(
            f"{where} {what}, expected the directory of a run or a folder that covey export wrote; give the path of one"
        )
    if agent not in there.agent_ids:
        raise ConfigError(
            f"{where} plays no agent {agent!r}, expected one of {', '.join(there.agent_ids)}; name policies that were "
            "trained for this agent"
        )
    return found
