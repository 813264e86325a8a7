"""Environments of PettingZoo's AEC interface, in which agents take turns, as asynchronous parallel ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium

from covey.errors import EnvironmentLoadError


class TurnsEnv:
    """An AEC environment as a parallel one: an env step is one agent's turn.

    `reset` and `step` give an observation to the agent whose turn comes next, and to agents that just ended their last
    one; all others that are in `agents` wait. `step(None)`, by which ended agents take their leave of an AEC
    environment, happens inside.

    Args:
        aec: The environment; it says its `possible_agents`.
    """

    def __init__(self, aec: Any) -> None:
        self.aec = aec
        self.possible_agents: list[str] = list(aec.possible_agents)
        self.agents: list[str] = []
        self.metadata: dict[str, Any] = getattr(aec, "metadata", {})
        self.render_mode: str | None = getattr(aec, "render_mode", None)

    @property
    def unwrapped(self) -> Any:
        """The innermost AEC environment."""
        return self.aec.unwrapped

    def observation_space(self, agent: str) -> gymnasium.Space[Any]:
        """What an agent sees."""
        return self.aec.observation_space(agent)  # type: ignore[no-any-return]

    def action_space(self, agent: str) -> gymnasium.Space[Any]:
        """What an agent may do."""
        return self.aec.action_space(agent)  # type: ignore[no-any-return]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        """Begin an episode; returns observations and infos."""
        self.aec.reset(seed=seed, options=options)
        self.agents = list(self.aec.agents)
        seen = self._next()
        return seen, self._infos(seen)

    def step(
        self, actions: Mapping[str, Any]
    ) -> tuple[dict[str, Any], dict[str, float], dict[str, bool], dict[str, bool], dict[str, dict[str, Any]]]:
        """One agent's turn.

        Args:
            actions: The action of the agent that was given the last observation.

        Returns:
            Observations, rewards of all agents that lived, their flags, and infos.
        """
        aec = self.aec
        aec.step(actions[aec.agent_selection])
        # Before the ended agents leave, which clears rewards.
        rewards, terminated, truncated = (
            {a: values[a] for a in self.agents if a in values}
            for values in (aec.rewards, aec.terminations, aec.truncations)
        )
        ended = [a for a in self.agents if terminated.get(a) or truncated.get(a)]
        infos = self._infos(ended)
        seen = {a: aec.observe(a) for a in ended}
        self._dismiss()
        self.agents = [a for a in aec.agents if not aec.terminations[a] and not aec.truncations[a]]
        following = self._next()
        return seen | following, rewards, terminated, truncated, infos | self._infos(following)

    def render(self) -> Any:
        """As the AEC environment renders."""
        return self.aec.render()

    def close(self) -> None:
        """Close the AEC environment."""
        self.aec.close()

    def _next(self) -> dict[str, Any]:
        """The observation of the agent whose turn it is, if there is one."""
        if not self.agents:
            return {}
        agent = self.aec.agent_selection
        return {agent: self.aec.observe(agent)}

    def _infos(self, agents: Any) -> dict[str, dict[str, Any]]:
        return {a: self.aec.infos.get(a, {}) for a in agents}

    def _dismiss(self) -> None:
        """Let agents that ended leave, until it is the turn of one that lives."""
        aec = self.aec
        for _ in range(len(aec.agents)):
            agent = aec.agent_selection
            if not (aec.terminations[agent] or aec.truncations[agent]):
                return
            aec.step(None)
            if not aec.agents:
                return
            if agent in aec.agents:
                raise EnvironmentLoadError(
                    f"environment {aec}: agent {agent!r} ended but stays after step(None), expected it to leave"
                )
