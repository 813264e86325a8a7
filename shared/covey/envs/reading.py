"""Finds out what an environment is: its agents, their spaces and groups, and whether all act at once."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import gymnasium
import numpy as np

from covey.envs.array_watch import watch_batched
from covey.envs.random_actions import random_action
from covey.envs.returned import (
    check_names,
    check_somebody,
    mask_array,
    reset_parts,
    reward_number,
    split_mask,
    step_parts,
    write_observation,
)
from covey.envs.slots import BatchedEnvironment, describe
from covey.envs.state import state_space
from covey.errors import ConfigError, EnvironmentLoadError, SpaceError
from covey.rows import MAX_RAW_BYTES, RowSchema
from covey.spaces import (
    MASK_KEY,
    AgentSpec,
    Box,
    EnvironmentSpaces,
    MultiBinary,
    from_gymnasium,
    leaf_arrays,
    leaves,
    mask_width,
    nested,
    observation_from_gymnasium,
    part_names,
)
from covey.wire.messages import spaces_from_proto, spaces_to_proto

if TYPE_CHECKING:
    from pettingzoo import ParallelEnv

WATCHED_STEPS = 100
"""Most env steps of the episode in which an environment is watched."""


def read_spaces(
    env: ParallelEnv[str, Any, Any],
    groups: Mapping[str, Sequence[str]] | None = None,
    ignored: Collection[str] = (),
    frame_stack: int = 1,
    state: bool = False,
) -> EnvironmentSpaces:
    """Find the agents, spaces and groups of an environment.

    Spaces do not say whether agents wait, nor whether infos hold action masks. So a parallel environment is watched in
    the episode of seed 0, played at random. A batched one says it, and is watched for what it writes.

    Args:
        env: A parallel environment, or a batched one of as many copies as its `count` says; it is played, and of no
            further use.
        groups: Agent ids by group id, in place of the default groups.
        ignored: Dotted names of parts of observations that are left out (`environment.ignore_observations`).
        frame_stack: How many of their last observations agents' networks read (`environment.frame_stack`).
        state: Whether rows hold the state of the whole environment (`environment.state`).

    Raises:
        EnvironmentLoadError: it does not say its agents or spaces, or what its reset and step
            return does not fit these.
        SpaceError: a kind of space, a size or a name that is not served, stacks of frames where agents wait, or no
            state though it is asked for.
        ConfigError: `groups` does not fit the agents, or no observation has a part that is to be left out.
    """
    declared = declared_spaces(env)
    _check_ignored(declared, ignored)
    agents = [agent_spec(agent, observation, action, ignored) for agent, (observation, action) in declared.items()]
    of_all = state_space(env) if state else None
    _check_sizes(agents, groups, frame_stack, of_all)
    if hasattr(env, "attach"):  # batched: it has no infos, and says itself whether agents wait
        batched = cast("BatchedEnvironment", env)
        asynchronous = bool(batched.asynchronous)
        watch_batched(batched, EnvironmentSpaces.build(agents, groups, asynchronous=asynchronous))
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
    return EnvironmentSpaces.build(agents, groups, asynchronous=asynchronous, frame_stack=frame_stack, state=of_all)


def _check_sizes(
    agents: Sequence[AgentSpec], groups: Mapping[str, Sequence[str]] | None, frame_stack: int, state: Box | None
) -> None:
    """Refuse what cannot travel.

    Raises:
        SpaceError: a name, a space or a row that no message holds.
        ConfigError: `groups` does not fit the agents.
    """
    # As the learner reads them from an actor's message, by the same checks.
    declared = EnvironmentSpaces.build(agents, groups, frame_stack=frame_stack, state=state)
    spaces = spaces_from_proto(spaces_to_proto(declared), groups)
    row_bytes, rows = RowSchema.of(spaces).row_bytes, 3 + frame_stack
    if rows * row_bytes > MAX_RAW_BYTES:
        raise SpaceError(
            f"environment: one env step is {row_bytes} bytes, expected at most {MAX_RAW_BYTES // rows}; shrink the "
            f"observations{', or lower environment.frame_stack' * (frame_stack > 1)}"
        )


def declared_spaces(env: Any) -> dict[str, tuple[gymnasium.Space[Any], gymnasium.Space[Any]]]:
    """Return each agent's observation and action space as Gymnasium's objects, in the environment's order.

    Raises:
        EnvironmentLoadError: the environment does not know its agents or spaces, before or after a reset.
        SpaceError: two of its agents have one name.
    """
    try:
        ids = list(env.possible_agents)
        declared = {str(a): (env.observation_space(a), env.action_space(a)) for a in ids}
    except Exception as exc:
        raise EnvironmentLoadError(
            f"environment {env}: reading its agents and spaces raised {describe(exc)}; "
            "it must know possible_agents and their spaces"
        ) from exc
    if len(declared) < len(ids):
        raise SpaceError(f"environment: possible_agents are {ids} as texts, expected no name twice; rename one")
    return declared


def _check_ignored(declared: Mapping[str, tuple[gymnasium.Space[Any], Any]], ignored: Collection[str]) -> None:
    """Refuse names of parts that no agent's observations have."""
    names = {name for observation, _ in declared.values() for name in part_names(observation)}
    if unknown := sorted(set(ignored) - names):
        raise ConfigError(
            f"environment.ignore_observations: {unknown[0]!r}, expected names of parts of observations "
            f"({', '.join(sorted(names)[:8]) or 'there are none: no observation is a Dict or Tuple'}); correct or "
            "remove it"
        )


def agent_spec(
    agent: str, observation: gymnasium.Space[Any], action: gymnasium.Space[Any], ignored: Collection[str] = ()
) -> AgentSpec:
    """Convert an agent's Gymnasium spaces to covey's own types, without the ignored parts of its observations.

    Raises:
        SpaceError: a kind of space that is not served.
    """
    seen, masked = observation_from_gymnasium(observation, f"observation of agent {agent!r}", ignored)
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
                f"agents {', '.join(ids)} have unequal spaces, so each is a group of its own; "
                "say in environment.groups which of them belong together"
            )
        unnumbered = [a for a in ids if not a.rpartition("_")[2].isdigit()]
        if unnumbered:
            warnings.append(
                f"agent name {unnumbered[0]!r} does not end in an index (<group>_<index>), so its group "
                f"{'is' if len(ids) == 1 else 'of ' + ', '.join(ids) + ' is'} {prefix!r}; "
                "say in environment.groups if that is not meant"
            )
    return warnings


def _check_masks(agent: AgentSpec, space: gymnasium.Space[Any] | None = None) -> None:
    """Refuse an agent's action masks if its actions cannot be masked, or the masks have another width."""
    try:
        width = mask_width(agent.action)
    except SpaceError as exc:
        switches = any(isinstance(leaf.space, MultiBinary) for leaf in leaves(agent.action))
        instead = ", or make each switch a choice of two, MultiDiscrete([2, 2, ...])" if switches else ""
        raise SpaceError(
            f"agent {agent.agent_id!r}: {exc}; leave the mask out of its observations and infos{instead}"
        ) from exc
    # A mask with a part for each component is looked at when the environment is watched.
    if space is not None and space.shape is not None and math.prod(space.shape) != width:
        raise SpaceError(
            f"observation of agent {agent.agent_id!r}: {MASK_KEY} {space}, expected {width} numbers, one for each "
            f"value of its actions {agent.action}"
        )


def _watch(env: ParallelEnv[str, Any, Any], agents: Sequence[AgentSpec]) -> tuple[set[str], bool]:
    """Play the episode of seed 0 at random; returns which agents had masks in infos, and whether any agent waited.

    If an agent was there all the time and never acted, the episodes of seeds 1, 2, ... follow.

    Raises:
        EnvironmentLoadError: what reset or step return does not fit the agents or their spaces, or an agent never acts.
    """
    specs = {a.agent_id: a for a in agents}
    rng = np.random.default_rng(0)
    masked: set[str] = set()
    waits = False
    idle = set(specs)  # agents that were there all the time and have not acted yet
    steps = episode = 0
    try:
        while idle and steps < WATCHED_STEPS:
            seen, infos = reset_parts(env.reset(seed=episode))
            check_somebody(env.agents)
            check_names(specs, env.agents, observations=seen)
            while env.agents and steps < WATCHED_STEPS:
                acting = [a for a in env.agents if a in seen]
                waits = waits or len(acting) < len(env.agents)
                idle &= set(env.agents).difference(acting)
                masks = {a: _looked_at(specs[a], seen[a], infos.get(a)) for a in acting}
                masked |= {a for a in acting if masks[a] is not None}
                drawn = {a: random_action(specs[a].action, rng, masks[a])[()] for a in acting}
                chosen = {a: nested(specs[a].action, action) for a, action in drawn.items()}
                seen, rewards, terminated, truncated, infos = step_parts(env.step(chosen))
                check_names(
                    specs,
                    env.agents,
                    observations=seen,
                    rewards=rewards,
                    terminations=terminated,
                    truncations=truncated,
                )
                for agent, reward in rewards.items():
                    reward_number(reward, agent)
                steps += 1
            episode += 1
    except (EnvironmentLoadError, SpaceError):
        raise
    except Exception:  # an environment that raises here may work at another time; if it does not, collecting reports it
        return masked, waits
    if idle:
        raise EnvironmentLoadError(
            f"environment: agent {min(idle)!r} was in agents for {steps} env steps and got no observation in any, "
            "expected one whenever it is to act; give it observations, or leave it out of possible_agents"
        )
    return masked, waits


def _looked_at(agent: AgentSpec, seen: Any, info: Mapping[str, Any] | None) -> Any:
    """Check the observation of an agent that is to act; returns its mask, flat, None if there is none."""
    value, mask = split_mask(seen)
    if mask is None:
        mask = (info or {}).get(MASK_KEY)
    empty = np.empty(agent.observation.shape, agent.observation.dtype)
    write_observation(
        value, list(zip(leaves(agent.observation), leaf_arrays(agent.observation, empty), strict=True)), agent.agent_id
    )
    if mask is None:
        return None
    try:
        width = mask_width(agent.action)
    except SpaceError:  # said once all has been looked at
        return np.zeros(0, np.uint8)
    return mask_array(mask, width, agent.agent_id, agent.action)
