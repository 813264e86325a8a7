"""Environments of gymnasium's interface: several agents in a Tuple or a Dict of spaces, or one agent.

Which of the three it is follows from the spaces. A Tuple of observations and a Tuple of actions of one length have an
entry for each agent, as in lbforaging, rware and highway-env. A Dict of observations and a Dict of actions with the
same keys have them by agent, as in multigrid. All else is one agent's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np

from covey.envs.adapters.adapted import AdaptedEnv, ByAgent, idle_action
from covey.envs.adapters.foreign_spaces import as_gymnasium
from covey.envs.adapters.gym_calls import advance, begin
from covey.errors import EnvironmentLoadError
from covey.spaces import MASK_KEY

REWARDS_KEY = "agents_rewards"
"""Key of `info` under which environments with one reward for all, such as highway-env, give each agent's own."""

EVERYBODY = "__all__"
"""Key under which environments with flags by agent say that the episode is over for all."""

Tuple, Dict = gymnasium.spaces.Tuple, gymnasium.spaces.Dict


class TupleAgents(AdaptedEnv):
    """A gymnasium environment whose spaces are Tuples or lists, with an entry for each agent, as a parallel one.

    A reward, `terminated` or `truncated` that is a single value is everybody's.

    Args:
        env: The environment.
    """

    def __init__(self, env: Any) -> None:
        pairs = zip(*(as_gymnasium(space).spaces for space in (env.observation_space, env.action_space)), strict=True)
        super().__init__(env, {f"agent_{i}": pair for i, pair in enumerate(pairs)})

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[ByAgent, ByAgent]:
        """Begin an episode; returns observations and infos by agent."""
        seen, info = begin(self.env, seed, options)
        self.agents = list(self.possible_agents)
        return self._each(seen, "observations"), self._infos(info)

    def step(self, actions: Mapping[str, Any]) -> tuple[ByAgent, ByAgent, ByAgent, ByAgent, ByAgent]:
        """Make an env step; returns observations, rewards, terminations, truncations and infos by agent."""
        joint = tuple(actions[a] if a in actions else idle_action(self.action_space(a)) for a in self.possible_agents)
        seen, reward, terminated, truncated, info = advance(self.env, joint)
        seen = self._each(seen, "observations")
        rewards = self._each(reward if np.ndim(reward) else info.get(REWARDS_KEY, reward), "rewards")
        ended, cut = self._each(terminated, "terminated"), self._each(truncated, "truncated")
        acted = self.agents
        self.leave(ended, cut)
        of_acted = [{a: part[a] for a in acted} for part in (seen, rewards, ended, cut, self._infos(info))]
        return of_acted[0], of_acted[1], of_acted[2], of_acted[3], of_acted[4]

    def _each(self, value: Any, what: str) -> ByAgent:
        """By agent what is given as a list, or what is given once for all."""
        if not isinstance(value, tuple | list) and np.ndim(value) == 0:
            if what != "observations":
                return dict.fromkeys(self.possible_agents, value)
            value = (value,)
        if len(value) != len(self.possible_agents):
            raise EnvironmentLoadError(
                f"environment: {len(value)} {what} from reset or step, expected {len(self.possible_agents)}, one for "
                "each entry of its Tuple spaces; return one for each agent"
            )
        return dict(zip(self.possible_agents, value, strict=True))

    def _infos(self, info: Mapping[str, Any]) -> ByAgent:
        """By agent its action mask, if the environment gives a list of them."""
        masks = info.get(MASK_KEY)
        if masks is None:
            return {a: {} for a in self.possible_agents}
        return {a: {MASK_KEY: mask} for a, mask in self._each(list(masks), "action masks").items()}


class DictAgents(AdaptedEnv):
    """A gymnasium environment whose spaces are Dicts by agent, as a parallel one; agent 0 is called `agent_0`.

    Args:
        env: The environment.
    """

    def __init__(self, env: Any) -> None:
        observation, action = as_gymnasium(env.observation_space), as_gymnasium(env.action_space)
        self._names = {key: key if isinstance(key, str) else f"agent_{key}" for key in observation.spaces}
        super().__init__(env, {name: (observation[key], action[key]) for key, name in self._names.items()})

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[ByAgent, ByAgent]:
        """Begin an episode; returns observations and infos by agent."""
        seen, info = begin(self.env, seed, options)
        self.agents = list(self.possible_agents)
        return self._named(seen, "observations"), self._infos(info)

    def step(self, actions: Mapping[str, Any]) -> tuple[ByAgent, ByAgent, ByAgent, ByAgent, ByAgent]:
        """Make an env step; returns observations, rewards, terminations, truncations and infos by agent."""
        # Everybody's, as some environments read those of agents that have ended too.
        joint = {
            key: actions[name] if name in actions else idle_action(self.action_space(name))
            for key, name in self._names.items()
        }
        seen, reward, terminated, truncated, info = advance(self.env, joint)
        ended, cut = self._flags(terminated), self._flags(truncated)
        acted = self.agents
        self.leave(ended, cut)
        parts = (self._named(seen, "observations"), self._named(reward, "rewards"), ended, cut, self._infos(info))
        of_acted = [{a: part[a] for a in acted if a in part} for part in parts]
        return of_acted[0], of_acted[1], of_acted[2], of_acted[3], of_acted[4]

    def _named(self, value: Any, what: str) -> ByAgent:
        if not isinstance(value, Mapping):
            raise EnvironmentLoadError(
                f"environment: {what} from reset or step are of type {type(value).__name__}, expected a dictionary "
                "with the keys of its Dict spaces; return one value for each agent"
            )
        return {self._names[key]: part for key, part in value.items() if key in self._names}

    def _flags(self, value: Any) -> ByAgent:
        """Flags by agent; one flag, or one under `__all__`, is everybody's."""
        if not isinstance(value, Mapping):
            return dict.fromkeys(self.possible_agents, bool(value))
        if value.get(EVERYBODY, False):
            return dict.fromkeys(self.possible_agents, True)
        return self._named(value, "flags")

    def _infos(self, info: Mapping[Any, Any]) -> ByAgent:
        """Infos by agent where the environment gives them so."""
        given = {name: info[key] for key, name in self._names.items() if key in info}
        return {a: given[a] if isinstance(given.get(a), Mapping) else {} for a in self.possible_agents}


class SingleAgent(AdaptedEnv):
    """A gymnasium environment for one agent, as a parallel one in which `agent_0` plays alone.

    Args:
        env: The environment.
    """

    AGENT = "agent_0"

    def __init__(self, env: Any) -> None:
        super().__init__(env, {self.AGENT: (as_gymnasium(env.observation_space), as_gymnasium(env.action_space))})

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[ByAgent, ByAgent]:
        """Begin an episode; returns observations and infos by agent."""
        seen, info = begin(self.env, seed, options)
        self.agents = [self.AGENT]
        return {self.AGENT: seen}, {self.AGENT: info}

    def step(self, actions: Mapping[str, Any]) -> tuple[ByAgent, ByAgent, ByAgent, ByAgent, ByAgent]:
        """Make an env step; returns observations, rewards, terminations, truncations and infos by agent."""
        seen, reward, terminated, truncated, info = advance(self.env, actions[self.AGENT])
        if terminated or truncated:
            self.agents = []
        agent = self.AGENT
        return {agent: seen}, {agent: reward}, {agent: bool(terminated)}, {agent: bool(truncated)}, {agent: info}


def recognise_tuple(env: Any) -> str:
    """Whether an environment has an entry for each agent in Tuple spaces, or lists of spaces; in words."""
    observation, action = _spaces(env)
    if isinstance(observation, Tuple) and isinstance(action, Tuple) and len(observation) == len(action):
        return "a gymnasium environment with Tuple spaces"
    return ""


def recognise_dict(env: Any) -> str:
    """Whether an environment has Dict spaces by agent; in words."""
    observation, action = _spaces(env)
    if isinstance(observation, Dict) and isinstance(action, Dict) and set(observation.spaces) == set(action.spaces):
        return "a gymnasium environment with Dict spaces keyed by agents"
    return ""


def recognise_single(env: Any) -> str:
    """Whether an environment has gymnasium's interface for one agent; in words."""
    observation, action = _spaces(env)
    if isinstance(observation, gymnasium.Space) and isinstance(action, gymnasium.Space):
        return "a gymnasium environment for one agent"
    return ""


def _spaces(env: Any) -> tuple[Any, Any]:
    """An environment's observation and action space as gymnasium's; None, None if it is not of that interface.

    gymnasium's vectorised environments are not: each of them is many copies.
    """
    if not (callable(getattr(env, "reset", None)) and callable(getattr(env, "step", None))):
        return None, None
    if hasattr(env, "single_observation_space") or hasattr(env, "possible_agents"):
        return None, None
    try:
        return as_gymnasium(env.observation_space), as_gymnasium(env.action_space)
    except Exception:  # no attribute of that name, or something else than a space
        return None, None
