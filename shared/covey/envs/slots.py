"""Slots: N copies of one environment, stepped together into stacked arrays.

Dims: S slots, A agents, N agents of a group. Where agents share one axis A they stand group by group ("columns"), in
the order of `EnvironmentSpaces.groups` and of each group's agents, so that a group is a slice.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from covey.envs.loading import MakeEnv, describe
from covey.errors import EnvironmentLoadError
from covey.spaces import EnvironmentSpaces

if TYPE_CHECKING:
    from pettingzoo import ParallelEnv


@dataclass(frozen=True, slots=True)
class Fault:
    """An environment raised; the slot holds a fresh copy now and needs a reset."""

    slot: int
    message: str  # one line: type and message


class Slots(Protocol):
    """What collecting needs of environments, however they are stepped.

    The arrays belong to the slots and are written in place by `reset` and `step`, for the slots given and no others.
    Nothing resets itself: after an episode's end the arrays hold its true last observations until `reset`.
    """

    count: int
    observation: tuple[NDArray[Any], ...]  # one (S, N, *shape) per group; zeros for agents that are not there
    reward: NDArray[np.float64]  # (S, A), of the last step
    terminated: NDArray[np.uint8]  # (S, A), of the last step
    truncated: NDArray[np.uint8]  # (S, A), of the last step
    present: NDArray[np.uint8]  # (S, A), 1: is to act in the next step

    def reset(self, slots: Sequence[int], seeds: Sequence[int]) -> list[Fault]:
        """Begin an episode in each slot given, with its seed."""
        ...

    def step(self, slots: Sequence[int], actions: Sequence[NDArray[Any]]) -> list[Fault]:
        """One env step of each slot given.

        Args:
            slots: Distinct slots whose episodes run.
            actions: One (S, N, *shape) per group, in the space's own units. Environments may keep what they are
                given: pass fresh arrays every time.
        """
        ...

    def close(self) -> None:
        """Close all environments."""
        ...


class SyncSlots:
    """Slots stepped one after the other in this process; environments are built when first reset.

    Raises:
        EnvironmentLoadError: (in `reset` and `step`) a living agent was given no observation: agents that take
            turns are not served.
    """

    def __init__(self, make_env: MakeEnv, spaces: EnvironmentSpaces, count: int) -> None:
        self.count = count
        self._make_env = make_env
        self._envs: list[ParallelEnv[str, Any, Any] | None] = [None] * count
        where = [(g, n) for g, group in enumerate(spaces.groups) for n in range(len(group))]
        self._ids = [spaces.agents[spaces.groups[g].agents[n]].agent_id for g, n in where]
        agents = len(where)
        self.observation = tuple(
            np.zeros((count, len(g), *g.observation.shape), g.observation.dtype) for g in spaces.groups
        )
        self.reward = np.zeros((count, agents))
        self.terminated = np.zeros((count, agents), np.uint8)
        self.truncated = np.zeros((count, agents), np.uint8)
        self.present = np.zeros((count, agents), np.uint8)
        # Everything that a step would look up again and again, once: (column, agent id, group, index in the group,
        # the view its observation is written to), in the environment's order, which actions are given in.
        ordered = sorted(enumerate(where), key=lambda at: spaces.groups[at[1][0]].agents[at[1][1]])
        self._all = [
            [(p, self._ids[p], g, n, self.observation[g][s, n, ...]) for p, (g, n) in ordered] for s in range(count)
        ]
        self._alive = [list[tuple[int, str, int, int, NDArray[Any]]]() for _ in range(count)]
        # Whether an agent ended in the last step: its last observation and flags are to be cleared in the next.
        self._stale = [False] * count

    def reset(self, slots: Sequence[int], seeds: Sequence[int]) -> list[Fault]:
        """As `Slots.reset`."""
        faults = []
        for s, seed in zip(slots, seeds, strict=True):
            try:
                env = self._envs[s]
                if env is None:
                    env = self._envs[s] = self._make_env()
                seen, _ = env.reset(seed=seed)
                living = set(env.agents)
                for p, agent, _, _, view in self._all[s]:
                    self.present[s, p] = agent in living
                    view[...] = seen[agent] if agent in living and agent in seen else 0
            except Exception as exc:
                faults.append(self._discard(s, exc))
                continue
            self._check_seen(living, seen)
            self._alive[s] = [a for a in self._all[s] if a[1] in living]
            self.reward[s] = 0
            self.terminated[s] = 0
            self.truncated[s] = 0
            self._stale[s] = False
        return faults

    def step(self, slots: Sequence[int], actions: Sequence[NDArray[Any]]) -> list[Fault]:
        """As `Slots.step`."""
        faults = []
        reward = self.reward
        for s in slots:
            alive = self._alive[s]
            env = self._envs[s]
            try:
                seen, rewards, terminated, truncated, _ = env.step(  # type: ignore[union-attr]
                    {agent: actions[g][s, n] for _, agent, g, n, _ in alive}
                )
                for p, agent, _, _, view in alive:
                    if agent in seen:
                        view[...] = seen[agent]
                    reward[s, p] = rewards[agent]
                # Agents come and go seldom; as long as nobody does, the masks stand as they are.
                changed = (
                    self._stale[s]
                    or True in terminated.values()
                    or True in truncated.values()
                    or len(seen) != len(alive)
                    or len(env.agents) != len(alive)  # type: ignore[union-attr]
                )
                living = set(env.agents) if changed else None  # type: ignore[union-attr]
            except Exception as exc:
                faults.append(self._discard(s, exc))
                continue
            if living is not None:
                self._regroup(s, living, seen, terminated, truncated)
        return faults

    def close(self) -> None:
        """As `Slots.close`."""
        for s, env in enumerate(self._envs):
            self._envs[s] = None
            if env is not None:
                with contextlib.suppress(Exception):  # foreign code, and nobody needs the environment any more
                    env.close()

    def _regroup(
        self, s: int, living: set[str], seen: dict[str, Any], terminated: dict[str, bool], truncated: dict[str, bool]
    ) -> None:
        """Bring masks and observations of a slot up to date after agents ended or appeared."""
        acted = {a[0] for a in self._alive[s]}
        self._alive[s] = []
        self._stale[s] = False
        self.reward[s, [p for p in range(len(self._ids)) if p not in acted]] = 0
        for entry in self._all[s]:
            p, agent, _, _, view = entry
            self.terminated[s, p] = ended = p in acted and bool(terminated.get(agent, False))
            self.truncated[s, p] = cut = p in acted and bool(truncated.get(agent, False))
            stays = agent in living and not ended and not cut
            self.present[s, p] = stays
            if stays:
                self._alive[s].append(entry)
            elif p in acted:
                self._stale[s] = True
            if p not in acted:  # ended in an earlier step, or new
                view[...] = seen[agent] if stays and agent in seen else 0
        self._check_seen({a[1] for a in self._alive[s]}, seen)

    def _check_seen(self, living: set[str], seen: dict[str, Any]) -> None:
        blind = sorted(living - seen.keys())
        if blind:
            raise EnvironmentLoadError(
                f"environment: living agent {blind[0]!r} got no observation, so it does not act in every step; "
                "environments whose agents take turns are not served, expected observations for all living agents"
            )

    def _discard(self, s: int, exc: Exception) -> Fault:
        env, self._envs[s] = self._envs[s], None
        self._alive[s] = []
        if env is not None:
            with contextlib.suppress(Exception):  # it is broken already
                env.close()
        return Fault(s, describe(exc))
