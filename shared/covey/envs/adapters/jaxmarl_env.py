"""JaxMARL environments, which are pure functions of a key and a state, as covey's batched environments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from covey.envs.adapters.adapter import derives_from
from covey.envs.adapters.foreign_spaces import as_gymnasium
from covey.envs.agent_arrays import agent_arrays
from covey.envs.arrays import SlotArrays
from covey.envs.slots import Fault
from covey.spaces import MASK_KEY, EnvironmentSpaces

EVERYBODY = "__all__"
"""JaxMARL's key for the end of the episode."""


class JaxMARLCopies:
    """A JaxMARL environment as a `BatchedEnvironment`: one compiled call steps all copies, those not named stay.

    Args:
        env: What `jaxmarl.make` returns.
        num_envs: The number of copies.
    """

    asynchronous = False
    arrays: SlotArrays

    def __init__(self, env: Any, num_envs: int) -> None:
        import jax  # pyright: ignore[reportMissingImports]

        self.env, self.count = env, num_envs
        self.possible_agents = [str(agent) for agent in env.agents]
        self._masked = _has_masks(env)
        self._spaces = {}
        for agent in self.possible_agents:
            seen, does = as_gymnasium(env.observation_space(agent)), as_gymnasium(env.action_space(agent))
            if self._masked:
                mask = gymnasium.spaces.Box(0, 1, (int(does.n),), np.int8)
                seen = gymnasium.spaces.Dict({"observation": seen, MASK_KEY: mask})
            self._spaces[agent] = seen, does

        def begin(seeds: Any, states: Any, chosen: Any) -> Any:
            """Begin an episode in the copies chosen; returns what all of them see, and their states."""
            keys = jax.vmap(jax.random.PRNGKey)(seeds)
            seen, new = jax.vmap(env.reset)(keys)
            # Each copy has a key of its own, from its seed: what its steps draw follows from that alone.
            own = new, jax.vmap(lambda key: jax.random.fold_in(key, 1))(keys)
            states = own if states is None else _selected(jax, chosen, own, states)
            return seen, states, self._masks(jax, states[0])

        def advance(states: Any, actions: Any, chosen: Any) -> Any:
            """Make an env step in the copies chosen, without JaxMARL's reset by itself."""
            keys = jax.vmap(jax.random.split)(states[1])
            seen, new, rewards, dones, _ = jax.vmap(env.step_env)(keys[:, 0], states[0], actions)
            states = _selected(jax, chosen, (new, keys[:, 1]), states)
            return seen, states, rewards, dones, self._masks(jax, states[0])

        self._begin, self._advance = jax.jit(begin), jax.jit(advance)
        self._states: Any = None  # of the environment and of the generators, by copy

    def observation_space(self, agent: str) -> gymnasium.Space[Any]:
        """Return the observation space of an agent in one copy."""
        return self._spaces[agent][0]  # type: ignore[no-any-return]

    def action_space(self, agent: str) -> gymnasium.Space[Any]:
        """Return the action space of an agent in one copy."""
        return self._spaces[agent][1]  # type: ignore[no-any-return]

    def attach(self, spaces: EnvironmentSpaces, arrays: SlotArrays) -> None:
        """Take the arrays to write to."""
        self.arrays = arrays
        self._agents = agent_arrays(spaces, arrays)

    def reset(self, slots: Sequence[int], seeds: Sequence[int]) -> list[Fault]:
        """Begin an episode in each slot given, with its seed."""
        every = np.zeros(self.count, np.uint32)
        every[slots] = np.asarray(seeds, np.int64).astype(np.uint32)
        seen, self._states, masks = self._begin(every, self._states, self._chosen(slots))
        at = np.asarray(slots)
        for name, agent in self._agents.items():
            agent.observation[at] = np.asarray(seen[name])[at]
            self._write_mask(name, at, masks, np.ones(len(at), bool))
        for array in (self.arrays.reward, self.arrays.terminated, self.arrays.truncated):
            array[at] = 0
        self.arrays.living[at] = self.arrays.present[at] = 1
        return []

    def step(self, slots: Sequence[int], actions: Sequence[NDArray[Any]]) -> list[Fault]:
        """Make one env step in each slot given; an agent whose `done` is set has ended, `__all__` ends everybody."""
        at = np.asarray(slots)
        given = {}
        for name, agent in self._agents.items():
            rows = np.zeros((self.count, *agent.forced.shape[1:]), agent.forced.dtype)
            rows[at] = agent.actions(actions)[at]
            given[name] = rows
        result = self._advance(self._states, given, self._chosen(slots))
        seen, self._states, rewards, dones, masks = result
        over = np.asarray(dones[EVERYBODY])[at]
        for name, agent in self._agents.items():
            lived = agent.living[at] > 0
            done = lived & (np.asarray(dones[name])[at] | over)
            shown = np.asarray(seen[name])[at]
            agent.observation[at] = np.where(lived.reshape(-1, *[1] * (shown.ndim - 1)), shown, 0)
            agent.reward[at] = np.where(lived, np.asarray(rewards[name])[at], 0.0)
            agent.terminated[at], agent.truncated[at] = done, 0
            agent.living[at] = agent.present[at] = lived & ~done
            self._write_mask(name, at, masks, lived & ~done)
        return []

    def close(self) -> None:
        """Nothing to give back: JaxMARL environments hold memory alone."""

    def _chosen(self, slots: Sequence[int]) -> NDArray[np.bool_]:
        chosen = np.zeros(self.count, bool)
        chosen[slots] = True
        return chosen

    def _masks(self, jax: Any, states: Any) -> Any:
        return jax.vmap(self.env.get_avail_actions)(states) if self._masked else {}

    def _write_mask(self, name: str, at: NDArray[Any], masks: Any, acts: NDArray[np.bool_]) -> None:
        mask = self._agents[name].mask
        if mask is not None:
            mask[at] = np.where(acts[:, None], np.asarray(masks[name])[at] > 0, 0)


def recognise_jaxmarl(env: Any) -> str:
    """Whether an object is a JaxMARL environment; in words."""
    return "a JaxMARL environment" if derives_from(env, "jaxmarl", "MultiAgentEnv") else ""


def _selected(jax: Any, chosen: Any, new: Any, old: Any) -> Any:
    """Of each copy the new state where it is chosen, else the old one."""
    return jax.tree.map(lambda a, b: jax.numpy.where(chosen.reshape(-1, *[1] * (a.ndim - 1)), a, b), new, old)


def _has_masks(env: Any) -> bool:
    """Whether the environment says which actions are available: its class has overridden the base class's method."""
    own = getattr(type(env), "get_avail_actions", None)
    bases = [c for c in type(env).__mro__ if c.__name__ == "MultiAgentEnv"]
    return own is not None and own is not getattr(bases[0], "get_avail_actions", None)
