"""Parallel environments that PettingZoo makes of AEC ones, stepped without the layers that it puts between.

Its conversion asks each agent's turn for `last()`, observation included, and drops it; and every attribute is looked up
through wrappers that check what covey holds anyway: the order of calls, and actions within their space. In the particle
environments that is half to two thirds of a step's time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Direct:
    """Builds environments for those who reset before they step, and whose actions are within their spaces.

    Picklable if `make_env` is.

    Attributes:
        make_env: Builds a parallel environment.
    """

    make_env: Callable[[], Any]

    def __call__(self) -> Any:
        """The environment, without its checks if it is one that PettingZoo converted; otherwise as it is."""
        env = self.make_env()
        from pettingzoo.utils.conversions import aec_to_parallel_wrapper  # the environment has imported it, if anybody

        # To the letter: a class derived from it may do anything, and so may a method that somebody replaced.
        return DirectEnv(env) if type(env) is aec_to_parallel_wrapper and _untouched(env) else env


def _untouched(layer: Any) -> bool:
    """Whether the methods of an object are those of its class."""
    return not any(callable(getattr(type(layer), name, None)) for name in vars(layer))


class DirectEnv:
    """An `aec_to_parallel_wrapper` that steps as the environment within does; everything else goes through it.

    Observations, rewards, flags and infos are the wrapper's to the bit, unless the environment's `observe` or `last`
    has side effects: the one is called once a step for each agent instead of twice, the other never.
    """

    def __init__(self, env: Any) -> None:
        from pettingzoo.utils import wrappers

        # These change nothing for those who call in order and act within the spaces.
        checks = (
            wrappers.OrderEnforcingWrapper,
            wrappers.AssertOutOfBoundsWrapper,
            wrappers.ClipOutOfBoundsWrapper,
        )
        self._env = env
        self._aec = env.aec_env
        while type(self._aec) in checks and _untouched(self._aec):
            self._aec = self._aec.env
        self.agents: list[str] = []

    def __getattr__(self, name: str) -> Any:
        """Of the environment."""
        return getattr(self._env, name)

    def reset(self, **arguments: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """As the wrapper's."""
        observations, infos = self._env.reset(**arguments)
        self.agents = self._env.agents
        return observations, infos

    def step(
        self, actions: Mapping[str, Any]
    ) -> tuple[dict[str, Any], dict[str, float], dict[str, bool], dict[str, bool], dict[str, Any]]:
        """As the wrapper's.

        Raises:
            AssertionError: the environment's agents do not act in turn, or end before the end of a cycle.
        """
        aec = self._aec
        rewards: dict[str, float] = defaultdict(int)
        for agent in aec.agents:
            if agent != aec.agent_selection:
                raise AssertionError(f"expected agent {agent}, got {aec.agent_selection}: agents must act in turn")
            aec.step(actions[agent])
            given = aec.rewards
            for rewarded in aec.agents:
                rewards[rewarded] += given[rewarded]
        terminated, truncated = dict(aec.terminations), dict(aec.truncations)
        infos = dict(aec.infos)
        observations = {agent: aec.observe(agent) for agent in aec.agents}
        while aec.agents and (aec.terminations[aec.agent_selection] or aec.truncations[aec.agent_selection]):
            aec.step(None)
        self.agents = self._env.agents = aec.agents
        return observations, rewards, terminated, truncated, infos
