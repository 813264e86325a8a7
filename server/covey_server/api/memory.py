"""AgileRL's replay memory for training loops, implemented by `covey_server.experience.replay`.

A step of all environments is encoded as a fragment, the message in which actors send experience, so that it takes the
same way into memory. Shapes: E environments, A agents in columns (`covey.envs.arrays`).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from covey.collect.carried import Carried
from covey.collect.fragment import FragmentBuilder, most_repeated_rows
from covey.config import ReplayBuffer
from covey.envs.arrays import SlotArrays
from covey.envs.observed import Observations
from covey.errors import ConfigError, SpaceError
from covey.rows import RowKind, RowSchema
from covey.spaces import EnvironmentSpaces
from covey.v1.fragment_pb2 import Fragment
from covey_server.api.acting import RawActions, by_groups, columns, to_slot_arrays, with_batch_axis
from covey_server.experience.batch import Batch
from covey_server.experience.frames import stream_rows
from covey_server.experience.replay import Replay
from covey_server.packing import counter_rng

logger = logging.getLogger("covey")

FIELDS = ("state", "action", "reward", "next_state", "done")


@dataclass(frozen=True, slots=True)
class Experiences:
    """A batch drawn from the replay memory, for `Agent.learn`.

    Attributes:
        batch: The sampled env steps: observations, actions, rewards, next observations and flags of all agents.
        spaces: Spaces of the environment that it was collected in.
    """

    batch: Batch
    spaces: EnvironmentSpaces


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What one step of E environments with A agents led to.

    Attributes:
        after: What the environments show after the step, before a new episode begins.
        reward: (E, A) rewards; 0 for agents that did not take part in the episode before the step.
        terminated: (E, A) 1 for agents that terminated in this step.
        truncated: (E, A) 1 for agents that were truncated in this step and did not terminate.
        ended: (E,) whether the episode ended.
    """

    after: SlotArrays
    reward: NDArray[np.float64]
    terminated: NDArray[np.uint8]
    truncated: NDArray[np.uint8]
    ended: NDArray[np.bool_]


class MultiAgentReplayBuffer:
    """Replay memory that a population shares; `len()` is the number of env steps held.

    Memory is allocated when the first step is saved, for the environment's spaces.

    Args:
        memory_size: Largest number of env steps held; the oldest ones are dropped.
        field_names: Accepted for AgileRL's sake; what is stored does not depend on it.
        agent_ids: Agents whose experience is expected; None: those of the first step saved.
        device: Device on which experience is stored. From another one than the members learn on, every sample is
            copied to theirs. None: the CPU.
        seed: Seed of the sampling.

    Raises:
        ConfigError: `memory_size` is less than 1.

    Attributes:
        memory_size: Largest number of env steps held.
    """

    def __init__(
        self,
        memory_size: int,
        field_names: Sequence[str] = FIELDS,
        agent_ids: Sequence[str] | None = None,
        device: Any = "cpu",
        seed: int = 0,
    ) -> None:
        unknown = [name for name in field_names if name not in FIELDS]
        if unknown:
            logger.warning("MultiAgentReplayBuffer: fields %s are not stored, only %s", unknown, ", ".join(FIELDS))
        if memory_size < 1:
            raise ConfigError(f"MultiAgentReplayBuffer: memory_size {memory_size}, expected at least 1 env step")
        self.memory_size = memory_size
        self._agent_ids = None if agent_ids is None else list(agent_ids)
        self._device = torch.device("cpu" if device is None else device)
        self._seed = seed
        self._samples = 0
        self._replay: Replay | None = None
        self._spaces: EnvironmentSpaces | None = None
        self._schema: RowSchema | None = None
        self._carried: Carried | None = None
        # The `next_obs` saved last: a step whose `obs` is the same object continues the same episodes.
        self._expected: object = None

    def __len__(self) -> int:
        return 0 if self._replay is None else len(self._replay)

    @property
    def counter(self) -> int:
        """Number of env steps saved so far, those that were dropped included."""
        return 0 if self._replay is None else self._replay.inserted_steps

    def bind(self, spaces: EnvironmentSpaces) -> Replay:
        """Return the learner's own replay memory; the first call creates it for these spaces.

        Raises:
            SpaceError: agents or spaces differ from those of earlier calls, or from `agent_ids`.
            ConfigError: an env step is too large for the memory.
        """
        if self._replay is None:
            if self._agent_ids is not None and set(self._agent_ids) != set(spaces.agent_ids):
                raise SpaceError(
                    f"MultiAgentReplayBuffer: experience of {', '.join(spaces.agent_ids)}, expected that of its "
                    f"agent_ids {', '.join(self._agent_ids)}"
                )
            self._replay = Replay(spaces, self.memory_size, ReplayBuffer().max_bytes, self._device)
            self._spaces, self._schema = spaces, RowSchema.of(spaces)
        elif spaces is not self._spaces and spaces != self._spaces:
            raise SpaceError(
                f"MultiAgentReplayBuffer: experience of {', '.join(spaces.agent_ids)}, expected the agents and spaces "
                "that it holds experience of; give every environment a memory of its own"
            )
        return self._replay

    def save_to_memory(
        self,
        obs: Mapping[str, Any],
        raw_action: Mapping[str, Any],
        reward: Mapping[str, Any],
        next_obs: Mapping[str, Any],
        termination: Mapping[str, Any],
        is_vectorised: bool = False,
        *,
        truncation: Mapping[str, Any] | None = None,
    ) -> None:
        """Save one step of every one of E environments.

        Observations from covey's vectorised environments also tell the true last observations of episodes, truncation,
        masks and which agents wait, provided that `obs` is the very object that the step before returned as `next_obs`.
        An environment that failed in this step is left out.

        Args:
            obs: Observations (E, *shape) by agent, before the step.
            raw_action: The second result of `Agent.get_action` for these observations.
            reward: Rewards (E,) by agent.
            next_obs: Observations (E, *shape) by agent, after the step.
            termination: Whether agents terminated, (E,) by agent.
            is_vectorised: Whether arrays have the leading axis E; otherwise they are those of one environment.
            truncation: Whether agents were truncated, (E,) by agent; not needed with covey's vectorised environments.

        Raises:
            ConfigError: neither `raw_action` nor `obs` tells the spaces, and no step was saved before.
            SpaceError: agents or shapes differ from those of earlier steps.
        """
        spaces = getattr(raw_action, "spaces", None) or getattr(obs, "spaces", None) or self._spaces
        if spaces is None:
            raise ConfigError(
                "save_to_memory: raw_action does not tell the spaces, expected what get_action returned; pass that"
            )
        replay = self.bind(spaces)
        same = obs is self._expected
        self._expected = next_obs
        if not is_vectorised:
            obs, next_obs, reward, termination = map(with_batch_axis, (obs, next_obs, reward, termination))
            truncation = None if truncation is None else with_batch_axis(truncation)
        seen = to_slot_arrays(obs, {}, spaces)
        if isinstance(raw_action, RawActions):
            # `get_action` knew masks and which agents act from infos, which are not arguments here.
            seen = replace(raw_action.seen, observation=seen.observation)
        outcome = _outcome(spaces, seen, reward, next_obs, termination, truncation or {})
        environments = len(seen.present)
        if self._carried is None or not same or len(self._carried.action[0]) != environments:
            # Other episodes than those saved before: forget decisions whose outcome was still to come.
            self._carried = Carried(spaces, environments)
        fragment = self._fragment(spaces, seen, by_groups(raw_action, spaces, environments), outcome)
        if fragment.streams:
            assert self._schema is not None
            rows = sum(map(stream_rows, fragment.streams))
            replay.insert(self._schema.decode(fragment.blob, rows, fragment.raw_bytes), fragment.streams)

    def sample(self, batch_size: int) -> Experiences:
        """Draw env steps uniformly, with replacement.

        Args:
            batch_size: Number of env steps.

        Raises:
            ConfigError: the memory is empty.
        """
        if self._replay is None or self._spaces is None or not len(self._replay):
            raise ConfigError("sample: the memory is empty; save steps first")
        # Each sample has random numbers of its own, which follow from the seed and the number of samples before it.
        keys = counter_rng.keys(self._seed, [0], [self._samples], self._device)
        self._samples += 1
        sizes = torch.tensor([batch_size], device=self._device)
        return Experiences(self._replay.sample(keys, sizes, batch_size), self._spaces)

    def _fragment(
        self, spaces: EnvironmentSpaces, seen: SlotArrays, actions: list[NDArray[Any]], outcome: _Outcome
    ) -> Fragment:
        """Encode one step of all environments as the message (fragment) in which actors send experience.

        Args:
            spaces: Spaces of the environments.
            seen: What the environments showed before the step.
            actions: Actions (environments, agents of the group, *shape) per group.
            outcome: What the step led to.
        """
        assert self._schema is not None and self._carried is not None
        environments = list(range(len(seen.present)))
        builder = FragmentBuilder(self._schema, spaces, environments, most_repeated_rows(spaces) + 2, self._carried)
        # An episode that has ended although no agent terminated or was truncated: the environment failed, and there is
        # no outcome of the step to be stored.
        flagged = np.logical_or.reduce(outcome.terminated | outcome.truncated, axis=1).tolist()
        stepped = [e for e in environments if flagged[e] or not outcome.ended[e]]
        over = [e for e in stepped if outcome.ended[e]]
        running = [e for e in stepped if not outcome.ended[e]]
        builder.write(
            stepped,
            stepped,
            seen.each(lambda a: a[None]),
            [a[None] for a in actions],
            outcome.reward[None],
            outcome.terminated[None],
            outcome.truncated[None],
        )
        # One row more holds the observation after the step: an episode's last one (final), or where a running episode
        # stands (tail). `carry` must come between the two: it keeps what the next fragment repeats of decisions whose
        # outcome is still to come, and looks for them in streams that end with a step.
        builder.end(over, over, RowKind.FINAL, outcome.after)
        builder.carry(outcome.after)
        builder.end(running, running, RowKind.TAIL, outcome.after)
        for e in environments:
            if outcome.ended[e]:
                self._carried.begin_episode(e)
        fragment = Fragment()
        builder.encode(fragment, level=1)
        return fragment


def _outcome(
    spaces: EnvironmentSpaces,
    seen: SlotArrays,
    reward: Mapping[str, Any],
    next_obs: Mapping[str, Any],
    termination: Mapping[str, Any],
    truncation: Mapping[str, Any],
) -> _Outcome:
    """Convert what E environments returned from a step into arrays.

    Args:
        spaces: Spaces of the environments.
        seen: What the environments showed before the step.
        reward: Rewards (E,) by agent.
        next_obs: Observations (E, *shape) by agent.
        termination: Whether agents terminated, (E,) by agent.
        truncation: Whether agents were truncated, (E,) by agent; ignored with covey's vectorised environments.
    """

    def in_columns(by_agent: Mapping[str, Any]) -> NDArray[np.float64]:
        """Join numbers by agent into one array (environments, agents), 0 for agents not in the episode."""
        result = np.zeros(seen.present.shape)
        for p, _, _, agent in columns(spaces):
            if agent in by_agent:
                # AgileRL's environments give NaN for agents that are absent; here they get 0.
                result[:, p] = np.nan_to_num(np.asarray(by_agent[agent], np.float64)) * seen.living[:, p]
        return result

    terminated = (in_columns(termination) > 0).astype(np.uint8)
    if isinstance(next_obs, Observations):
        after, ended = next_obs.after, next_obs.ended
        truncated = after.truncated & (terminated == 0)
    else:
        # Other environments do not tell who lives: an agent does until it terminates or is truncated, and an episode
        # ends with the last of them.
        after = to_slot_arrays(next_obs, {}, spaces)
        truncated = (in_columns(truncation) > 0) & (terminated == 0)
        after.living[...] = (seen.living > 0) & (terminated == 0) & ~truncated
        after.present[...] &= after.living
        ended = after.living.max(axis=1) == 0
    return _Outcome(after, in_columns(reward), terminated, truncated.astype(np.uint8), ended)
