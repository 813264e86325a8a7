"""Vectorised environments for library users: PettingZoo's parallel API over several copies at once.

Thin faces over slots (`covey.envs.sync_slots`, `covey.envs.processes`), which step the copies and hold what they show.
Dims: E environments.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import gymnasium
import numpy as np
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from covey.envs.arrays import SlotArrays
from covey.envs.copies import Copy, call, get, parallel, put
from covey.envs.loading import MakeEnv
from covey.envs.processes import AsyncSlots
from covey.envs.reading import declared_spaces, read_spaces
from covey.envs.slots import Fault
from covey.envs.sync_slots import SyncSlots
from covey.envs.worker import apply
from covey.errors import EnvironmentLoadError
from covey.rows import Active
from covey.spaces import FORCED_KEY, MASK_KEY, EnvironmentSpaces

MAX_FAILURES_IN_A_ROW = 3
"""An environment that fails so often without one good step between is given up."""

ByAgent = dict[str, NDArray[Any]]
Step = tuple["Observations", ByAgent, ByAgent, ByAgent, dict[str, Any]]


class Observations(dict[str, NDArray[Any]]):
    """What each agent sees, (E, *shape) by agent id; after an episode's end, the first observation of the next one.

    Attributes:
        final: By agent (E, *shape), the true successors of what was seen before: where an episode ended its last
            observation, elsewhere the same as here.
        ended: (E,) bool, whether the episode ended in this step.
        now: All that the environments show, with who is to act.
        after: The same before those whose episode ended began the next; zeros where one broke.
        spaces: Of the environments.
    """

    def __init__(
        self,
        seen: Mapping[str, NDArray[Any]],
        final: ByAgent,
        ended: NDArray[np.bool_],
        now: SlotArrays,
        after: SlotArrays,
        spaces: EnvironmentSpaces,
    ) -> None:
        super().__init__(seen)
        self.final = final
        self.ended = ended
        self.now, self.after = now, after
        self.spaces = spaces


S = TypeVar("S", bound=SyncSlots | AsyncSlots)


class PettingZooVecEnv(ABC, Generic[S]):
    """Copies of an environment, stepped together; an episode that is over is followed by the next in the same step.

    Arrays are fresh in every call. Nothing is ever NaN: an agent that waits, or is not there, shows what it last saw,
    or zeros. `infos[agent]["active"]` (E,) says who is to act: 0 not there or waiting, 1 to act, 2 acts as the
    environment says, by `infos[agent]["env_defined_actions"]` (E, *shape). `infos[agent]["action_mask"]` (E, width)
    is 1 where an action is legal. An environment that raises, or whose process ends or hangs, is built again: in its
    row all agents are truncated, their last observations final, and `infos["_fault"]` lists what happened.

    Args:
        env_fns: Build the environments, which must have equal agents and spaces: parallel ones, or AEC ones.

    Raises:
        EnvironmentLoadError: an environment cannot be built or used; one that fails three times in a row is named.
        SpaceError: spaces that are not served.

    Attributes:
        num_envs: E.
        spaces: Agents, their spaces and their groups.
        slots: What steps the environments.
        copies: Build them, one function each.
    """

    slots: S

    def __init__(self, env_fns: Sequence[Callable[[], Any]]) -> None:
        if not env_fns:
            raise EnvironmentLoadError("environments: expected at least one function that builds one, got none")
        self.num_envs = len(env_fns)
        env = parallel(env_fns[0]())
        self.spaces = read_spaces(env)
        self.metadata: dict[str, Any] = getattr(env, "metadata", {})
        self.render_mode: str | None = getattr(env, "render_mode", None)
        self._gymnasium_spaces = declared_spaces(env)
        env.close()
        self.possible_agents = list(self.spaces.agent_ids)
        self.agents = list(self.possible_agents)
        # Of each agent, in the environment's order: its column, its group, its place in the group.
        where = [(g, n) for g, group in enumerate(self.spaces.groups) for n in range(len(group))]
        column = {self.spaces.groups[g].agents[n]: (p, g, n) for p, (g, n) in enumerate(where)}
        self._where = {agent: column[i] for i, agent in enumerate(self.possible_agents)}
        self.copies: list[MakeEnv] = [Copy(make, self._gymnasium_spaces) for make in env_fns]
        self._rng = np.random.default_rng()
        self._failures = [0] * self.num_envs
        self._seen: ByAgent | None = None
        self._stepping = False
        shape = (len(self.agents), self.num_envs)
        # Whether an agent has ended since its episode began.
        self._terminated, self._truncated = np.zeros(shape, np.bool_), np.zeros(shape, np.bool_)

    def single_observation_space(self, agent: str) -> gymnasium.Space[Any]:
        """Observations of an agent as its environment declares them; a dictionary where they carry masks."""
        return self._gymnasium_spaces[agent][0]

    def single_action_space(self, agent: str) -> gymnasium.Space[Any]:
        """Actions of an agent in one environment."""
        return self._gymnasium_spaces[agent][1]

    def observation_space(self, agent: str) -> gymnasium.Space[Any]:
        """Observations of an agent in all environments, without masks."""
        space = self.single_observation_space(agent)
        return batch_space(space["observation"] if isinstance(space, gymnasium.spaces.Dict) else space, self.num_envs)

    def action_space(self, agent: str) -> gymnasium.Space[Any]:
        """Actions of an agent in all environments."""
        return batch_space(self.single_action_space(agent), self.num_envs)

    def reset(
        self, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observations, dict[str, Any]]:
        """Begin an episode in every environment.

        Args:
            seed: Environment i is seeded with seed + i, or seed[i]; what is None is drawn. The seeds of the episodes
                that follow on their own are drawn from a generator seeded by these.
            options: For the environments' `reset`.

        Returns:
            Observations and infos.
        """
        given = [int(seed) + i for i in range(self.num_envs)] if isinstance(seed, int | np.integer) else seed
        seeds = [None] * self.num_envs if given is None else list(given)
        if len(seeds) != self.num_envs:
            raise EnvironmentLoadError(f"reset: {len(seeds)} seeds for {self.num_envs} environments, expected one each")
        if known := [s for s in seeds if s is not None]:
            self._rng = np.random.default_rng(known)
        self._stepping = False
        self._failures = [0] * self.num_envs
        drawn = [self._draw() if s is None else s for s in seeds]
        messages = self._begin_episodes(list(range(self.num_envs)), drawn, options)
        self._seen = self._observe()
        ended, now = np.zeros(self.num_envs, np.bool_), self.slots.arrays.copy()
        return Observations(self._seen, dict(self._seen), ended, now, now, self.spaces), self._infos(messages)

    def step(self, actions: Mapping[str, Any]) -> Step:
        """One env step of every environment.

        Args:
            actions: By agent (E, *shape), in its space's own units; of agents that are not to act anything, or none.

        Returns:
            Observations, rewards (E,), terminations (E,) and truncations (E,) by agent, and infos. An agent that has
            ended stays so up to its episode's last step; one that has not appeared counts as terminated.
        """
        self.step_async(actions)
        return self.step_wait()

    def step_async(self, actions: Mapping[str, Any]) -> None:
        """Begin a step; `step_wait` must follow."""
        if self._seen is None or self._stepping:
            raise EnvironmentLoadError(
                "environments: step while a step is under way; call step_wait first"
                if self._stepping
                else "environments: step before the first episode; call reset first"
            )
        self._begin(self._stack(actions))
        self._stepping = True

    def step_wait(self, timeout: float | None = None) -> Step:
        """Wait for what `step_async` began.

        Args:
            timeout: Seconds after which environments that are not ready are held to hang; None: the slots' own limit.
        """
        if not self._stepping or self._seen is None:
            raise EnvironmentLoadError("environments: step_wait without a step under way; call step_async first")
        self._stepping = False
        faults = self._end(timeout)
        broken = np.zeros(self.num_envs, np.bool_)
        broken[[f.slot for f in faults]] = True
        arrays = self.slots.arrays
        reward = np.where(broken, 0.0, arrays.reward.T)
        living = arrays.living.T.astype(np.bool_)
        self._terminated |= arrays.terminated.T.astype(np.bool_) & ~broken
        self._truncated |= arrays.truncated.T.astype(np.bool_) | broken
        terminated, truncated = self._terminated | ~(living | self._truncated), self._truncated.copy()
        ended = broken | ~living.any(axis=0)
        self._failures = [n if b else 0 for n, b in zip(self._failures, broken, strict=True)]
        messages = [self._fail(f) for f in faults]
        final, after = self._observe(), arrays.copy()
        for fault in faults:
            after.clear(fault.slot)
        if faults:
            for agent, seen in self._seen.items():
                final[agent][broken] = seen[broken]
        self._seen = final
        if ended.any():
            rows = np.flatnonzero(ended)
            messages += self._begin_episodes(rows.tolist(), [self._draw() for _ in rows], None)
            self._seen = {agent: seen.copy() for agent, seen in final.items()}
            for agent, (_, g, n) in self._where.items():
                self._seen[agent][rows] = arrays.observation[g][rows, n]
        return (
            Observations(self._seen, dict(final), ended, arrays.copy() if ended.any() else after, after, self.spaces),
            self._by_agent(reward),
            self._by_agent(terminated),
            self._by_agent(truncated),
            self._infos(messages),
        )

    def interrupt(self) -> None:
        """Somebody else moves the slots from here on: `reset` must come before the next step."""
        self._seen, self._stepping = None, False

    def call(self, name: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Per environment what its method gives, or its attribute if it is none."""
        return self._apply(name, call, [(name, args, kwargs)] * self.num_envs)

    def get_attr(self, name: str) -> tuple[Any, ...]:
        """Per environment its attribute."""
        return self._apply(name, get, [(name,)] * self.num_envs)

    def set_attr(self, name: str, values: Any) -> None:
        """Set an attribute of the outermost wrapper: to the same value everywhere, or to those of a list or tuple."""
        each = list(values) if isinstance(values, list | tuple) else [values] * self.num_envs
        if len(each) != self.num_envs:
            raise EnvironmentLoadError(f"set_attr {name!r}: {len(each)} values for {self.num_envs} environments")
        self._apply(name, put, [(name, value) for value in each])

    def render(self) -> tuple[Any, ...]:
        """Per environment what its `render` gives."""
        return self.call("render")

    def close(self) -> None:
        """Close all environments; again does nothing."""
        self.slots.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @abstractmethod
    def _begin(self, actions: list[NDArray[Any]]) -> None:
        """Begin a step of all slots."""

    @abstractmethod
    def _end(self, timeout: float | None) -> list[Fault]:
        """Finish it."""

    @abstractmethod
    def _each(self, function: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Per environment what the function gives, or a fault."""

    def _apply(self, name: str, function: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]) -> tuple[Any, ...]:
        results = self._each(function, arguments)
        for i, result in enumerate(results):
            if isinstance(result, Fault):
                raise EnvironmentLoadError(f"environment {i}: {name!r}: {result.message}")
        return tuple(results)

    def _draw(self) -> int:
        return int(self._rng.integers(2**31))

    def _fail(self, fault: Fault) -> str:
        self._failures[fault.slot] += 1
        if self._failures[fault.slot] >= MAX_FAILURES_IN_A_ROW:
            raise EnvironmentLoadError(
                f"environment {fault.slot}: failed {MAX_FAILURES_IN_A_ROW} times in a row, at last: {fault.message}"
            )
        return f"environment {fault.slot}: {fault.message}"

    def _begin_episodes(self, envs: list[int], seeds: list[int], options: dict[str, Any] | None) -> list[str]:
        """Reset environments, again with other seeds where that fails; returns what went wrong."""
        messages: list[str] = []
        due = dict(zip(envs, seeds, strict=True))
        while due:
            faults = self.slots.reset(list(due), list(due.values()), options)
            messages += [self._fail(f) for f in faults]
            due = {f.slot: self._draw() for f in faults}
        self._terminated[:, envs] = False
        self._truncated[:, envs] = False
        return messages

    def _stack(self, actions: Mapping[str, Any]) -> list[NDArray[Any]]:
        """Actions as slots take them."""
        present = self.slots.arrays.present
        stacked: list[NDArray[Any]] = [
            np.zeros((self.num_envs, len(group), *group.action.shape), group.action.dtype)
            for group in self.spaces.groups
        ]
        for agent, (p, g, n) in self._where.items():
            target = stacked[g][:, n]
            if agent not in actions:
                if (needed := np.flatnonzero(present[:, p] == Active.CHOSE)).size:
                    raise EnvironmentLoadError(
                        f"actions: none for {agent!r}, which is to act in environment {needed[0]}"
                    )
                continue
            given = np.asarray(actions[agent])
            if given.shape[:1] != target.shape[:1] or given.size != target.size:
                raise EnvironmentLoadError(f"actions of {agent!r}: shape {given.shape}, expected {target.shape}")
            target[...] = given.reshape(target.shape)
        return stacked

    def _observe(self) -> ByAgent:
        """What the slots show, copied."""
        groups = [seen.swapaxes(0, 1).copy() for seen in self.slots.arrays.observation]
        return {agent: groups[g][n] for agent, (_, g, n) in self._where.items()}

    def _by_agent(self, columns: NDArray[Any]) -> ByAgent:
        """Rows of (A, E) by agent."""
        return {agent: columns[p] for agent, (p, _, _) in self._where.items()}

    def _infos(self, messages: list[str]) -> dict[str, Any]:
        arrays = self.slots.arrays
        present = arrays.present.T.copy()
        infos: dict[str, Any] = {}
        for agent, (p, g, n) in self._where.items():
            infos[agent] = {"active": present[p]}
            if (mask := arrays.mask[g]) is not None:
                infos[agent][MASK_KEY] = mask[:, n].copy()
            if Active.FORCED in present[p]:
                infos[agent][FORCED_KEY] = arrays.forced[g][:, n].copy()
        if messages:
            infos["_fault"] = messages
        return infos


class AsyncPettingZooVecEnv(PettingZooVecEnv[AsyncSlots]):
    """Environments in worker processes, several in each where there are more environments than cores.

    Raises:
        EnvironmentLoadError: also where a function cannot be sent to another process.
    """

    def __init__(self, env_fns: Sequence[Callable[[], Any]]) -> None:
        super().__init__(env_fns)
        self.slots = AsyncSlots(self.copies, self.spaces, self.num_envs)

    def _begin(self, actions: list[NDArray[Any]]) -> None:
        self.slots.begin_step(range(self.num_envs), actions)

    def _end(self, timeout: float | None) -> list[Fault]:
        return self.slots.end_step(timeout)

    def _each(self, function: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        return self.slots.apply(range(self.num_envs), function, arguments)


class SyncPettingZooVecEnv(PettingZooVecEnv[SyncSlots]):
    """Environments stepped one after the other in this process."""

    def __init__(self, env_fns: Sequence[Callable[[], Any]]) -> None:
        super().__init__(env_fns)
        self.slots = SyncSlots(self.copies, self.spaces, self.num_envs)
        self._actions: list[NDArray[Any]] = []

    def _begin(self, actions: list[NDArray[Any]]) -> None:
        self._actions = actions

    def _end(self, timeout: float | None) -> list[Fault]:
        del timeout  # nothing runs beside this process
        return self.slots.step(range(self.num_envs), self._actions)

    def _each(self, function: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        return apply(self.slots, range(self.num_envs), function, arguments)


def make_multi_agent_vect_envs(env: Callable[..., Any], num_envs: int = 1, **env_kwargs: Any) -> AsyncPettingZooVecEnv:
    """`num_envs` copies of an environment in worker processes.

    Args:
        env: Builds it.
        num_envs: How many.
        env_kwargs: Keyword arguments of `env`.
    """
    return AsyncPettingZooVecEnv([partial(env, **env_kwargs)] * num_envs)
