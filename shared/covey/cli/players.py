"""The option `--play` of `covey evaluate` and `covey render`, which lets somebody else play an agent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from covey.errors import ConfigError

if TYPE_CHECKING:
    from covey.acting import LoadedPolicy
    from covey.run.trained import TrainedMember

PLAY = typer.Option(
    "--play",
    metavar="AGENT=WHO",
    help="Let somebody else play this agent: AGENT=random, or AGENT=ID of another member; repeatable.",
)


def parse_play(play: Sequence[str], agent_ids: Sequence[str]) -> dict[str, str | int]:
    """Read the values of `--play`; returns "random" or a member's id by agent id.

    Raises:
        ConfigError: a value has another form, or its agent does not exist or is named twice.
    """
    chosen: dict[str, str | int] = {}
    for option in play:
        agent, equals, who = option.rpartition("=")
        if not equals or not (who == "random" or who.isdecimal()):
            raise ConfigError(f"--play {option}: expected AGENT=random or AGENT=MEMBER, such as {agent_ids[-1]}=random")
        if agent not in agent_ids:
            raise ConfigError(f"--play {option}: no agent {agent!r}, expected one of {', '.join(agent_ids)}")
        if agent in chosen:
            raise ConfigError(f"--play {option}: {agent} is played by {chosen[agent]} already; name it once")
        chosen[agent] = who if who == "random" else int(who)
    return chosen


def run_opponents(member: TrainedMember) -> dict[str, str | int]:
    """Who plays agents in the run's own evaluations, by its `fitness.opponents`: "random" or a member's id.

    The best member takes the place of one that has died.

    Raises:
        StorageError: the run cannot be read.
    """
    from covey.run.trained import TrainedMember

    chosen: dict[str, str | int] = {}
    for agent, who in member.config.fitness.opponents.items():
        try:
            chosen[agent] = who if isinstance(who, str) else TrainedMember.read(member.run, who).member_id
        except ConfigError:  # it has died
            chosen[agent] = TrainedMember.read(member.run).member_id
    return chosen


def players(member: TrainedMember, chosen: dict[str, str | int]) -> list[LoadedPolicy | None]:
    """Return the policy that plays each agent, in environment order; None for an agent that plays at random.

    Args:
        member: Plays all agents that `chosen` does not name.
        chosen: By agent id "random", or the id of the member that plays the agent.

    Raises:
        ConfigError: a chosen member does not live.
    """
    from covey.run.trained import TrainedMember

    seats: list[LoadedPolicy | None] = list(member.policies())
    for agent, who in chosen.items():
        i = member.spaces.agent_ids.index(agent)
        seats[i] = None if isinstance(who, str) else TrainedMember.read(member.run, who).policies()[i]
    return seats
