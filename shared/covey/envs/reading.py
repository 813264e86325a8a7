"""Finds out what an environment is: its agents, their spaces and groups, and whether all act at once."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import gymnasium
import numpy as np

from covey.envs.random_actions import random_action
from covey.envs.slots import BatchedEnvironment, describe
from covey.errors import EnvironmentLoadError, SpaceError
from covey.spaces import (
    MASK_KEY,
    AgentSpec,
    EnvironmentSpaces,
    Space,
    from_gymnasium,
    mask_width,
    observation_from_gymnasium,
)

if TYPE_CHECKING:
    from pettingzoo import ParallelEnv

WATCHED_STEPS = 100
"""Most env steps of the episode in which an environment is watched."""

logger = logging.getLogger("covey.envs")


def read_spaces(
    env: ParallelEnv[str, Any, Any], groups: Mapping[str, Sequence[str]] | None = None
) -> EnvironmentSpaces:
    """Find the agents, spaces and groups of an environment.

    Spaces do not say whether agents wait, nor whether infos hold action masks. So a parallel environment is watched in
    the episode of seed 0, played at random.

    Args:
        env: A parallel environment, which is reset and stepped, or a batched one.
        groups: Agent ids by group id, in place of the default groups.

    Raises:
        EnvironmentLoadError: it does not say its agents or spaces before the first reset.
        SpaceError: a kind of space that is not served.
        ConfigError: `groups` does not fit the agents.
    """
    agents = [agent_spec(agent, observation, action) for agent, (observation, action) in declared_spaces(env).items()]
    if hasattr(env, "attach"):  # batched: it has no infos, and says itself whether agents wait
        asynchronous = bool(cast("BatchedEnvironment", env).asynchronous)
    else:
        with_masks, asynchronous = _watch(env, agents)
        # Agents that did not appear in that episode are taken to be like those with the same spaces.
        kinds = {(a.observation, a.action) for a in agents if a.agent_id in with_masks}
        agents = [
            AgentSpec(a.agent_id, a.observation, a.action, a.masked or (a.observation, a.action) in kinds)
            for a in agents
        ]
    for a in agents:
        if a.masked:
            _check_masks(a)
    if not groups:
        for warning in grouping_warnings(agents):
            logger.warning(warning)
    return EnvironmentSpaces.build(agents, groups, asynchronous=asynchronous)


def declared_spaces(env: Any) -> dict[str, tuple[gymnasium.Space[Any], gymnasium.Space[Any]]]:
    """Return each agent's observation and action space as Gymnasium's objects, in the environment's order.

    Raises:
        EnvironmentLoadError: the environment does not know its agents or spaces before the first reset.
    """
    try:
        return {str(a): (env.observation_space(a), env.action_space(a)) for a in env.possible_agents}
    except Exception as exc:
        raise EnvironmentLoadError(
            f"environment {env}: reading its agents and spaces raised {describe(exc)}; "
            "it must know possible_agents and their spaces before reset"
        ) from exc


def agent_spec(agent: str, observation: gymnasium.Space[Any], action: gymnasium.Space[Any]) -> AgentSpec:
    """Convert an agent's Gymnasium spaces to covey's own types.

    Raises:
        SpaceError: a kind of space that is not served.
    """
    seen, masked = observation_from_gymnasium(observation, f"observation of agent {agent!r}")
    spec = AgentSpec(agent, seen, from_gymnasium(action, f"action of agent {agent!r}"), masked)
    if masked:
        _check_masks(spec, observation[MASK_KEY])  # type: ignore[index]
    return spec


def grouping_warnings(agents: Sequence[AgentSpec]) -> list[str]:
    """Return warnings about agents whose names suggest other groups than the default rule makes."""
    by_prefix: dict[str, list[AgentSpec]] = {}
    for a in agents:
        by_prefix.setdefault(a.agent_id.rsplit("_", 1)[0], []).append(a)
    warnings = []
    for prefix, members in by_prefix.items():
        ids = [a.agent_id for a in members]
        if len({(a.observation, a.action, a.masked) for a in members}) > 1:
            warnings.append(
                f"environment: agents {', '.join(ids)} have unequal spaces, so each is a group of its own; "
                "say in environment.groups which of them belong together"
            )
        unnumbered = [a for a in ids if not a.rpartition("_")[2].isdigit()]
        if unnumbered:
            warnings.append(
                f"environment: agent name {unnumbered[0]!r} does not end in an index (<group>_<index>), so its group "
                f"{'is' if len(ids) == 1 else 'of ' + ', '.join(ids) + ' is'} {prefix!r}; "
                "say in environment.groups if that is not meant"
            )
    return warnings


def _check_masks(agent: AgentSpec, space: gymnasium.Space[Any] | None = None) -> None:
    """Refuse an agent's action masks if its actions cannot be masked, or the masks have another width."""
    try:
        width = mask_width(agent.action)
    except SpaceError as exc:
        raise SpaceError(f"agent {agent.agent_id!r}: {exc}; leave the mask out of its observations and infos") from exc
    if space is not None and (space.shape is None or math.prod(space.shape) != width):
        raise SpaceError(
            f"observation of agent {agent.agent_id!r}: {MASK_KEY} {space}, expected {width} numbers, one for each "
            f"value of its actions {agent.action}"
        )


def _watch(env: ParallelEnv[str, Any, Any], agents: Sequence[AgentSpec]) -> tuple[set[str], bool]:
    """Play one episode at random.

    Returns which agents' infos had action masks, and whether not all agents always acted.
    """
    actions: dict[str, Space] = {a.agent_id: a.action for a in agents}
    rng = np.random.default_rng(0)
    masked: set[str] = set()
    waits = False
    # An environment that raises here may work at another time; if it does not, collecting reports it.
    with contextlib.suppress(Exception):
        seen, infos = env.reset(seed=0)
        for _ in range(WATCHED_STEPS):
            acting = [a for a in env.agents if a in seen]
            waits = waits or len(acting) < len(env.agents)
            masks = {a: _mask(seen[a], infos.get(a)) for a in acting}
            masked |= {a for a in acting if masks[a] is not None}
            if not env.agents:
                break
            chosen = {a: random_action(actions[a], rng, masks[a])[()] for a in acting}
            seen, _, _, _, infos = env.step(chosen)
    return masked, waits


def _mask(seen: Any, info: Mapping[str, Any] | None) -> Any:
    """Return the action mask in an agent's observation or info, flat; None if there is none."""
    mask = seen[MASK_KEY] if isinstance(seen, Mapping) else (info or {}).get(MASK_KEY)
    return np.concatenate(mask) if isinstance(mask, tuple) else mask
