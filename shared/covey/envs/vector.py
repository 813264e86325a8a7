"""Vectorised environments for library users: PettingZoo's parallel API over several copies at once.

Slots (`covey.envs.sync_slots`, `covey.envs.processes`) step the copies and hold the arrays; this module gives them
PettingZoo's interface. Dims: E environments.
"""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import gymnasium
import numpy as np
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from covey.envs.by_agent import AgentOrder, ByAgent
from covey.envs.calls import EnvironmentCalls
from covey.envs.copies import Copy, parallel
from covey.envs.episode_starts import EpisodeStarts
from covey.envs.loading import NUM_ENVS, MakeEnv
from covey.envs.observed import Observations
from covey.envs.outside_bounds import OutsideBounds
from covey.envs.processes import CLOSE_S, AsyncSlots
from covey.envs.reading import declared_spaces, read_spaces
from covey.envs.slots import Fault
from covey.envs.sync_slots import SyncSlots
from covey.envs.worker import apply
from covey.errors import EnvironmentLoadError
from covey.spaces import without_mask

Step = tuple[Observations, ByAgent, ByAgent, ByAgent, dict[str, Any]]


S = TypeVar("S", bound=SyncSlots | AsyncSlots)


class PettingZooVecEnv(EnvironmentCalls, Generic[S]):
    """Copies of an environment, stepped together; where an episode ends, the next begins in the same step.

    Arrays are fresh in every call. Nothing is ever NaN: an agent that waits, or is not there, shows what it last saw,
    or zeros. `infos[agent]["active"]` (E,) says who is to act: 0 not there or waiting, 1 to act, 2 acts as the
    environment says, by `infos[agent]["env_defined_actions"]` (E, *shape). `infos[agent]["action_mask"]` (E, width)
    is 1 where an action is legal. An environment that raises, or whose process ends or hangs, is built again: in its
    row all agents are truncated, their last observations final, and `infos["_fault"]` lists what happened.

    `reset`, `step` and `call` wait for all environments; `reset_async` and `reset_wait`, and those of the other two,
    do the same in two halves. Calls out of turn raise gymnasium's `AlreadyPendingCallError`, `NoAsyncCallError` and,
    after `close`, `ClosedEnvironmentError`.

    Args:
        env_fns: Functions that build the environments, parallel or AEC ones, with equal agents and spaces.

    Raises:
        EnvironmentLoadError: an environment cannot be built or used; one that fails three times in a row is named.
        SpaceError: spaces that are not served.

    Attributes:
        num_envs: E.
        num_agents: Number of agents in each environment.
        spaces: Agents, their spaces and their groups.
        slots: The slots that step the environments.
        copies: Functions that build the environments, one for each slot.
    """

    def __init__(self, env_fns: Sequence[Callable[[], Any]]) -> None:
        super().__init__(len(env_fns))
        if not env_fns:
            raise EnvironmentLoadError("environments: expected at least one function that builds one, got none")
        env = parallel(env_fns[0]())
        if hasattr(env, "attach"):
            raise EnvironmentLoadError(
                f"environments: {type(env).__name__} steps all its copies itself, expected functions that each build "
                "one PettingZoo environment; covey train takes such arrays by their name"
            )
        self.spaces = read_spaces(env)
        self.metadata: dict[str, Any] = getattr(env, "metadata", {})
        self.render_mode: str | None = getattr(env, "render_mode", None)
        self._gymnasium_spaces = declared_spaces(env)
        env.close()
        self.possible_agents = list(self.spaces.agent_ids)
        self.agents = list(self.possible_agents)
        self.num_agents = len(self.agents)
        self.copies: list[MakeEnv] = [Copy(make, self._gymnasium_spaces) for make in env_fns]
        self.slots = self._build_slots()
        self._agents = AgentOrder(self.spaces)
        self._starts = EpisodeStarts(self.slots)
        self._outside = OutsideBounds(self.spaces)
        self._seen: ByAgent | None = None  # the newest observations; None: a reset is due
        shape = (len(self.agents), self.num_envs)
        # Whether an agent has ended since its episode began, (A, E).
        self._terminated, self._truncated = np.zeros(shape, np.bool_), np.zeros(shape, np.bool_)

    def single_observation_space(self, agent: str) -> gymnasium.Space[Any]:
        """Return an agent's observation space in one environment; a dictionary where observations carry masks."""
        return self._gymnasium_spaces[agent][0]

    def single_action_space(self, agent: str) -> gymnasium.Space[Any]:
        """Return an agent's action space in one environment."""
        return self._gymnasium_spaces[agent][1]

    def observation_space(self, agent: str) -> gymnasium.Space[Any]:
        """Return an agent's observation space in all environments together, without masks."""
        return batch_space(without_mask(self.single_observation_space(agent)), self.num_envs)

    def action_space(self, agent: str) -> gymnasium.Space[Any]:
        """Return an agent's action space in all environments together."""
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
            Observations, and infos by agent.
        """
        self.reset_async(seed, options)
        return self.reset_wait()

    def reset_async(
        self, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> None:
        """Begin a reset and return at once; `reset_wait` must follow. Arguments are those of `reset`."""
        with self._pending.beginning("reset"):
            self._seen = None
            self._begin_reset(self._starts.seed(seed), options)
            self._reset_options = options

    def reset_wait(self, timeout: float | None = None) -> tuple[Observations, dict[str, Any]]:
        """Wait for the reset that `reset_async` began; returns what `reset` returns.

        Args:
            timeout: Seconds after which environments that are not ready count as hanging; None: the slots' own limit.
        """
        self._pending.end("reset")
        faults = self._end(timeout)
        messages = [self._starts.failed(f) for f in faults]
        messages += self._starts.begin([f.slot for f in faults], options=self._reset_options)
        self._outside.tell(self.slots.arrays)
        self._terminated[:], self._truncated[:] = False, False
        self._seen = self._agents.observations(self.slots.arrays)
        ended, now = np.zeros(self.num_envs, np.bool_), self.slots.arrays.copy()
        seen = self._agents.nested(self._seen)
        begun = np.ones(self.num_envs, np.bool_)
        return Observations(seen, dict(seen), ended, now, now, self.spaces, begun), self._infos(messages)

    def step(self, actions: Mapping[str, Any]) -> Step:
        """Make one env step of every one of E environments.

        Args:
            actions: By agent (E, *shape), in its space's own units; agents that are not to act may be left out.

        Returns:
            Observations, rewards (E,), terminations (E,) and truncations (E,) by agent, and infos. An agent that has
            ended stays so up to its episode's last step; one that has not appeared counts as terminated.
        """
        self.step_async(actions)
        return self.step_wait()

    def step_async(self, actions: Mapping[str, Any]) -> None:
        """Begin a step and return at once; `step_wait` must follow. `actions` are those of `step`."""
        with self._pending.beginning("step"):
            if self._seen is None:
                raise EnvironmentLoadError("environments: step before the first episode; call reset first")
            self._begin(self._agents.stack(actions, self.slots.arrays.present))

    def step_wait(self, timeout: float | None = None) -> Step:
        """Wait for the env step that `step_async` began; returns what `step` returns.

        Args:
            timeout: Seconds after which environments that are not ready count as hanging; None: the slots' own limit.
        """
        self._pending.end("step")
        assert self._seen is not None  # since `step_async`
        faults = self._end(timeout)
        # A broken environment counts as one whose agents are all truncated, with the observations before the step.
        broken = np.zeros(self.num_envs, np.bool_)
        broken[[f.slot for f in faults]] = True
        arrays = self.slots.arrays
        reward = np.where(broken, 0.0, arrays.reward.T)
        living = arrays.living.T.astype(np.bool_)
        self._terminated |= arrays.terminated.T.astype(np.bool_) & ~broken
        self._truncated |= arrays.truncated.T.astype(np.bool_) | broken
        # One that has not appeared, neither living nor ended, counts as terminated: nothing is to be learned from it.
        terminated, truncated = self._terminated | ~(living | self._truncated), self._truncated.copy()
        ended = broken | ~living.any(axis=0)
        self._starts.stepped(broken)
        messages = [self._starts.failed(f) for f in faults]
        final, after = self._agents.observations(arrays), arrays.copy()
        for fault in faults:
            after.clear(fault.slot)
        if faults:
            for agent, seen in self._seen.items():
                final[agent][broken] = seen[broken]
        # `final` and `after` are the true successors; where an episode ended, the next one begins in the same step.
        self._seen = final
        if ended.any():
            rows = np.flatnonzero(ended)
            messages += self._begin_episodes(rows.tolist())
            self._seen = {agent: seen.copy() for agent, seen in final.items()}
            self._agents.update(self._seen, arrays, rows)
        self._outside.tell(arrays)
        return (
            Observations(
                self._agents.nested(self._seen),
                self._agents.nested(final),
                ended,
                arrays.copy() if ended.any() else after,
                after,
                self.spaces,
            ),
            self._agents.columns(reward),
            self._agents.columns(terminated),
            self._agents.columns(truncated),
            self._infos(messages),
        )

    def interrupt(self) -> None:
        """Note that somebody else steps the slots from now on: `reset` must come before the next step."""
        self._seen, self._pending.name = None, ""

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._pending.closed

    @property
    def unwrapped(self) -> Self:
        """Return this object, as no wrapper lies around it; Gymnasium's attribute for the innermost environment."""
        return self

    def close(self, *, timeout: float | None = None, terminate: bool = False) -> None:
        """Close all environments; a second call does nothing. Arguments are those of `close_extras`."""
        if not self.closed:
            self._pending.closed = True
            self.close_extras(timeout=timeout, terminate=terminate)

    def close_extras(self, *, timeout: float | None = None, terminate: bool = False) -> None:
        """Close the environments and end their processes, as `close` does.

        Args:
            timeout: Seconds that worker processes have to close their environments before they are killed; None: 5.
            terminate: Whether to kill worker processes at once, which leaves their environments unclosed.
        """
        self._pending.closed = True
        self._close(0.0 if terminate else CLOSE_S if timeout is None else timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @abstractmethod
    def _build_slots(self) -> S:
        """Build what steps the environments, in this process or in worker processes."""

    @abstractmethod
    def _begin_reset(self, seeds: Sequence[int], options: dict[str, Any] | None) -> None:
        """Begin a reset of all slots."""

    @abstractmethod
    def _begin(self, actions: list[NDArray[Any]]) -> None:
        """Begin an env step of all environments with these actions."""

    @abstractmethod
    def _end(self, timeout: float | None) -> list[Fault]:
        """Wait for the end of the reset or step that was begun; returns its faults."""

    @abstractmethod
    def _close(self, limit_s: float) -> None:
        """Close the environments; processes that take longer than `limit_s` seconds are killed."""

    def _begin_episodes(self, envs: Sequence[int]) -> list[str]:
        """Reset environments with drawn seeds; returns a sentence for each reset that failed."""
        messages = self._starts.begin(envs)
        self._terminated[:, envs] = False
        self._truncated[:, envs] = False
        return messages

    def _infos(self, messages: list[str]) -> dict[str, Any]:
        """Return infos by agent, and under "_fault" the given messages about environments that raised."""
        infos = self._agents.infos(self.slots.arrays)
        if messages:
            infos["_fault"] = messages
        return infos


class AsyncPettingZooVecEnv(PettingZooVecEnv[AsyncSlots]):
    """Vectorised environments in worker processes; several share one where there are more environments than cores.

    Raises:
        EnvironmentLoadError: besides what `PettingZooVecEnv` raises, a function cannot be sent to another process.
    """

    def _build_slots(self) -> AsyncSlots:
        return AsyncSlots(self.copies, self.spaces, self.num_envs)

    def _begin_reset(self, seeds: Sequence[int], options: dict[str, Any] | None) -> None:
        self.slots.begin_reset(range(self.num_envs), seeds, options)

    def _begin(self, actions: list[NDArray[Any]]) -> None:
        self.slots.begin_step(range(self.num_envs), actions)

    def _end(self, timeout: float | None) -> list[Fault]:
        return self.slots.end_step(timeout)

    def _begin_each(self, function: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]) -> None:
        self.slots.begin_apply(range(self.num_envs), function, arguments)

    def _end_each(self, timeout: float | None) -> list[Any]:
        return self.slots.end_apply(timeout)

    def _close(self, limit_s: float) -> None:
        self.slots.close(limit_s)


class SyncPettingZooVecEnv(PettingZooVecEnv[SyncSlots]):
    """Vectorised environments that are stepped one after the other in this process.

    What an asynchronous call begins is done by the caller itself when it waits, whatever time that takes.
    """

    _work: Callable[[], list[Any]]

    def _build_slots(self) -> SyncSlots:
        return SyncSlots(self.copies, self.spaces, self.num_envs)

    def _begin_reset(self, seeds: Sequence[int], options: dict[str, Any] | None) -> None:
        self._work = partial(self.slots.reset, range(self.num_envs), seeds, options)

    def _begin(self, actions: list[NDArray[Any]]) -> None:
        self._work = partial(self.slots.step, range(self.num_envs), actions)

    def _end(self, timeout: float | None) -> list[Fault]:
        del timeout
        return self._work()

    def _begin_each(self, function: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]) -> None:
        self._work = partial(apply, self.slots, range(self.num_envs), function, arguments)

    def _end_each(self, timeout: float | None) -> list[Any]:
        del timeout
        return self._work()

    def _close(self, limit_s: float) -> None:
        del limit_s
        self.slots.close()


def make_multi_agent_vect_envs(env: Callable[..., Any], num_envs: int = 1, **env_kwargs: Any) -> AsyncPettingZooVecEnv:
    """Make vectorised environments of `num_envs` copies of an environment, in worker processes.

    Args:
        env: Builds the environment.
        num_envs: How many copies.
        env_kwargs: Keyword arguments of `env`.

    Raises:
        EnvironmentLoadError: as `PettingZooVecEnv`; `env` builds arrays that step all their copies themselves.
    """
    try:
        parameter = inspect.signature(env).parameters.get(NUM_ENVS)
    except ValueError:  # a builtin without a signature
        parameter = None
    if parameter is not None and parameter.default is parameter.empty:
        env_kwargs[NUM_ENVS] = 1  # so that it builds what is then refused
    return AsyncPettingZooVecEnv([partial(env, **env_kwargs)] * num_envs)
