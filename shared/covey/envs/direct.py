"""Steps environments that PettingZoo converted from AEC to parallel ones directly, without its wrappers.

Its conversion calls `last()` in each agent's turn, observation included, and drops the result; and every attribute is
looked up through wrappers that check the order of calls and the bounds of actions, which collecting keeps to anyway. In
the particle environments that is half to two thirds of a step's time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Direct:
    """Builds environments without PettingZoo's wrappers where possible; picklable if `make_env` is.

    For callers that reset before they step, and whose actions lie within their spaces.

    Attributes:
        make_env: Builds a parallel environment.
    """

    make_env: Callable[[], Any]

    def __call__(self) -> Any:
        """Build an environment: a `DirectEnv` if PettingZoo converted it from an AEC one, otherwise as it was built."""
        env = self.make_env()
        from pettingzoo.utils.conversions import aec_to_parallel_wrapper  # the environment has imported it, if anybody

        # Exactly that class: one derived from it may do anything, and so may a method that somebody replaced.
        return DirectEnv(env) if type(env) is aec_to_parallel_wrapper and _untouched(env) else env


def _untouched(layer: Any) -> bool:
    """Whether nobody has replaced a method on this object itself, rather than in its class."""
    return not any(callable(getattr(type(layer), name, None)) for name in vars(layer))


class DirectEnv:
    """A parallel environment around an AEC one that steps it without PettingZoo's wrappers, with equal results.

    Observations, rewards, flags and infos equal the wrapper's to the bit, unless the environment's `observe` or `last`
    has side effects: `observe` is called once a step for each agent instead of twice, `last` never.

    Args:
        env: An `aec_to_parallel_wrapper`; it resets the environment, and answers everything else.
    """

    def __init__(self, env: Any) -> None:
        from pettingzoo.utils import wrappers

        # Wrappers that change nothing for callers that call in order and act within the spaces.
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
        """Delegate unknown attributes to the wrapped environment."""
        return getattr(self._env, name)

    def reset(self, **arguments: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Begin an episode; returns observations and infos by agent."""
        observations, infos = self._env.reset(**arguments)
        self.agents = self._env.agents
        return observations, infos

    def step(
        self, actions: Mapping[str, Any]
    ) -> tuple[dict[str, Any], dict[str, float], dict[str, bool], dict[str, bool], dict[str, Any]]:
        """Make one env step: each agent acts once, in turn.

        Args:
            actions: By agent, for every agent in `agents`.

        Returns:
            Observations, rewards, terminations, truncations and infos by agent, as the wrapper gives them.

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
        # Agents that ended leave an AEC environment by a last step without an action.
        while aec.agents and (aec.terminations[aec.agent_selection] or aec.truncations[aec.agent_selection]):
            aec.step(None)
        self.agents = self._env.agents = aec.agents
        return observations, rewards, terminated, truncated, infos
