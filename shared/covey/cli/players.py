"""The option `--play` of `covey evaluate` and `covey render`, which lets somebody else play an agent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from covey.errors import ConfigError

if TYPE_CHECKING:
    from covey.acting import LoadedPolicy
    from covey.run.trained import TrainedMember

BY_NAME = ("random", "elite")
"""Opponents that have a name; all others are members, by id."""

PLAY = typer.Option(
    "--play",
    metavar="AGENT=WHO",
    help="Let somebody else play this agent: AGENT=random, AGENT=elite (of the generation before), AGENT=ID of another "
    "member, or AGENT=PATH of another run or of an exported folder, such as runs/other or ./policies; repeatable. Left "
    "out: the opponents of the run's own evaluations.",
)


def parse_play(play: Sequence[str], agent_ids: Sequence[str]) -> dict[str, str | int]:
    """Read the values of `--play`; returns "random", "elite", a member's id, or a path by agent id.

    What has a slash in it is a path.

    Raises:
        ConfigError: a value has another form, or its agent does not exist or is named twice.
    """
    chosen: dict[str, str | int] = {}
    for option in play:
        # A path may have further signs of equality, as runs of sweeps have.
        known = [agent for agent in agent_ids if option.startswith(f"{agent}=")]
        agent, equals, who = option.rpartition("=") if not known else (known[0], "=", option[len(known[0]) + 1 :])
        if not equals or not (who in BY_NAME or who.isdecimal() or "/" in who):
            raise ConfigError(
                f"--play {option}: expected AGENT=random, AGENT=elite or AGENT=MEMBER, such as {agent_ids[-1]}=random, "
                f"or a path with a slash in it, such as {agent_ids[-1]}=./policies"
            )
        if agent not in agent_ids:
            raise ConfigError(f"--play {option}: no agent {agent!r}, expected one of {', '.join(agent_ids)}")
        if agent in chosen:
            raise ConfigError(f"--play {option}: {agent} is played by {chosen[agent]} already; name it once")
        chosen[agent] = int(who) if who.isdecimal() else who
    return chosen


@dataclass(frozen=True, slots=True)
class LineUp:
    """Who plays in episodes of a trained member.

    Attributes:
        seats: The policy of each agent, in environment order; None plays at random.
        others: Who plays agents in the member's place, by agent id: "random", "elite", a member's id or a path.
        against: Who they are, for people; empty where the member plays all agents.
    """

    seats: Sequence[LoadedPolicy | None]
    others: dict[str, str | int]
    against: str = ""


def line_ups(member: TrainedMember, play: Sequence[str]) -> list[LineUp]:
    """Who plays in a trained member's episodes: episode k is played by line-up k modulo their number.

    Those whom `--play` names; without it those of the run's own evaluations: whom `fitness.opponents` names, or where
    it names nobody and the game is zero-sum, each side against random moves and against the elite of the generation
    before.

    Args:
        member: The member that is played.
        play: The values of `--play`.

    Raises:
        ConfigError: a value of `--play` has another form, or names an agent or member that is not there.
        StorageError: the run cannot be read.
    """
    agents, named = member.spaces.agent_ids, member.config.fitness.opponents
    chosen = parse_play(play, agents)
    if chosen or named is not None or not member.sides:
        chosen = run_opponents(member) | chosen
        return [LineUp(players(member, chosen), chosen, _names(chosen))]
    opponents: dict[str, str] = {"random": "random"}
    if (elite := _elite_before(member)) is not None:
        opponents["elite"] = f"the elite of generation {elite.generation}"
    found = []
    for who, name in opponents.items():
        for side in member.sides:
            others: dict[str, str | int] = {agent: who for agent in agents if agent not in side}
            found.append(LineUp(players(member, others), others, name))
    return found


def by(who: str | int | None) -> str:
    """Say in parentheses, behind an agent's id, who plays it; nothing if it is the member itself (None)."""
    words = {None: "", "random": " (played at random)", "elite": " (played by the elite before)"}
    if isinstance(who, int):
        return f" (played by member {who})"
    return words.get(who, f" (played by {who})")


def _names(chosen: dict[str, str | int]) -> str:
    """Say for people who plays which agents, such as "random as player_2"."""
    words = {"elite": "the elite before"}
    named = {agent: f"member {who}" if isinstance(who, int) else words.get(who, who) for agent, who in chosen.items()}
    return " and ".join(f"{who} as {agent}" for agent, who in named.items())


def _elite_before(member: TrainedMember) -> TrainedMember | None:
    """The newest elite that the run has kept of a generation before a member's; None if there is none."""
    from covey.run.trained import TrainedMember

    before = [g for g in member.run.elite_generations() if g < member.generation]
    return TrainedMember.elite(member.run, before[-1]) if before else None


def run_opponents(member: TrainedMember) -> dict[str, str | int]:
    """Who plays agents in the run's own evaluations, by its `fitness.opponents`: "random", "elite", an id or a path.

    The best member takes the place of one that has died, the run's copy that of a policy from elsewhere.

    Raises:
        StorageError: the run cannot be read.
    """
    from covey.config.fitness import is_path
    from covey.run.frozen_opponents import kept_opponent
    from covey.run.trained import TrainedMember

    chosen: dict[str, str | int] = {}
    for agent, who in (member.config.fitness.opponents or {}).items():
        if isinstance(who, str) and is_path(who):
            kept = kept_opponent(member.run, who)
            chosen[agent] = str(kept) if kept.is_dir() else who
            continue
        try:
            chosen[agent] = who if isinstance(who, str) else TrainedMember.read(member.run, who).member_id
        except ConfigError:  # it has died
            chosen[agent] = TrainedMember.read(member.run).member_id
    return chosen


def players(member: TrainedMember, chosen: dict[str, str | int]) -> list[LoadedPolicy | None]:
    """Return the policy that plays each agent, in environment order; None for an agent that plays at random.

    Args:
        member: Plays all agents that `chosen` does not name.
        chosen: By agent id "random", "elite" (of the generation before; where there is none, the member itself), the
            id of the member that plays the agent, or the path of another run or an exported folder.

    Raises:
        ConfigError: a chosen member does not live, or what is at a path has no such agent.
        SpaceError: the agent has other spaces there.
        StorageError: a run or an exported folder cannot be read.
    """
    from covey.cli.other_runs import read_player
    from covey.run.trained import TrainedMember

    seats: list[LoadedPolicy | None] = list(member.policies())
    elite = _elite_before(member) if "elite" in chosen.values() else None
    elite_policies = elite.policies() if elite is not None else None
    for agent, who in chosen.items():
        i = member.spaces.agent_ids.index(agent)
        if who == "random":
            seats[i] = None
        elif isinstance(who, int):
            seats[i] = TrainedMember.read(member.run, who).policies()[i]
        elif who != "elite":
            seats[i] = read_player(who, agent, member.spaces)
        elif elite_policies is not None:
            seats[i] = elite_policies[i]
    return seats
