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
from covey_server.experience.observed import ObservedRows
from covey_server.experience.parts import Part
from covey_server.member import Member


class NormalisedBatches:
    """Normalises batches: each member's samples, whoever collected them, by the statistics of its own policies.

    Args:
        spaces: The run's spaces.
        ids: Agents by network id.
        members: Who learns here; the statistics are those of their networks.
        device: Where they learn.
    """

    def __init__(
        self,
        spaces: EnvironmentSpaces,
        ids: Mapping[str, tuple[int, ...]],
        members: Sequence[Member],
        device: torch.device,
    ) -> None:
        self._members, self._device, self._ids = members, device, ids
        owner = {agent: f"actor/{i}" for i, agents in ids.items() for agent in agents}
        self._groups = [
            (g.agents, [owner[agent] for agent in g.agents], normalised_ranges(g.observation)) for g in spaces.groups
        ]
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

    def __call__(self, chosen: Sequence[int], batch: Batch) -> Batch:
        """Return a batch for these members (positions) with normalised observations; the given one stays as it is."""
        return replace(
            batch,
            observation=self._normalised(chosen, batch.observation, batch.part),
            next_observation=self._normalised(chosen, batch.next_observation, batch.next_part),
        )

    def _normalised(self, chosen: Sequence[int], seen: Sequence[Tensor], part: Tensor | None) -> tuple[Tensor, ...]:
        """Normalise what groups of agents saw, (..., M, B, agents * width) each; zeros for absent agents stay."""
        result = []
        for g, (x, (agents, _, ranges)) in enumerate(zip(seen, self._groups, strict=True)):
            if not ranges:
                result.append(x)
                continue
            mean, scale = self._statistics(g)
            if len(chosen) < len(self._members):
                at = torch.tensor(chosen).to(self._device, non_blocking=True)
                mean, scale = mean.index_select(0, at), scale.index_select(0, at)
            y = x.unflatten(-1, (len(agents), -1)).clone()
            normalise(y, ranges, mean.unsqueeze(1), scale.unsqueeze(1))
            if part is not None:
                there = part[..., list(agents)] != Part.ABSENT
                y = y * there.unsqueeze(-1)
            result.append(y.flatten(-2))
        return tuple(result)

    def _statistics(self, g: int) -> tuple[Tensor, Tensor]:
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
        return made[1], made[2]
