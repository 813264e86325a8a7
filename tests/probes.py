"""Environments so small that their values and best policies are known; found by name as `tests.probes:<function>`.

What an agent did is a number from 0 to 1, its place in its action space: of `Discrete(2)` 0 or 1, of a Box the share of
the way from its lower to its upper bound. Observations are single numbers from 0 to 1 as well. So one reward serves
both kinds of action.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray
from pettingzoo import ParallelEnv

Numbers = dict[str, float]
"""By agent."""

Observation = NDArray[np.float32]
Step = tuple[dict[str, Observation], Numbers, dict[str, bool], dict[str, bool], dict[str, dict[str, Any]]]

AGENTS = ("agent_0", "other_agent_0")


class Probe(ParallelEnv[str, Observation, Any]):  # type: ignore[misc]
    """An environment of a few lines.

    Args:
        actions: Action space by agent.
        first: What is seen at first: a draw for every agent.
        reward: By agent, from what was seen and what was done by those alive.
        then: What an agent sees after a step, from what it saw before.
        ends: The step, from 1, in which each agent's episode ends.
        truncated: Agents that do not reach an end but are cut off there.
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
    ) -> None:
        self.possible_agents = list(actions)
        self.agents: list[str] = []
        self._actions = dict(actions)
        self._first, self._then, self._reward = first, then, reward
        self._ends = dict(ends or dict.fromkeys(actions, 1))
        self._truncated = truncated
        self._rng = np.random.default_rng()
        self._seen: Numbers = {}
        self._steps = 0

    def observation_space(self, agent: str) -> gymnasium.Space[Any]:
        del agent
        return gymnasium.spaces.Box(0.0, 1.0, (1,), np.float32)

    def action_space(self, agent: str) -> gymnasium.Space[Any]:
        return self._actions[agent]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Observation], dict[str, dict[str, Any]]]:
        del options
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        self.agents = list(self.possible_agents)
        self._steps = 0
        self._seen = {a: self._first(self._rng) for a in self.agents}
        return self._observations(), {a: {} for a in self.agents}

    def step(self, actions: dict[str, Any]) -> Step:
        acted = self.agents
        rewards = self._reward(self._seen, {a: self._place(a, actions[a]) for a in acted})
        self._steps += 1
        over = [a for a in acted if self._steps == self._ends[a]]
        self._seen = {a: self._then(self._seen[a]) for a in acted}
        self.agents = [a for a in acted if a not in over]
        return (
            self._observations(),
            {a: rewards[a] for a in acted},
            {a: a in over and a not in self._truncated for a in acted},
            {a: a in over and a in self._truncated for a in acted},
            {a: {} for a in acted},
        )

    def render(self) -> None:
        """Nothing to see."""

    def close(self) -> None:
        """Nothing to close."""

    def _observations(self) -> dict[str, Observation]:
        return {a: np.array([x], np.float32) for a, x in self._seen.items()}

    def _place(self, agent: str, action: Any) -> float:
        space = self._actions[agent]
        assert space.contains(action), f"{agent} did {action!r}, which is not in {space}"
        if isinstance(space, gymnasium.spaces.Discrete):
            return float(action - space.start) / float(space.n - 1)
        assert isinstance(space, gymnasium.spaces.Box)
        return float((action[0] - space.low[0]) / (space.high[0] - space.low[0]))


def constant_reward(discrete: bool) -> Probe:
    """Rewards 1 and -0.5, whatever is done: these are the values too."""
    return Probe(both(discrete), zero, lambda seen, done: {"agent_0": 1.0, "other_agent_0": -0.5})


def observed_reward(discrete: bool) -> Probe:
    """An agent that sees 1 gets 1, one that sees 0 gets -1; the other agent the other way round."""
    return Probe(
        both(discrete),
        coin,
        lambda seen, done: {"agent_0": 2 * seen["agent_0"] - 1, "other_agent_0": 1 - 2 * seen["other_agent_0"]},
    )


def discounted_reward(discrete: bool) -> Probe:
    """Two steps, seen as 0 and 1; only the second one is rewarded, with 1 and -0.5: gamma times that is the first's."""
    return Probe(
        both(discrete),
        zero,
        lambda seen, done: {"agent_0": seen["agent_0"], "other_agent_0": -0.5 * seen["other_agent_0"]},
        then=lambda before: 1.0,
        ends=dict.fromkeys(AGENTS, 2),
    )


def fixed_policy(discrete: bool) -> Probe:
    """Always the same is seen and wanted: 1 and 0 of two choices, 0.7 and 0.3 of a Box."""
    wanted = {"agent_0": 1.0 if discrete else 0.7, "other_agent_0": 0.0 if discrete else 0.3}
    return Probe(both(discrete), zero, lambda seen, done: {a: closeness(done[a], wanted[a]) for a in done})


def observed_policy(discrete: bool) -> Probe:
    """The agent is to do what it sees, the other one the opposite; in a Box anything may be seen, and is wanted."""

    def reward(seen: Numbers, done: Numbers) -> Numbers:
        wanted = {"agent_0": seen["agent_0"], "other_agent_0": 1 - seen["other_agent_0"]}
        return {a: closeness(done[a], wanted[a]) for a in done}

    return Probe(both(discrete), coin if discrete else anything, reward)


def joint_policy(discrete: bool) -> Probe:
    """What an agent gets depends on what both do: 3, 0, 1, 2 and 1, 3, 0, 2 for 00, 01, 10, 11, linear between.

    The other agent does best with 1 in any case, and then so does the agent, though the other would like a 0 better.
    """

    def between(table: tuple[float, float, float, float], a: float, b: float) -> float:
        return (1 - a) * ((1 - b) * table[0] + b * table[1]) + a * ((1 - b) * table[2] + b * table[3])

    def reward(seen: Numbers, done: Numbers) -> Numbers:
        a, b = done["agent_0"], done["other_agent_0"]
        return {"agent_0": between((3, 0, 1, 2), a, b), "other_agent_0": between((1, 3, 0, 2), a, b)}

    return Probe(both(discrete), zero, reward)


def episode_end(discrete: bool, truncated: bool) -> Probe:
    """What is seen turns from 0 to 1 and back, and every episode is over after one step: at its end, or cut off.

    The agent gets 1 each time, the other one 1 where it sees 0. If episodes really end there, these are the values;
    if they are cut off, it would have gone on for ever: 1 / (1 - gamma) for the agent.
    """
    return Probe(
        both(discrete),
        coin,
        lambda seen, done: {"agent_0": 1.0, "other_agent_0": 1 - seen["other_agent_0"]},
        then=lambda before: 1 - before,
        truncated=AGENTS if truncated else (),
    )


def team(discrete: bool) -> Probe:
    """Two of a kind, each with an observation of its own, 0 or 1; team_1 gets 1 less than team_0 for the same.

    Each is to repeat what it sees; in a Box, to do 0.25 or 0.75.
    """
    return Probe(
        {"team_0": action(discrete), "team_1": action(discrete)},
        coin,
        lambda seen, done: {
            a: closeness(done[a], seen[a] if discrete else quarter(seen[a])) - (a == "team_1") for a in done
        },
    )


def mixed_kinds(discrete: bool) -> Probe:
    """One agent chooses from two, counted from 3, and is to repeat what it sees; the other has a Box from -2 to 6.

    In the Box 0 is wanted where 0 is seen, and 4 where 1 is. `discrete` says whether agent_0 is the one that chooses.
    """
    chooser, mover = AGENTS if discrete else AGENTS[::-1]
    spaces = {chooser: gymnasium.spaces.Discrete(2, start=3), mover: gymnasium.spaces.Box(-2.0, 6.0, (1,), np.float32)}

    def reward(seen: Numbers, done: Numbers) -> Numbers:
        wanted = {chooser: seen[chooser], mover: quarter(seen[mover])}
        return {a: closeness(done[a], wanted[a]) for a in done}

    return Probe({a: spaces[a] for a in AGENTS}, coin, reward)


def early_death(discrete: bool) -> Probe:
    """The other agent's episode ends after one step, for which 1 is wanted; the agent gets 1 for each of three steps.

    The agent is cut off there. Everything seen is 0, as it also is in the rows of an agent that is gone: if these
    counted, they would pull at the value of doing 0.
    """
    return Probe(
        both(discrete),
        zero,
        lambda seen, done: {a: 1.0 if a == "agent_0" else closeness(done[a], 1.0) for a in done},
        ends={"agent_0": 3, "other_agent_0": 1},
        truncated=("agent_0",),
    )


def both(discrete: bool) -> dict[str, gymnasium.Space[Any]]:
    """The same action space for both agents."""
    return {a: action(discrete) for a in AGENTS}


def action(discrete: bool) -> gymnasium.Space[Any]:
    return gymnasium.spaces.Discrete(2) if discrete else gymnasium.spaces.Box(0.0, 1.0, (1,), np.float32)


def closeness(done: float, wanted: float) -> float:
    """1 where exactly the wanted thing is done, less elsewhere: 0 for the wrong one of two choices."""
    return 1 - (done - wanted) ** 2


def quarter(seen: float) -> float:
    """0.25 for 0, 0.75 for 1: wanted in the inside of a Box."""
    return 0.25 + 0.5 * seen


def zero(rng: np.random.Generator) -> float:
    del rng
    return 0.0


def coin(rng: np.random.Generator) -> float:
    return float(rng.integers(2))


def anything(rng: np.random.Generator) -> float:
    return float(rng.random())
