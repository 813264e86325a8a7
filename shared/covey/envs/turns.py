"""Turns environments with PettingZoo's turn-based AEC interface into parallel ones in which agents wait."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium

from covey.errors import EnvironmentLoadError


class TurnsEnv:
    """An AEC environment (agents act one after the other) as a parallel one: an env step is one agent's turn.

    `reset` and `step` return an observation for the agent whose turn comes next, and the last observation of agents
    that just ended; all others in `agents` wait. The call `step(None)`, by which ended agents leave an AEC environment,
    is made inside.

    Args:
        aec: The environment; it has `possible_agents`.
    """

    def __init__(self, aec: Any) -> None:
        self.aec = aec
        self.possible_agents: list[str] = list(aec.possible_agents)
        self.agents: list[str] = []
        self.metadata: dict[str, Any] = getattr(aec, "metadata", {})
        self.render_mode: str | None = getattr(aec, "render_mode", None)

    @property
    def unwrapped(self) -> Any:
        """The innermost AEC environment, without wrappers."""
        return self.aec.unwrapped

    def observation_space(self, agent: str) -> gymnasium.Space[Any]:
        """Return the observation space of an agent."""
        return self.aec.observation_space(agent)  # type: ignore[no-any-return]

    def action_space(self, agent: str) -> gymnasium.Space[Any]:
        """Return the action space of an agent."""
        return self.aec.action_space(agent)  # type: ignore[no-any-return]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        """Begin an episode; returns observations and infos by agent."""
        self.aec.reset(seed=seed, options=options)
        self.agents = list(self.aec.agents)
        seen = self._next()
        return seen, self._infos(seen)

    def step(
        self, actions: Mapping[str, Any]
    ) -> tuple[dict[str, Any], dict[str, float], dict[str, bool], dict[str, bool], dict[str, dict[str, Any]]]:
        """Make one agent's turn.

        Args:
            actions: By agent; only the action of the agent whose turn it is counts.

        Returns:
            Observations, rewards, terminations, truncations and infos by agent; rewards and flags of all agents that
            lived before the step.
        """
        aec = self.aec
        aec.step(actions[aec.agent_selection])
        # Read before ended agents leave, as their leaving clears the rewards.
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
        """Return what the wrapped AEC environment renders."""
        return self.aec.render()

    def close(self) -> None:
        """Close the AEC environment."""
        self.aec.close()

    def _next(self) -> dict[str, Any]:
        """Return the observation of the agent whose turn is next, by agent; {} if no agent lives."""
        if not self.agents:
            return {}
        agent = self.aec.agent_selection
        return {agent: self.aec.observe(agent)}

    def _infos(self, agents: Any) -> dict[str, dict[str, Any]]:
        """Return the wrapped environment's infos of these agents."""
        return {a: self.aec.infos.get(a, {}) for a in agents}

    def _dismiss(self) -> None:
        """Step agents that have ended with None, as the AEC interface wants, until it is a living agent's turn.

        Raises:
            EnvironmentLoadError: one of them does not leave.
        """
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
