"""Replay for training loops: what a step of all environments brought goes in as a fragment, as if an actor had sent it.

Dims: E environments.
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
from covey.collect.fragment import FragmentBuilder, most_lead_in_rows
from covey.config import ReplayBuffer
from covey.envs.arrays import SlotArrays
from covey.envs.vector import Observations
from covey.errors import ConfigError, SpaceError
from covey.rows import RowKind, RowSchema
from covey.spaces import EnvironmentSpaces
from covey.v1.fragment_pb2 import Fragment
from covey_server.api.acting import RawActions, by_groups, columns, lifted, shown
from covey_server.experience.batch import Batch
from covey_server.experience.replay import Replay
from covey_server.packing import counter_rng

logger = logging.getLogger("covey")

FIELDS = ("state", "action", "reward", "next_state", "done")


@dataclass(frozen=True, slots=True)
class Experiences:
    """A sample for one agent's `learn`."""

    batch: Batch
    spaces: EnvironmentSpaces


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What a step led to: what the environments showed then, and flags (E, A) of agents that lived before it."""

    after: SlotArrays
    reward: NDArray[np.float64]
    terminated: NDArray[np.uint8]
    truncated: NDArray[np.uint8]
    ended: NDArray[np.bool_]


class MultiAgentReplayBuffer:
    """The memory that a population shares; `len()` is the env steps held.

    It takes its form from the first step saved.

    Args:
        max_size: Env steps that it holds at most.
        field_names: As AgileRL has them; what is stored does not depend on them.
        agent_ids: Whose experience it is to be; None: that of whoever comes.
        device: Where it lies; the agents' own.
        seed: Of the draws.
    """

    def __init__(
        self,
        max_size: int,
        field_names: Sequence[str] = FIELDS,
        agent_ids: Sequence[str] | None = None,
        device: Any = "cpu",
        seed: int = 0,
    ) -> None:
        unknown = [name for name in field_names if name not in FIELDS]
        if unknown:
            logger.warning("MultiAgentReplayBuffer: fields %s are not stored, only %s", unknown, ", ".join(FIELDS))
        self._max_size = max_size
        self._agent_ids = None if agent_ids is None else list(agent_ids)
        self._device = torch.device(device)
        self._seed = seed
        self._samples = 0
        self._replay: Replay | None = None
        self._spaces: EnvironmentSpaces | None = None
        self._schema: RowSchema | None = None
        self._carried: Carried | None = None
        self._expected: object = None  # the observations that a step must begin with to go on where the last one ended

    def __len__(self) -> int:
        return 0 if self._replay is None else len(self._replay)

    @property
    def counter(self) -> int:
        """Env steps that were ever saved."""
        return 0 if self._replay is None else self._replay.inserted_steps

    def bind(self, spaces: EnvironmentSpaces) -> Replay:
        """The memory itself, made for these spaces at the first call.

        Raises:
            SpaceError: other agents, or other spaces than before.
            ConfigError: steps too large for the memory.
        """
        if self._replay is None:
            if self._agent_ids is not None and set(self._agent_ids) != set(spaces.agent_ids):
                raise SpaceError(
                    f"MultiAgentReplayBuffer: experience of {', '.join(spaces.agent_ids)}, expected that of its "
                    f"agent_ids {', '.join(self._agent_ids)}"
                )
            self._replay = Replay(spaces, self._max_size, ReplayBuffer().max_bytes, self._device)
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
        """Keep one step of every environment.

        What covey's vectorised environments gave tells also true last observations, truncation, masks, and who waits
        (as long as `obs` is what the step before returned as `next_obs`). An environment that broke is left out.

        Args:
            obs: By agent (E, *shape).
            raw_action: What `get_action` gave for it.
            reward: By agent (E,).
            next_obs: As `obs`, after the step.
            termination: By agent (E,).
            is_vectorised: Whether there is a dimension E.
            truncation: By agent (E,), for observations of other environments.

        Raises:
            ConfigError: nothing says what the spaces are.
            SpaceError: other agents or shapes than before.
        """
        spaces = getattr(raw_action, "spaces", None) or getattr(obs, "spaces", None) or self._spaces
        if spaces is None:
            raise ConfigError(
                "save_to_memory: a raw action that does not say its spaces, expected what get_action returned"
            )
        replay = self.bind(spaces)
        same = obs is self._expected
        self._expected = next_obs
        if not is_vectorised:
            obs, next_obs, reward, termination = map(lifted, (obs, next_obs, reward, termination))
            truncation = None if truncation is None else lifted(truncation)
        seen = shown(obs, {}, spaces)
        if isinstance(raw_action, RawActions):
            seen = replace(raw_action.seen, observation=seen.observation)
        outcome = _outcome(spaces, seen, reward, next_obs, termination, truncation or {})
        environments = len(seen.present)
        if self._carried is None or not same or len(self._carried.action[0]) != environments:
            self._carried = Carried(spaces, environments)  # other episodes: no decision is open any more
        fragment = self._fragment(spaces, seen, by_groups(raw_action, spaces, environments), outcome)
        if fragment.streams:
            assert self._schema is not None
            rows = sum(s.rows + s.lead_in_rows for s in fragment.streams)
            replay.insert(self._schema.decode(fragment.blob, rows, fragment.raw_bytes), fragment.streams)

    def sample(self, batch_size: int) -> Experiences:
        """Steps drawn uniformly, with replacement.

        Raises:
            ConfigError: there is nothing to draw from.
        """
        if self._replay is None or self._spaces is None or not len(self._replay):
            raise ConfigError("sample: the memory is empty; save steps first")
        keys = counter_rng.keys(self._seed, [0], [self._samples], self._device)
        self._samples += 1
        sizes = torch.tensor([batch_size], device=self._device)
        return Experiences(self._replay.sample(keys, sizes, batch_size), self._spaces)

    def _fragment(
        self, spaces: EnvironmentSpaces, seen: SlotArrays, actions: list[NDArray[Any]], outcome: _Outcome
    ) -> Fragment:
        """One step of all environments, as `covey.collect` writes it."""
        assert self._schema is not None and self._carried is not None
        everybody = list(range(len(seen.present)))
        builder = FragmentBuilder(self._schema, spaces, everybody, most_lead_in_rows(spaces) + 2, self._carried)
        # An episode that is over without anybody having ended: the environment broke, and showed nothing of the step.
        flagged = np.logical_or.reduce(outcome.terminated | outcome.truncated, axis=1).tolist()
        whole = [e for e in everybody if flagged[e] or not outcome.ended[e]]
        over = [e for e in whole if outcome.ended[e]]
        going = [e for e in whole if not outcome.ended[e]]
        builder.write(
            whole,
            whole,
            seen.each(lambda a: a[None]),
            [a[None] for a in actions],
            outcome.reward[None],
            outcome.terminated[None],
            outcome.truncated[None],
        )
        builder.end(over, over, RowKind.FINAL, outcome.after)
        builder.carry(outcome.after)
        builder.end(going, going, RowKind.TAIL, outcome.after)
        for e in everybody:
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
    """What a step led to, from what the environments returned."""

    def in_columns(by_agent: Mapping[str, Any]) -> NDArray[np.float64]:
        result = np.zeros(seen.present.shape)
        for p, _, _, agent in columns(spaces):
            if agent in by_agent:
                # NaN: an agent that is not there, where environments say it so.
                result[:, p] = np.nan_to_num(np.asarray(by_agent[agent], np.float64)) * seen.living[:, p]
        return result

    terminated = (in_columns(termination) > 0).astype(np.uint8)
    if isinstance(next_obs, Observations):
        after, ended = next_obs.after, next_obs.ended
        truncated = after.truncated & (terminated == 0)
    else:
        after = shown(next_obs, {}, spaces)
        truncated = (in_columns(truncation) > 0) & (terminated == 0)
        after.living[...] = (seen.living > 0) & (terminated == 0) & ~truncated
        after.present[...] &= after.living
        ended = after.living.max(axis=1) == 0
    return _Outcome(after, in_columns(reward), terminated, truncated.astype(np.uint8), ended)
