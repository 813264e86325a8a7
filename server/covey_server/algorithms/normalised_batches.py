"""Normalises minibatches from replay, which has observations as they came, by the statistics that members have now.

Dims: M members, B samples, N agents in environment order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from covey.networks.normalisation import MEAN, SCALE, Moments, normalised_ranges
from covey.spaces import EnvironmentSpaces
from covey_server.algorithms.statistics import normalise
from covey_server.experience.batch import Batch
from covey_server.experience.observed import OF_STATE, ObservedRows
from covey_server.experience.parts import Part
from covey_server.member import Member


class NormalisedBatches:
    """Normalises batches: each member's samples, whoever collected them, by the statistics of its own policies.

    Args:
        spaces: The run's spaces.
        ids: Agents by network id.
        members: Who learns here; the statistics are those of their networks.
        device: Where they learn.
        state_reader: Key of the network that reads the state of the whole environment, by whose statistics this is
            normalised; None if none does.
    """

    def __init__(
        self,
        spaces: EnvironmentSpaces,
        ids: Mapping[str, tuple[int, ...]],
        members: Sequence[Member],
        device: torch.device,
        state_reader: str | None = None,
    ) -> None:
        self._members, self._device, self._ids = members, device, ids
        owner = {agent: f"actor/{i}" for i, agents in ids.items() for agent in agents}
        self._groups = [
            (g.agents, [owner[agent] for agent in g.agents], normalised_ranges(g.observation)) for g in spaces.groups
        ]
        self._state_reader = state_reader
        if spaces.state is not None and state_reader is not None:  # like a group with one agent, behind all groups
            self._groups.append(((0,), [state_reader], normalised_ranges(spaces.state)))
        # Of each group the moments that its tensors were made of, and (M, agents, R) means and scales.
        self._made: dict[int, tuple[list[Moments | None], Tensor, Tensor]] = {}

    def move_on(self, chosen: Sequence[int], observed: ObservedRows) -> None:
        """Count what the agents of these members (positions) have observed since the last time."""
        for m in chosen:
            member = self._members[m]
            found = observed.take(member.member_id)
            for i, agents in self._ids.items():
                network = member.networks[f"actor/{i}"]
                for agent in agents:
                    if agent in found and network.observed is not None:
                        network.observed = network.observed.joined(found[agent])
            if self._state_reader is not None and OF_STATE in found:
                reader = member.networks[self._state_reader]
                if reader.observed is not None:
                    reader.observed = reader.observed.joined(found[OF_STATE])

    def __call__(self, chosen: Sequence[int], batch: Batch) -> Batch:
        """Return a batch for these members (positions) with normalised observations; the given one stays as it is."""
        return replace(
            batch,
            observation=self._normalised(chosen, batch.observation, batch.part),
            next_observation=self._normalised(chosen, batch.next_observation, batch.next_part),
            state=self._normalised_state(chosen, batch.state),
            next_state=self._normalised_state(chosen, batch.next_state),
        )

    def _normalised(self, chosen: Sequence[int], seen: Sequence[Tensor], part: Tensor | None) -> tuple[Tensor, ...]:
        """Normalise what groups of agents saw, (..., M, B, agents * width) each; zeros for absent agents stay."""
        result = []
        for g, x in enumerate(seen):
            agents, _, ranges = self._groups[g]
            if not ranges:
                result.append(x)
                continue
            mean, scale = self._statistics(g, chosen)
            y = x.unflatten(-1, (len(agents), -1)).clone()
            normalise(y, ranges, mean.unsqueeze(1), scale.unsqueeze(1))
            if part is not None:
                there = part[..., list(agents)] != Part.ABSENT
                y = y * there.unsqueeze(-1)
            result.append(y.flatten(-2))
        return tuple(result)

    def _normalised_state(self, chosen: Sequence[int], x: Tensor | None) -> Tensor | None:
        """Normalise states of the whole environment, (..., M, B, width), where a network reads them."""
        if x is None or self._state_reader is None or not (ranges := self._groups[-1][2]):
            return x
        y = x.clone()
        normalise(y, ranges, *self._statistics(len(self._groups) - 1, chosen))
        return y

    def _statistics(self, g: int, chosen: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return the means and scales of a group's agents, (M, agents, R), made anew where statistics have moved on."""
        _, keys, _ = self._groups[g]
        now = [member.networks[key].observed for member in self._members for key in keys]
        made = self._made.get(g)
        if made is None or any(a is not b for a, b in zip(made[0], now, strict=True)):
            tensors = [its.tensors() for its in now if its is not None]
            shape = len(self._members), len(keys), -1
            mean, scale = (
                torch.from_numpy(np.stack([t[name] for t in tensors]).reshape(shape)).to(
                    self._device, non_blocking=True
                )
                for name in (MEAN, SCALE)
            )
            made = self._made[g] = now, mean, scale
        _, mean, scale = made
        if len(chosen) == len(self._members):
            return mean, scale
        at = torch.tensor(chosen).to(self._device, non_blocking=True)
        return mean.index_select(0, at), scale.index_select(0, at)
