"""Policies of other runs and of exported folders, which `--play AGENT=PATH` lets play an agent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from covey.errors import ConfigError, SpaceError

if TYPE_CHECKING:
    from covey.acting import LoadedPolicy
    from covey.spaces import EnvironmentSpaces


def read_player(source: str, agent: str, spaces: EnvironmentSpaces) -> LoadedPolicy:
    """Read the policy by which an agent is played in another run.

    Args:
        source: A folder that `covey export` wrote, or a run, whose best policy plays; "RUN:ID" is a living member.
        agent: Id of the agent, here and there.
        spaces: Of the environment that is to be played.

    Raises:
        StorageError: there is no such run or export, or it cannot be read.
        ConfigError: there is no such agent or member there.
        SpaceError: the agent has other spaces there.
    """
    from covey.run.directory import RunDirectory
    from covey.run.exported import INDEX, load_policy
    from covey.run.init_from import BEST, parse_source
    from covey.run.trained import TrainedMember

    path, who = parse_source(source)
    policies: Sequence[LoadedPolicy]
    if (path / INDEX).is_file():
        exported = load_policy(path)
        there, policies = exported.spaces, exported.policies
    else:
        found = TrainedMember.read(RunDirectory.open(path), None if who == BEST else int(who))
        there, policies = found.spaces, found.policies()
    if agent not in there.agent_ids:
        raise ConfigError(
            f"--play {agent}={source}: it has no agent {agent!r}, expected one of {', '.join(there.agent_ids)}; name "
            "policies that were trained for this agent"
        )
    i = there.agent_ids.index(agent)
    here = spaces.agents[spaces.agent_ids.index(agent)]
    if there.agents[i] != here:
        other = there.agents[i]
        raise SpaceError(
            f"--play {agent}={source}: {agent} observes {other.observation} and decides {other.action} there, expected "
            f"{here.observation} and {here.action}; name policies that were trained in this environment"
        )
    return policies[i]
