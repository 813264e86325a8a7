"""VMAS environments, which step many copies in torch, as covey's batched environments.

VMAS steps all its copies in every call; covey steps those that it names. So what the others held is put back after the
call. torch is never imported here: VMAS brings its own tensors.
"""

from __future__ import annotations

import contextlib
import types
from collections.abc import Iterator, MutableMapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from covey.envs.adapters.adapter import derives_from
from covey.envs.adapters.foreign_spaces import as_gymnasium
from covey.envs.agent_arrays import agent_arrays
from covey.envs.arrays import SlotArrays
from covey.envs.slots import Fault
from covey.spaces import EnvironmentSpaces


class VMASCopies:
    """A VMAS environment as a `BatchedEnvironment`.

    Args:
        env: What `vmas.make_env` returns.
        num_envs: Its number of copies.
    """

    asynchronous = False
    arrays: SlotArrays

    def __init__(self, env: Any, num_envs: int) -> None:
        self.env, self.count = env, int(env.num_envs)  # which may not be what was asked for
        del num_envs
        spaces = [_in_order(env, space) for space in (env.observation_space, env.action_space)]
        self._spaces = {agent.name: pair for agent, *pair in zip(env.agents, *spaces, strict=True)}
        self.possible_agents = list(self._spaces)
        env.dict_spaces, env.terminated_truncated = False, True  # lists, and each flag on its own

    def observation_space(self, agent: str) -> gymnasium.Space[Any]:
        """Return the observation space of an agent in one copy."""
        return self._spaces[agent][0]  # type: ignore[no-any-return]

    def action_space(self, agent: str) -> gymnasium.Space[Any]:
        """Return the action space of an agent in one copy."""
        return self._spaces[agent][1]  # type: ignore[no-any-return]

    def attach(self, spaces: EnvironmentSpaces, arrays: SlotArrays) -> None:
        """Take the arrays to write to."""
        self.arrays = arrays
        self._agents = list(agent_arrays(spaces, arrays).values())

    def reset(self, slots: Sequence[int], seeds: Sequence[int]) -> list[Fault]:
        """Begin an episode in each slot given, with its seed."""
        for slot, seed in zip(slots, seeds, strict=True):
            self.env.seed(int(seed))
            self.env.reset_at(slot, return_observations=False)
        return self._begin(slots)

    def reset_batch(self, slots: Sequence[int], seed: int) -> list[Fault]:
        """Begin an episode in each slot given, all of them drawn from one seed."""
        self.env.seed(int(seed))
        if len(slots) == self.count:
            self.env.reset(return_observations=False)
        else:
            for slot in slots:
                self.env.reset_at(slot, return_observations=False)
        return self._begin(slots)

    def step(self, slots: Sequence[int], actions: Sequence[NDArray[Any]]) -> list[Fault]:
        """Make one env step in each slot given; the state of the others is put back."""
        given = []
        for agent in self._agents:
            rows = np.zeros((self.count, *agent.forced.shape[1:]), agent.forced.dtype)
            rows[slots] = agent.actions(actions)[slots]
            given.append(self.env.steps.new_tensor(rows.reshape(self.count, -1).astype(np.float32)))
        stepping = set(slots)
        others = [s for s in range(self.count) if s not in stepping]
        held = list(_tensors(self.env, self.count)) if others else []
        before = [owner[key].clone() for owner, key in held]
        seen, rewards, terminated, truncated, _ = self._stepped(given)
        _put_back(held, before, others)
        at = np.asarray(slots)
        ended, cut = _array(terminated)[at] > 0, _array(truncated)[at] > 0
        for agent, shown, reward in zip(self._agents, seen, rewards, strict=True):
            agent.observation[at] = _array(shown)[at]
            agent.reward[at] = _array(reward).reshape(self.count)[at]  # some scenarios give a column
        self.arrays.terminated[at], self.arrays.truncated[at] = ended[:, None], cut[:, None]
        self.arrays.living[at] = self.arrays.present[at] = ~(ended | cut)[:, None]
        return []

    def close(self) -> None:
        """Nothing to give back: VMAS environments hold memory alone."""

    def _begin(self, slots: Sequence[int]) -> list[Fault]:
        """Show the first observations of these slots."""
        at = np.asarray(slots)
        (seen,) = self.env.get_from_scenario(
            get_observations=True, get_rewards=False, get_infos=False, get_dones=False, dict_agent_names=False
        )
        for agent, shown in zip(self._agents, seen, strict=True):
            agent.observation[at] = _array(shown)[at]
        for array in (self.arrays.reward, self.arrays.terminated, self.arrays.truncated):
            array[at] = 0
        self.arrays.living[at] = self.arrays.present[at] = 1
        return []

    def _stepped(self, given: list[Any]) -> tuple[Any, Any, Any, Any, Any]:
        """Step all copies; without a limit of steps VMAS gives None for truncated."""
        seen, rewards, terminated, *rest = self.env.step(given)
        truncated, infos = rest if len(rest) == 2 else (terminated.new_zeros(terminated.shape), rest[0])
        return seen, rewards, terminated, truncated, infos


def recognise_vmas(env: Any) -> str:
    """Whether an object is a VMAS environment; in words."""
    return "a VMAS environment" if derives_from(env, "vmas", "Environment") else ""


def _in_order(env: Any, space: Any) -> list[Any]:
    """Each agent's space, of VMAS's Tuple or, with `dict_spaces`, its Dict."""
    inner = as_gymnasium(space).spaces
    return list(inner) if isinstance(inner, tuple) else [inner[agent.name] for agent in env.agents]


def _array(tensor: Any) -> NDArray[Any]:
    return tensor.detach().cpu().numpy()  # type: ignore[no-any-return]


def _is_tensor(value: Any) -> bool:
    return type(value).__module__.partition(".")[0] == "torch" and hasattr(value, "new_tensor")


def _tensors(root: Any, count: int) -> Iterator[tuple[Any, Any]]:
    """Where the environment keeps a tensor with a row for each copy: the dictionary or list, and the key or index.

    Scenarios keep what they like, so all objects are followed that belong to VMAS or to a scenario.
    """
    seen: set[int] = set()
    ahead = [root]
    while ahead:
        owner = ahead.pop()
        if id(owner) in seen:
            continue
        seen.add(id(owner))
        items: list[tuple[Any, Any]] = []
        if isinstance(owner, MutableMapping):
            items = list(owner.items())
        elif isinstance(owner, list | tuple):
            items = list(enumerate(owner))
        elif hasattr(owner, "__dict__") and not isinstance(owner, types.ModuleType) and not callable(owner):
            owner = vars(owner)
            items = list(owner.items())
        for key, value in items:
            if _is_tensor(value):
                if value.ndim and value.shape[0] == count and not isinstance(owner, tuple):
                    yield owner, key
            elif isinstance(value, MutableMapping | list | tuple) or hasattr(value, "__dict__"):
                ahead.append(value)


def _put_back(held: list[tuple[Any, Any]], before: list[Any], others: list[int]) -> None:
    """Give the copies that were not to be stepped the rows that they had; tensors that are one object stay one."""
    replaced: dict[int, Any] = {}
    kept = []  # so that no new tensor gets the identity of one that is gone
    for (owner, key), old in zip(held, before, strict=True):
        with contextlib.suppress(KeyError, IndexError):
            now = owner[key]
            if not _is_tensor(now) or now.shape != old.shape or now.dtype != old.dtype:
                continue
            if id(now) not in replaced:
                new = now.clone()
                new[others] = old[others]
                replaced[id(now)] = new
                kept.append(now)
            owner[key] = replaced[id(now)]
