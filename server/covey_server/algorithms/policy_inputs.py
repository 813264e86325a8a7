"""Gives each agent's policy its input: the agent's own observation, and its index where it shares a network.

Dims: M members, B samples, N agents; where agents act at different times a batch has N next rows for each sample.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from covey.config import AlgorithmSettings
from covey.spaces import EnvironmentSpaces
from covey_server.algorithms.roles import indicator
from covey_server.packing.networks_by_role import Pass
from covey_server.packing.pack_rows import Mode


class PolicyInputs:
    """Runs actors on the observations of a batch.

    Args:
        spaces: Spaces of the environment.
        algorithm: Says whether policies that agents share read an index.
        ids: Agents by network id.
        device: Where updates are computed.
    """

    def __init__(
        self,
        spaces: EnvironmentSpaces,
        algorithm: AlgorithmSettings,
        ids: Mapping[str, tuple[int, ...]],
        device: torch.device,
    ) -> None:
        self._columns = _own_columns(spaces)
        rows: dict[int, Tensor] = {}
        for agents in ids.values():
            width = indicator(algorithm, agents)
            rows.update(zip(agents, torch.eye(len(agents), device=device)[:, :width], strict=True))
        some = any(row.numel() for row in rows.values())
        self._indices = [rows[agent] for agent in sorted(rows)] if some else None

    def outputs(self, actors: Pass, mode: Mode, observation: Sequence[Tensor]) -> list[Tensor]:
        """Run each agent's actor on its own observation; returns (..., M, B, outputs) for each agent.

        M members, B samples.

        Args:
            actors: The actors of M members.
            mode: Which weights they use.
            observation: Per group, (..., M, B, agents of the group * width).
        """
        own = [observation[g][..., columns] for g, columns in self._columns]
        if self._indices is not None:
            own = [torch.cat([x, i.expand(*x.shape[:-1], -1)], -1) for x, i in zip(own, self._indices, strict=True)]
        if own[0].dim() == 3:
            return actors.outputs_by_agent(mode, [own])
        # A next row for every agent: they are folded into the samples, (M, N * B, width), and back.
        rows, m, batch = own[0].shape[:3]
        folded = actors.outputs_by_agent(mode, [[x.transpose(0, 1).reshape(m, rows * batch, -1) for x in own]])
        return [y.view(m, rows, batch, -1).transpose(0, 1) for y in folded]


def _own_columns(spaces: EnvironmentSpaces) -> list[tuple[int, slice]]:
    """For each agent, find its group's position and its columns in the group's joint observation."""
    found = {}
    for g, group in enumerate(spaces.groups):
        width = group.stacked.width
        for k, agent in enumerate(group.agents):
            found[agent] = (g, slice(k * width, (k + 1) * width))
    return [found[agent] for agent in range(len(spaces.agents))]
