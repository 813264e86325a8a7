"""Spaces on the wire: our frozen forms to protobuf and back, with bounds for what comes from elsewhere."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from covey.errors import SpaceError
from covey.spaces import (
    DTYPES,
    MAX_DIMS,
    MAX_NUMBERS,
    AgentSpec,
    Box,
    Discrete,
    EnvironmentSpaces,
    MultiBinary,
    MultiDiscrete,
    Space,
    mask_width,
)
from covey.v1 import environment_pb2

MAX_AGENTS = 1024
MAX_CHOICES = 1 << 20
MAX_ID_LENGTH = 128


def space_to_proto(space: Space) -> environment_pb2.Space:
    """The wire form; equal bounds travel as one number."""
    if isinstance(space, Discrete):
        return environment_pb2.Space(discrete=environment_pb2.DiscreteSpace(n=space.n, start=space.start))
    if isinstance(space, MultiDiscrete):
        return environment_pb2.Space(multi_discrete=environment_pb2.MultiDiscreteSpace(nvec=space.nvec))
    if isinstance(space, MultiBinary):
        return environment_pb2.Space(multi_binary=environment_pb2.MultiBinarySpace(n=space.n))
    box = environment_pb2.BoxSpace(
        dtype=space.dtype, shape=space.shape, low=_folded(space.low), high=_folded(space.high)
    )
    return environment_pb2.Space(box=box)


def space_from_proto(message: environment_pb2.Space, what: str) -> Space:
    """A space that came over a wire; `what` names it in errors.

    Raises:
        SpaceError: unset, an unknown dtype, too large, or bounds that are none.
    """
    if message.HasField("discrete"):
        n, start = message.discrete.n, message.discrete.start
        if not 1 <= n <= MAX_CHOICES:
            raise SpaceError(f"{what}: Discrete with n={n}, expected 1 to {MAX_CHOICES}")
        if start + n > 1 << 63:
            raise SpaceError(f"{what}: Discrete from {start} on, expected {n} values that an int64 can hold")
        return Discrete(n, start)
    if message.HasField("multi_discrete"):
        nvec = tuple(message.multi_discrete.nvec)
        if not nvec or min(nvec) < 1 or sum(nvec) > MAX_CHOICES:
            raise SpaceError(
                f"{what}: MultiDiscrete with nvec {nvec[:16]}, expected numbers of at least 1 that sum up to at most "
                f"{MAX_CHOICES}"
            )
        return MultiDiscrete(nvec)
    if message.HasField("multi_binary"):
        if not 1 <= message.multi_binary.n <= MAX_CHOICES:
            raise SpaceError(f"{what}: MultiBinary with n={message.multi_binary.n}, expected 1 to {MAX_CHOICES}")
        return MultiBinary(message.multi_binary.n)
    if not message.HasField("box"):
        raise SpaceError(f"{what}: no space is set, expected Box, Discrete, MultiDiscrete or MultiBinary")
    box = message.box
    if box.dtype not in DTYPES:
        raise SpaceError(f"{what}: dtype {box.dtype[:40]!r}, expected one of {', '.join(sorted(DTYPES))}")
    shape = tuple(box.shape)
    if len(shape) > MAX_DIMS or not 1 <= math.prod(shape) <= MAX_NUMBERS:
        raise SpaceError(
            f"{what}: shape {shape[:16]}, expected at most {MAX_DIMS} dimensions and 1 to {MAX_NUMBERS} numbers"
        )
    size = math.prod(shape)
    low, high = (_unfolded(bound, size, what) for bound in (box.low, box.high))
    if not np.less_equal(low, high).all():
        raise SpaceError(f"{what}: a lower bound is above its upper bound or not a number")
    return Box(box.dtype, shape, low, high)


def spaces_to_proto(spaces: EnvironmentSpaces) -> environment_pb2.EnvironmentSpaces:
    """Agents and their spaces, in environment order; groups do not travel with them."""
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
    )


def spaces_from_proto(
    message: environment_pb2.EnvironmentSpaces, groups: Mapping[str, Sequence[str]] | None = None
) -> EnvironmentSpaces:
    """What an actor said its environment is; `groups` as in `EnvironmentSpaces.build`.

    Raises:
        SpaceError: more agents or larger spaces than are served, or kinds of space that are not.
        ConfigError: `groups` does not fit these agents.
    """
    if not 1 <= len(message.agents) <= MAX_AGENTS:
        raise SpaceError(f"environment: {len(message.agents)} agents, expected 1 to {MAX_AGENTS}")
    # Before a bound that is given once is repeated for each of them.
    numbers = sum(math.prod(s.box.shape[:MAX_DIMS]) for a in message.agents for s in (a.observation, a.action))
    if numbers > MAX_NUMBERS:
        raise SpaceError(f"environment: {numbers} numbers in the Boxes of all agents, expected at most {MAX_NUMBERS}")
    agents = []
    for agent in message.agents:
        if not 1 <= len(agent.agent_id) <= MAX_ID_LENGTH or not agent.agent_id.isprintable():
            raise SpaceError(
                f"environment: agent id {agent.agent_id[:40]!r}, expected 1 to {MAX_ID_LENGTH} printable characters"
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
    return EnvironmentSpaces.build(agents, groups, asynchronous=message.asynchronous)


def groups_to_proto(groups: Mapping[str, Sequence[str]] | None) -> list[environment_pb2.AgentGroup]:
    """Explicit groups as Describe carries them; none where the default rule holds."""
    return [environment_pb2.AgentGroup(group_id=g, agent_ids=members) for g, members in (groups or {}).items()]


def groups_from_proto(groups: Iterable[environment_pb2.AgentGroup]) -> dict[str, list[str]] | None:
    """Inverse of `groups_to_proto`."""
    return {g.group_id: list(g.agent_ids) for g in groups} or None


def _folded(bound: Sequence[float]) -> Sequence[float]:
    return bound[:1] if len(set(bound)) == 1 else bound


def _unfolded(bound: Sequence[float], size: int, what: str) -> tuple[float, ...]:
    values = tuple(np.asarray(bound, np.float64).tolist())
    if len(values) == 1:
        return values * size
    if len(values) != size:
        raise SpaceError(f"{what}: {len(values)} bounds, expected one or {size}")
    return values
