"""Steps copies of an environment one after the other in this process.

Dims: S slots, A agents, N agents of a group; the layout of arrays is that of `covey.envs.arrays`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from covey.envs.arrays import SlotArrays
from covey.envs.loading import MakeEnv
from covey.envs.returned import (
    check_names,
    check_somebody,
    mask_array,
    reset_parts,
    reward_number,
    split_mask,
    step_parts,
    write_observation,
)
from covey.envs.slots import Fault, describe
from covey.envs.state import write_state
from covey.errors import EnvironmentLoadError
from covey.rows import Active
from covey.spaces import (
    FORCED_KEY,
    MASK_KEY,
    EnvironmentSpaces,
    Leaf,
    LeafSpace,
    at_path,
    leaf_arrays,
    leaves,
    masked_choices,
    nested,
)

if TYPE_CHECKING:
    from pettingzoo import ParallelEnv

Entry = tuple[int, str, int, int, list[tuple[Leaf, NDArray[Any]]]]
"""An agent in a slot: its column, agent id, group, index in the group, and a view for each leaf of its observation."""


class SyncSlots:
    """Copies of an environment, stepped one after the other in this process, and built when first reset.

    An agent acts in the next step if the environment gives it an observation; one that lives without waits. An agent
    that leaves the environment without a flag is truncated.

    Args:
        make_env: Builds a parallel environment: one function for all slots, or one for each.
        spaces: Spaces of the environments.
        count: Number of environments, S.
        arrays: The arrays to write to; new ones if None.

    Raises:
        EnvironmentLoadError: in `reset` and `step`, an agent waits though `spaces` are not asynchronous, or the state
            has another shape or dtype than that of `spaces`.
    """

    def __init__(
        self,
        make_env: MakeEnv | Sequence[MakeEnv],
        spaces: EnvironmentSpaces,
        count: int,
        arrays: SlotArrays | None = None,
    ) -> None:
        self.count = count
        self.arrays = SlotArrays.zeros(spaces, count) if arrays is None else arrays
        self._make_env = [make_env] * count if callable(make_env) else list(make_env)
        self._spaces = spaces
        self._envs: list[ParallelEnv[str, Any, Any] | None] = [None] * count
        self._masked = any(g.masked for g in spaces.groups)
        self._ids = dict.fromkeys(spaces.agent_ids)  # in their order, for looking names up
        # Per group, where the values of each choice begin in a mask.
        self._choices = [[0, *accumulate(n for n, _ in masked_choices(g.action))][:-1] for g in spaces.groups]
        # Agents whose actions environments get as dictionaries or tuples.
        self._nested = {a.agent_id: a.action for a in spaces.agents if not isinstance(a.action, LeafSpace)}
        # What every step needs to know of each agent, looked up once. Agents are in the environment's order, in which
        # their actions are given to it.
        where = [(g, n) for g, group in enumerate(spaces.groups) for n in range(len(group))]
        ordered = sorted(enumerate(where), key=lambda at: spaces.groups[at[1][0]].agents[at[1][1]])
        self._all: list[list[Entry]] = [
            [
                (
                    p,
                    spaces.agents[spaces.groups[g].agents[n]].agent_id,
                    g,
                    n,
                    self._views(g, s, n),
                )
                for p, (g, n) in ordered
            ]
            for s in range(count)
        ]
        self._acting: list[list[Entry]] = [[] for _ in range(count)]
        # Whether, in the last step, all living agents acted by their own choice, without masks, and nobody ended. If
        # that is so again, only observations and rewards have to be written: `present` and the flags stay as they are.
        self._steady = [False] * count

    def reset(self, slots: Sequence[int], seeds: Sequence[int], options: dict[str, Any] | None = None) -> list[Fault]:
        """Begin an episode in each environment given, with its seed; returns a report for each that raised."""
        extra = {} if options is None else {"options": options}  # some environments' reset does not take any
        faults = []
        for s, seed in zip(slots, seeds, strict=True):
            try:
                env = self.environment(s)
                seen, infos = reset_parts(env.reset(seed=seed, **extra))
                check_somebody(env.agents)
                self.arrays.living[s] = 0
                self._write(s, env.agents, seen, {}, {}, {}, infos)
                state = None if self.arrays.state is None else env.state()
            except Exception as exc:
                faults.append(self._discard(s, exc))
                continue
            self._check_acting(s)
            self._keep_state(s, state)
        return faults

    def step(self, slots: Sequence[int], actions: Sequence[NDArray[Any]]) -> list[Fault]:
        """Make one env step of each environment given; returns a report for each that raised."""
        faults = []
        reward = self.arrays.reward
        for s in slots:
            acting = self._acting[s]
            steady = self._steady[s]
            quick = False
            env = self._envs[s]
            try:
                given = {agent: actions[g][s, n] for _, agent, g, n, _ in acting}
                if not steady:
                    self._force(s, given)
                for agent, space in self._nested.items():
                    if agent in given:
                        given[agent] = nested(space, given[agent])
                seen, rewards, terminated, truncated, infos = step_parts(env.step(given))  # type: ignore[union-attr]
                agents = env.agents  # type: ignore[union-attr]
                state = None if self.arrays.state is None else env.state()  # type: ignore[union-attr]
                # The usual case, and the fast one: all act as before, and only observations and rewards are new.
                if (
                    steady
                    and True not in terminated.values()
                    and True not in truncated.values()
                    and len(seen) == len(acting)
                    and len(agents) == len(acting)
                    and len(rewards) == len(acting)
                    and not (any(infos.values()) and any(FORCED_KEY in infos.get(a[1], ()) for a in acting))
                ):
                    for p, agent, _, _, views in acting:
                        if agent not in seen or agent not in rewards:  # as many as before, but others
                            break
                        write_observation(seen[agent], views, agent)
                        reward[s, p] = reward_number(rewards[agent], agent)
                    else:
                        quick = True
                if not quick:
                    self._write(s, agents, seen, rewards, terminated, truncated, infos)
            except Exception as exc:
                faults.append(self._discard(s, exc))
                continue
            self._keep_state(s, state)
            if not quick:
                self._check_acting(s)
        return faults

    def environment(self, slot: int) -> ParallelEnv[str, Any, Any]:
        """Return the environment of this number, building it if there is none."""
        env = self._envs[slot]
        if env is None:
            env = self._envs[slot] = self._make_env[slot]()
        return env

    def close(self) -> None:
        """Close all environments."""
        for s, env in enumerate(self._envs):
            self._envs[s] = None
            if env is not None:
                with contextlib.suppress(Exception):  # it may raise anything, and nobody needs it any more
                    env.close()

    def _write(
        self,
        s: int,
        agents: Sequence[str],
        seen: Mapping[str, Any],
        rewards: Mapping[str, float],
        terminated: Mapping[str, bool],
        truncated: Mapping[str, bool],
        infos: Mapping[str, Mapping[str, Any]],
    ) -> None:
        """Write to the arrays what an environment's reset or step returned, and note which agents act next.

        Handles every case: agents that end, appear, wait, or act as the environment says.
        """
        arrays = self.arrays
        check_names(
            self._ids, agents, observations=seen, rewards=rewards, terminations=terminated, truncations=truncated
        )
        remaining = set(agents)
        self._acting[s] = acting = []
        steady = not self._masked
        for entry in self._all[s]:
            p, agent, g, n, views = entry
            lived = bool(arrays.living[s, p])
            ended = lived and bool(terminated.get(agent, False))
            cut = lived and (bool(truncated.get(agent, False)) or (agent not in remaining and not ended))
            lives = agent in remaining and not ended and not cut
            arrays.reward[s, p] = reward_number(rewards.get(agent, 0.0), agent) if lived else 0.0
            arrays.terminated[s, p], arrays.truncated[s, p], arrays.living[s, p] = ended, cut, lives
            arrays.present[s, p] = Active.ABSENT
            mask = arrays.mask[g]
            if lives and agent in seen:
                info = infos.get(agent) or {}
                forced = self._read_forced(s, g, n, info)
                arrays.present[s, p] = Active.FORCED if forced else Active.CHOSE
                steady = steady and not forced
                acting.append(entry)
                if mask is None:
                    write_observation(seen[agent], views, agent)
                else:
                    self._read_masked(entry, mask[s, n], seen[agent], info, forced)
                continue
            steady = steady and not lives and not lived
            if lived and lives:
                continue  # waits: its observation and mask stay those with which it last acted
            if lived and agent in seen:
                last = seen[agent] if mask is None else split_mask(seen[agent])[0]
                write_observation(last, views, agent)
            elif not lived:
                for _, view in views:
                    view[...] = 0
            if mask is not None:
                mask[s, n] = 0
        self._steady[s] = steady

    def _read_masked(
        self, entry: Entry, legal: NDArray[np.uint8], seen: Any, info: Mapping[str, Any], forced: bool
    ) -> None:
        """Write the observation and the action mask of an agent that is to act to the arrays."""
        _, agent, g, _, views = entry
        value, mask = split_mask(seen)
        write_observation(value, views, agent)
        if mask is None:
            mask = info.get(MASK_KEY)
        if mask is None:
            legal[...] = 1
            return
        legal[...] = np.not_equal(mask_array(mask, len(legal), agent, self._spaces.groups[g].action), 0)
        if not forced and not np.logical_or.reduceat(legal, self._choices[g]).all():
            raise EnvironmentLoadError(f"environment: agent {agent!r} is to act, but its {MASK_KEY} allows no action")

    def _read_forced(self, s: int, g: int, n: int, info: Mapping[str, Any]) -> bool:
        """Write the action that an environment forces on an agent to the arrays; returns whether there is one."""
        value = info.get(FORCED_KEY)
        if value is None:
            return False
        space = self._spaces.groups[g].action
        values = [at_path(value, leaf.path) for leaf in leaves(space)]
        if any(np.isnan(part).any() for part in values):
            return False
        for part, target in zip(values, leaf_arrays(space, self.arrays.forced[g][s, n, ...]), strict=True):
            target[...] = np.reshape(part, target.shape)
        return True

    def _views(self, g: int, s: int, n: int) -> list[tuple[Leaf, NDArray[Any]]]:
        """Return the leaves of an agent's observation in a slot, each with a view of the arrays to write it to."""
        space = self._spaces.groups[g].observation
        return list(zip(leaves(space), leaf_arrays(space, self.arrays.observation[g][s, n, ...]), strict=True))

    def _force(self, s: int, given: dict[str, Any]) -> None:
        """Replace the actions that agents chose by the environment's own where it forces one on them."""
        for p, agent, g, n, _ in self._acting[s]:
            if self.arrays.present[s, p] == Active.FORCED:
                given[agent] = self.arrays.forced[g][s, n].copy()

    def _check_acting(self, s: int) -> None:
        """Raise if an agent does not act although the environment was found to let all agents act in every step."""
        if self._spaces.asynchronous:
            return
        for p, agent, *_ in self._all[s]:
            if self.arrays.living[s, p] and not self.arrays.present[s, p]:
                wanted = "agents that wait to do so from the first episode on"
                if (frames := self._spaces.frame_stack) > 1:
                    wanted = f"one in every env step, as environment.frame_stack is {frames}; leave that out"
                raise EnvironmentLoadError(
                    f"environment: living agent {agent!r} got no observation, but in its first episode all agents did; "
                    f"expected {wanted}"
                )

    def _keep_state(self, s: int, state: Any) -> None:
        """Write an environment's state to the arrays, where it is asked for."""
        if self.arrays.state is not None:
            write_state(state, self.arrays.state[s])

    def _discard(self, s: int, exc: Exception) -> Fault:
        """Close and drop an environment that raised; returns the report of its error."""
        env, self._envs[s] = self._envs[s], None
        self._acting[s] = []
        if env is not None:
            with contextlib.suppress(Exception):  # a broken environment may raise again
                env.close()
        return Fault(s, describe(exc))
