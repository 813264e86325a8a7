"""Who plays in a member's evaluation episodes: the member alone, or opponents too, one side after the other."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from covey.v1.order_pb2 import PolicyRef
from covey.wire.limits import BUILTIN_RANDOM

RANDOM = PolicyRef(builtin=BUILTIN_RANDOM)
"""The built-in policy that draws actions uniformly."""


@dataclass(frozen=True, slots=True)
class LineUp:
    """Who plays in an evaluation episode of a population member.

    Attributes:
        policies: The policy of each agent, in environment order.
        counted: Indices of the agents whose returns count for the member's fitness.
        against: Who plays against the member, for people, such as "random"; empty where nobody does.
        by_sides: Whether the episode is one of those in which the member plays each side of a game in turn.
    """

    policies: Sequence[PolicyRef]
    counted: Collection[int]
    against: str = ""
    by_sides: bool = False


@dataclass(frozen=True, slots=True)
class EliteBefore:
    """The fittest member of the generation before, with the policies by which it was evaluated then.

    Attributes:
        name: For people, such as "the elite of generation 3".
        policies: Its policy of each agent, in environment order.
    """

    name: str
    policies: Sequence[PolicyRef]


def by_sides(
    own: Sequence[PolicyRef], sides: Sequence[Collection[int]], counted: Collection[int], elite: EliteBefore | None
) -> list[LineUp]:
    """Let a member play each side of a game, against random moves and against the elite of the generation before.

    Args:
        own: The member's policy of each agent, in environment order.
        sides: Of each side the indices of its agents; opponents play all other agents.
        counted: Indices of the agents whose returns count; a side without any is not played by the member.
        elite: None in the first generation, in which everybody plays against random moves only.

    Returns:
        A line-up for each opponent and side, such as player_1 and player_2 against random, then both against the elite.
    """
    opponents = {BUILTIN_RANDOM: [RANDOM] * len(own)}
    if elite is not None:
        opponents[elite.name] = list(elite.policies)
    return [
        LineUp([own[i] if i in side else others[i] for i in range(len(own))], ours, name, by_sides=True)
        for name, others in opponents.items()
        for side in sides
        if (ours := set(side) & set(counted))
    ]


def with_opponents(
    member_id: int,
    agent_ids: Sequence[str],
    opponents: Mapping[str, str | int],
    living: Collection[int],
    champion: int | None,
    refs_of: Callable[[int], Sequence[PolicyRef]],
    elite: EliteBefore | None = None,
    frozen: Mapping[str, PolicyRef] | None = None,
) -> list[PolicyRef]:
    """Choose the policies that play the agents in a member's evaluation episodes: its own, or opponents'.

    Args:
        member_id: The evaluated member, which plays every agent that has no opponent.
        agent_ids: All agents of the environment, in its order.
        opponents: `fitness.opponents` of the configuration: by agent "random", "elite", a member's id or a path.
        living: Ids of the population's members.
        champion: Best member of the generation before, which replaces opponents that have died; if it is None or has
            died too, the evaluated member replaces them.
        refs_of: Returns the newest policies of a living member, one per agent.
        elite: Plays for "elite"; in the first generation, which has none before it, the evaluated member does.
        frozen: The policies that paths name, by the agent that they play.

    Returns:
        A reference to a policy for each agent, in the environment's order.
    """
    refs = list(refs_of(member_id))
    for agent, opponent in opponents.items():
        i = agent_ids.index(agent)
        if frozen is not None and agent in frozen:
            refs[i] = frozen[agent]
        elif opponent == "random":
            refs[i] = RANDOM
        elif opponent == "elite":
            refs[i] = elite.policies[i] if elite is not None else refs[i]
        else:
            # The named member, else the champion, else the evaluated member itself.
            named = (m for m in (opponent, champion) if isinstance(m, int) and m in living)
            refs[i] = refs_of(next(named, member_id))[i]
    return refs
