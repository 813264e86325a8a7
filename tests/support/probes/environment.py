"""What the environments of `tests.support.probes.simultaneous` are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray
from pettingzoo import ParallelEnv

from covey.spaces import FORCED_KEY, MASK_KEY, Box, Discrete, Space, action_bounds, choices, from_gymnasium, mask_width

Numbers = dict[str, float]
"""By agent."""

Step = tuple[dict[str, Any], Numbers, dict[str, bool], dict[str, bool], dict[str, dict[str, Any]]]

OBSERVATION = gymnasium.spaces.Box(0.0, 1.0, (1,), np.float32)

KINDS = ("Box", "Discrete", "MultiDiscrete", "MultiBinary")
"""Of actions, in `space_of`."""


def space_of(kind: str) -> gymnasium.Space[Any]:
    """An action space of that kind."""
    match kind:
        case "Box":
            return gymnasium.spaces.Box(0.0, 1.0, (1,), np.float32)
        case "MultiDiscrete":
            return gymnasium.spaces.MultiDiscrete([2, 3])
        case "MultiBinary":
            return gymnasium.spaces.MultiBinary(3)
    return gymnasium.spaces.Discrete(2)


def place(space: Space, action: Any) -> float:
    """Where an action is in its space, from 0 to 1.

    Of a Box and of a Discrete it is the share of the way from the lowest to the highest. Several choices have their
    mean, every second one counted from its other end: what is done is to be known for each.
    """
    if isinstance(space, Box):
        low, high = action_bounds(space)
        return float(((action - low) / (high - low))[0])
    if isinstance(space, Discrete):
        return float(action - space.start) / (space.n - 1)
    shares = np.asarray(action) / (np.array(choices(space)) - 1)
    shares[1::2] = 1 - shares[1::2]
    return float(shares.mean())


def legal(space: Space, seen: float) -> NDArray[np.int8]:
    """The action mask of a `masked` agent: where 1 is seen, the last value of the first choice is illegal."""
    mask = np.ones(mask_width(space), np.int8)
    mask[choices(space)[0] - 1] = seen != 1
    return mask


class Probe(ParallelEnv[str, Any, Any]):  # type: ignore[misc]
    """An environment of a few lines.

    Args:
        actions: Action space by agent.
        first: What is seen at first: a draw for every agent.
        reward: By agent, from what was seen and what was done by those alive.
        then: What an agent sees after a step, from what it saw before.
        ends: The step, from 1, in which each agent's episode ends.
        truncated: Agents that do not reach an end but are cut off there.
        masked: Agents that may not do everything in every second episode, see `legal`.
        masks_in_infos: Whether masks are in infos, otherwise in the observations.
        forced: Where 1 is seen, in every second episode, these agents are made to do the lowest action.
        forced_reward: What they get for it.
    """

    metadata = {"name": "probe", "is_parallelizable": True}  # noqa: RUF012 - PettingZoo's form

    def __init__(
        self,
        actions: Mapping[str, gymnasium.Space[Any]],
        first: Callable[[np.random.Generator], float],
        reward: Callable[[Numbers, Numbers], Numbers],
        *,
        then: Callable[[float], float] = lambda before: before,
        ends: Mapping[str, int] | None = None,
        truncated: tuple[str, ...] = (),
        masked: tuple[str, ...] = (),
        masks_in_infos: bool = False,
        forced: tuple[str, ...] = (),
        forced_reward: float = 0.0,
    ) -> None:
        self.possible_agents = list(actions)
        self.agents: list[str] = []
        self._actions = dict(actions)
        self._spaces = {a: from_gymnasium(space, a) for a, space in actions.items()}
        self._first, self._then, self._reward = first, then, reward
        self._ends = dict(ends or dict.fromkeys(actions, 1))
        self._truncated = truncated
        self._masked, self._masks_in_infos = masked, masks_in_infos
        self._observed: dict[str, gymnasium.Space[Any]] = {}
        for agent in masked if not masks_in_infos else ():
            mask = gymnasium.spaces.Box(0, 1, (mask_width(self._spaces[agent]),), np.int8)
            self._observed[agent] = gymnasium.spaces.Dict({"observation": OBSERVATION, MASK_KEY: mask})
        self._may_force, self._forced_reward = forced, forced_reward
        self._forced: tuple[str, ...] = ()
        self._rng = np.random.default_rng()
        self._seen: Numbers = {}
        self._episode = self._steps = 0

    def observation_space(self, agent: str) -> gymnasium.Space[Any]:
        return self._observed.get(agent, OBSERVATION)

    def action_space(self, agent: str) -> gymnasium.Space[Any]:
        return self._actions[agent]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        del options
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        self.agents = list(self.possible_agents)
        self._steps = 0
        self._episode += 1
        self._seen = {a: self._first(self._rng) for a in self.agents}
        return self._observations(), self._infos()

    def step(self, actions: dict[str, Any]) -> Step:
        acted = self.agents
        rewards = self._reward(self._seen, {a: self._place(a, actions[a]) for a in acted})
        for agent in self._forced:
            rewards[agent] = self._forced_reward
        self._steps += 1
        over = [a for a in acted if self._steps == self._ends[a]]
        self._seen = {a: self._then(self._seen[a]) for a in acted}
        self.agents = [a for a in acted if a not in over]
        return (
            self._observations(),
            {a: rewards[a] for a in acted},
            {a: a in over and a not in self._truncated for a in acted},
            {a: a in over and a in self._truncated for a in acted},
            self._infos(),
        )

    def render(self) -> None:
        """Nothing to see."""

    def close(self) -> None:
        """Nothing to close."""

    def _observations(self) -> dict[str, Any]:
        seen: dict[str, Any] = {a: np.array([x], np.float32) for a, x in self._seen.items()}
        for agent in self._observed:
            seen[agent] = {"observation": seen[agent], MASK_KEY: self._legal(agent)}
        return seen

    def _infos(self) -> dict[str, dict[str, Any]]:
        infos: dict[str, dict[str, Any]] = {a: {} for a in self._seen}
        for agent in self._masked if self._masks_in_infos else ():
            mask = self._legal(agent)
            parts = np.split(mask, np.cumsum(choices(self._spaces[agent]))[:-1])
            infos[agent][MASK_KEY] = tuple(parts) if len(parts) > 1 else mask
        free = self._episode % 2 == 0
        self._forced = tuple(a for a in self._may_force if not free and a in self.agents and self._seen[a] == 1)
        for agent in self._forced:
            infos[agent][FORCED_KEY] = lowest(self._actions[agent])
        return infos

    def _legal(self, agent: str) -> NDArray[np.int8]:
        return legal(self._spaces[agent], 0.0 if self._episode % 2 == 0 else self._seen[agent])

    def _place(self, agent: str, action: Any) -> float:
        space = self._actions[agent]
        assert space.contains(action), f"{agent} did {action!r}, which is not in {space}"
        if agent in self._masked:
            mask, values = self._legal(agent), choices(self._spaces[agent])
            taken = np.cumsum((0, *values))[:-1] + action
            assert mask[taken].all(), f"{agent} did {action!r}, of which {mask} says that it is illegal"
        if agent in self._forced:
            assert np.array_equal(action, lowest(space)), f"{agent} did {action!r}, not what it was forced to"
        return place(self._spaces[agent], action)


def lowest(space: gymnasium.Space[Any]) -> Any:
    """The action whose place is 0."""
    match space:
        case gymnasium.spaces.Box():
            return space.low
        case gymnasium.spaces.MultiDiscrete():
            return np.where(np.arange(len(space.nvec)) % 2, space.nvec - 1, 0)
        case gymnasium.spaces.MultiBinary():
            return (np.arange(space.shape[0]) % 2).astype(np.int8)
    assert isinstance(space, gymnasium.spaces.Discrete)
    return space.start
