"""Agents that act at different times, what they decided, told by a plain reading of the whole episode, and policies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from pettingzoo import ParallelEnv

from covey.acting import LoadedPolicy
from covey.networks import MLP, Input, NetworkSpec
from covey.spaces import FORCED_KEY, MASK_KEY, AgentSpec, Box
from covey.wire.policy_file import PolicySpec, encode_policy


class Part(NamedTuple):
    """When an agent takes part: it appears in step `birth`, acts in every `period`-th one from there on."""

    period: int
    birth: int = 0
    death: int = 999  # ends in this step (counted from 0), whether it acts in it or waits


PARTS = {
    "walker_0": Part(1, death=6),
    "chooser_0": Part(3),
    "walker_1": Part(2, birth=3),
    "chooser_1": Part(5, death=8),
    "sleeper_0": Part(7, birth=1),
}


class RhythmsEnv(ParallelEnv[str, Any, Any]):  # type: ignore[misc]
    """Observations are (episode's seed, step, agent index); rewards whole numbers that all three decide.

    Walkers have Box actions from 1 to 3, choosers one of 4 values from 10 on, of which value 10 + step % 4 is not
    legal; the sleeper, who sets two numbers, is forced in every second of its turns. Episodes are truncated after
    `length` steps; `parts` are the agents.
    """

    metadata = {"name": "rhythms", "is_parallelizable": True}  # noqa: RUF012 - PettingZoo's form

    def __init__(self, length: int = 11, parts: Mapping[str, Part] | None = None, raise_at: int = 0) -> None:
        self.parts = dict(PARTS if parts is None else parts)
        self.possible_agents = list(self.parts)
        self.agents: list[str] = []
        self.length, self.raise_at = length, raise_at
        self.seed = self.count = 0

    def observation_space(self, agent: str) -> gymnasium.spaces.Space[Any]:
        del agent
        return gymnasium.spaces.Box(0, np.float32(2**31), (3,), np.float32)

    def action_space(self, agent: str) -> gymnasium.spaces.Space[Any]:
        if agent.startswith("walker"):
            return gymnasium.spaces.Box(1.0, 3.0, (2,), np.float32)
        if agent.startswith("chooser"):
            return gymnasium.spaces.Discrete(4, start=10)
        return gymnasium.spaces.MultiDiscrete([2, 5])

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Any]:
        del options
        self.seed, self.count = (seed or 0) % 16, 0
        self.agents = [a for a, part in self.parts.items() if part.birth == 0]
        return self._next()

    def step(self, actions: dict[str, Any]) -> tuple[Any, Any, Any, Any, Any]:
        assert list(actions) == [a for a in self.possible_agents if a in self.agents and self._acts(a)]
        for agent, action in actions.items():
            assert self.action_space(agent).contains(action), (agent, action)
            if agent.startswith("chooser"):
                assert action != 10 + self.count % 4, "not legal"
            if agent == "sleeper_0" and self._forces():
                assert action.tolist() == [1, self.count % 5]
        lived = self.agents
        died = [a for a in lived if self.parts[a].death == self.count]
        self.count += 1
        if self.count == self.raise_at:
            raise RuntimeError(f"broken in step {self.count}")
        over = self.count >= self.length
        gone = lived if over else died
        self.agents = [a for a in lived if a not in gone]
        if not over:
            self.agents += [a for a, part in self.parts.items() if part.birth == self.count]
        seen, infos = self._next()
        return (
            seen | {a: self._see(a) for a in gone},
            {a: float(self.seed + 7 * self.count + 3 * self.possible_agents.index(a)) % 13 - 6 for a in lived},
            {a: a in died for a in lived},
            {a: over and a not in died for a in lived},
            infos,
        )

    def render(self) -> None:
        """Nothing to see."""

    def close(self) -> None:
        """Nothing to close."""

    def _acts(self, agent: str) -> bool:
        part = self.parts[agent]
        return (self.count - part.birth) % part.period == 0

    def _forces(self) -> bool:
        return (self.count - self.parts["sleeper_0"].birth) // self.parts["sleeper_0"].period % 2 == 1

    def _see(self, agent: str) -> Any:
        return np.array([self.seed, self.count, self.possible_agents.index(agent)], np.float32)

    def _next(self) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        acting = [a for a in self.agents if self._acts(a)]
        infos: dict[str, dict[str, Any]] = {a: {} for a in acting}
        for a in acting:
            if a.startswith("chooser"):
                infos[a][MASK_KEY] = np.arange(4) != self.count % 4
            if a == "sleeper_0" and self._forces():
                infos[a][FORCED_KEY] = np.array([1, self.count % 5])
        return {a: self._see(a) for a in acting}, infos


class Decision(NamedTuple):
    """One decision from its observation to what it led to."""

    agent: str
    episode: int
    observation: bytes
    action: bytes
    reward: float
    steps: int
    following: bytes
    terminated: bool
    ended: bool


@dataclass
class _Open:
    observation: bytes
    action: bytes
    reward: float = 0.0
    steps: int = 0


@dataclass
class Recorder:
    """A parallel environment, and its agents' decisions as a plain reading of what it gets and gives has them.

    An agent that waits is not observed; it decides where it is given an observation and lives.
    """

    env: Any
    decisions: list[Decision] = field(default_factory=list)
    _open: dict[str, _Open] = field(default_factory=dict)
    _seen: dict[str, Any] = field(default_factory=dict)
    _episode: int = -1

    @property
    def agents(self) -> list[str]:
        """Who lives."""
        return list(self.env.agents)

    def reset(self, seed: int | None = None) -> Any:
        """Begin an episode: what was open is dropped."""
        seen, infos = self.env.reset(seed=seed)
        self._open = {}
        self._seen = seen
        self._episode += 1
        return seen, infos

    def step(self, actions: dict[str, Any]) -> Any:
        """Make a step."""
        for agent, action in actions.items():
            self._open[agent] = _Open(_bytes(self._seen[agent]), np.asarray(action).tobytes())
        lived = list(self.env.agents)
        seen, rewards, terminated, truncated, infos = self.env.step(actions)
        for agent in lived:
            decision = self._open.get(agent)
            if decision is None:
                continue
            decision.reward += rewards[agent]
            decision.steps += 1
            over = terminated[agent] or truncated[agent]
            if agent in seen:  # it acts again, or has ended
                self._close(agent, seen[agent], bool(terminated[agent]), bool(over))
        self._seen = seen
        return seen, rewards, terminated, truncated, infos

    def close(self) -> None:
        """Close the environment."""
        self.env.close()

    def _close(self, agent: str, seen: Any, terminated: bool, ended: bool) -> None:
        d = self._open.pop(agent)
        self.decisions.append(
            Decision(agent, self._episode, d.observation, d.action, d.reward, d.steps, _bytes(seen), terminated, ended)
        )


def _bytes(seen: Any) -> bytes:
    return np.asarray(seen["observation"] if isinstance(seen, Mapping) else seen).tobytes()


def policy(agent: AgentSpec, seed: int = 0, *, head: str = "deterministic", indicator: int = 0) -> LoadedPolicy:
    """A small policy with weights of its own."""
    gaussian = head == "stochastic" and isinstance(agent.action, Box)
    net = NetworkSpec(
        inputs=(Input("observation", agent.observation.width + indicator, MLP(hidden_size=(4,), min_mlp_nodes=1)),),
        head=MLP(hidden_size=(4,)),
        outputs=agent.action.width * (2 if head == "squashed" else 1),
        latent_dim=4,
        log_std=-0.5 if gaussian else None,
    )
    spec = PolicySpec(net, agent.observation, agent.action, head, indicator)
    return LoadedPolicy.decode(encode_policy(spec, net.init(np.random.default_rng(seed))))
