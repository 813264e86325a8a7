"""What differs between an agent's spaces in two environments, in words."""

from __future__ import annotations

from collections.abc import Iterator

from covey.spaces.agents import AgentSpec
from covey.spaces.kinds import Space, leaves


def differing(here: AgentSpec, there: AgentSpec) -> Iterator[str]:
    """What differs between an agent's spaces in two environments, a phrase for each leaf, with both."""
    for verb, mine, theirs in (
        ("observes", here.observation, there.observation),
        ("decides", here.action, there.action),
    ):
        yield from _leaves(f"{here.agent_id} {verb}", mine, theirs)
    if here.masked != there.masked:
        yield f"{here.agent_id} has {'' if here.masked else 'no '}action mask here"
    if here.frame_stack != there.frame_stack:
        yield f"{here.agent_id} reads {there.frame_stack} observations at once there, {here.frame_stack} here"


def _leaves(what: str, here: Space, there: Space) -> Iterator[str]:
    """Yield a phrase for each leaf in which the space here differs from the source run's, with both."""
    mine, theirs = ({leaf.name: leaf.space for leaf in leaves(space)} for space in (here, there))
    for name in dict.fromkeys([*mine, *theirs]):
        if mine.get(name) != theirs.get(name):
            where = f"{what} {name}".strip()
            yield f"{where} {theirs.get(name, 'nothing')} there, {mine.get(name, 'nothing')} here"
