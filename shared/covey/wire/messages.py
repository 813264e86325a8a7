"""Converts spaces and groups of agents to protobuf messages and back, checking what comes from elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from covey.errors import SpaceError
from covey.spaces import MOST_FRAMES, AgentSpec, Box, DictSpace, EnvironmentSpaces, Space, TupleSpace, mask_width
from covey.v1 import environment_pb2
from covey.wire.limits import MAX_AGENTS, MAX_ID_CHARACTERS, MAX_NUMBERS
from covey.wire.space_fields import count_numbers, space_fields, space_from_parts


def space_to_proto(space: Space) -> environment_pb2.Space:
    """Convert a space to its protobuf message; bounds that are all equal are sent as one number."""
    kind, fields = space_fields(space)
    if isinstance(space, DictSpace):
        fields = {"entries": [{"name": name, "space": space_to_proto(entry)} for name, entry in space.entries]}
    elif isinstance(space, TupleSpace):
        fields = {"entries": [space_to_proto(entry) for entry in space.entries]}
    chosen: dict[str, Any] = {kind: fields}
    return environment_pb2.Space(**chosen)


def space_from_proto(message: environment_pb2.Space, what: str) -> Space:
    """Convert a protobuf message from elsewhere to a space, checking it; `what` names it in errors.

    Raises:
        SpaceError: unset, an unknown dtype, too large, or bounds that are none.
    """
    return space_from_parts(message, partial(_parts, what=what), what)


def _parts(message: environment_pb2.Space, what: str) -> tuple[str, Mapping[str, Any]]:
    """Return kind and fields of a space's message; `entries` of a tree are pairs of a name and a message."""
    kind = message.WhichOneof("kind")
    if kind is None:
        raise SpaceError(f"{what}: no space is set, expected Box, Discrete, MultiDiscrete, MultiBinary, Dict or Tuple")
    if kind == "dict":
        return kind, {"entries": [(entry.name, entry.space) for entry in message.dict.entries]}
    if kind == "tuple":
        return kind, {"entries": [(str(i), entry) for i, entry in enumerate(message.tuple.entries)]}
    chosen = getattr(message, kind)
    return kind, {field.name: getattr(chosen, field.name) for field in chosen.DESCRIPTOR.fields}


def spaces_to_proto(spaces: EnvironmentSpaces) -> environment_pb2.EnvironmentSpaces:
    """Convert an environment's agents and their spaces, without groups, to a protobuf message."""
    return environment_pb2.EnvironmentSpaces(
        agents=[
            environment_pb2.AgentSpace(
                agent_id=a.agent_id,
                observation=space_to_proto(a.observation),
                action=space_to_proto(a.action),
                masked=a.masked,
            )
            for a in spaces.agents
        ],
        asynchronous=spaces.asynchronous,
        frame_stack=spaces.frame_stack if spaces.frame_stack > 1 else None,
        state=None if spaces.state is None else space_to_proto(spaces.state).box,
    )


def spaces_from_proto(
    message: environment_pb2.EnvironmentSpaces, groups: Mapping[str, Sequence[str]] | None = None
) -> EnvironmentSpaces:
    """Convert the message that an actor sent to an environment's agents and spaces, checking it.

    Args:
        message: From the actor.
        groups: Agent ids by group id; None: the default groups.

    Raises:
        SpaceError: more agents or larger spaces than are served, or kinds of space that are not.
        ConfigError: `groups` does not fit these agents.
    """
    if not 1 <= len(message.agents) <= MAX_AGENTS:
        raise SpaceError(f"environment: {len(message.agents)} agents, expected 1 to {MAX_AGENTS}")
    frames = message.frame_stack if message.HasField("frame_stack") else 1
    if not 1 <= frames <= MOST_FRAMES:
        raise SpaceError(f"environment.frame_stack: {frames}, expected 1 to {MOST_FRAMES}")
    state = environment_pb2.Space(box=message.state) if message.HasField("state") else None
    numbers = 0 if state is None else count_numbers(state, partial(_parts, what="state"), "state")
    for agent in message.agents:
        for space, what, times in ((agent.observation, "observation", frames), (agent.action, "action", 1)):
            name = f"{what} of agent {agent.agent_id[:MAX_ID_CHARACTERS]!r}"
            numbers += times * count_numbers(space, partial(_parts, what=name), name)
    if numbers > MAX_NUMBERS:
        stacked = f" in stacks of {frames} frames" * (frames > 1)
        raise SpaceError(
            f"environment: {numbers} numbers in the Boxes of all agents{stacked}, expected at most {MAX_NUMBERS}"
        )
    agents = []
    for agent in message.agents:
        if not 1 <= len(agent.agent_id) <= MAX_ID_CHARACTERS or not agent.agent_id.isprintable():
            raise SpaceError(
                f"environment: agent id {agent.agent_id[:40]!r}, expected 1 to {MAX_ID_CHARACTERS} printable "
                "characters; rename it in possible_agents"
            )
        agents.append(
            AgentSpec(
                agent.agent_id,
                space_from_proto(agent.observation, f"observation of agent {agent.agent_id!r}"),
                space_from_proto(agent.action, f"action of agent {agent.agent_id!r}"),
                agent.masked,
            )
        )
        if agent.masked:
            mask_width(agents[-1].action)
    of_all = None if state is None else space_from_proto(state, "state")
    assert of_all is None or isinstance(of_all, Box)
    spaces = EnvironmentSpaces.build(
        agents, groups, asynchronous=message.asynchronous, frame_stack=frames, state=of_all
    )
    if frames > 1:  # policy files name the spaces of stacks, which have the same limits
        for a in spaces.agents:
            space_from_proto(space_to_proto(a.stacked), f"{frames} observations of agent {a.agent_id!r} stacked")
    return spaces


def groups_to_proto(groups: Mapping[str, Sequence[str]] | None) -> list[environment_pb2.AgentGroup]:
    """Convert configured groups, agent ids by group id, to protobuf messages; none for the default groups."""
    return [environment_pb2.AgentGroup(group_id=g, agent_ids=members) for g, members in (groups or {}).items()]


def groups_from_proto(groups: Iterable[environment_pb2.AgentGroup]) -> dict[str, list[str]] | None:
    """Convert protobuf messages to configured groups, agent ids by group id; None if there are none."""
    return {g.group_id: list(g.agent_ids) for g in groups} or None
