"""Gathers what each stacked network of a batched pass reads from the data that all of them are given.

Data comes by member, or by agent and member. Every network, one row of a pack, reads the data of its own member and of
the agents that it plays or scores. Example, with members 4 and 7 in the pass (places 0 and 1) and three rows:

    row   its network    its member    joint data (M, B, D)    data by agent (N, M, B, D), flat (N * M, B, D)
    0     critic of 0    4             place 0                 0 * 2 + 0 = 0
    1     critic of 1    4             place 0                 1 * 2 + 0 = 2
    2     critic of 1    7             place 1                 1 * 2 + 1 = 3

so that one `index_select` with (0, 0, 1), or (0, 2, 3), gives every row its own input. Where joint data is large, rows
are given the data of their members in its place (`joint_inputs.ByMember`), and no copies are made.

Dims: K rows, M members of the pass, B samples of D numbers, N agents of the environment,
n agents that one network plays or scores.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from covey_server.packing.joint_inputs import ByMember, Run

IN_PLACE = 1 << 17
"""Numbers that a run of rows reads at once, from which on a product for each run costs less than copies for all."""

Source = Tensor | Sequence[Tensor]
"""What networks read: (M, B, D) where all agents' networks of a member read the same, (N, M, B, D) or N times
(M, B, D_agent) where each agent's reads its own."""


class RowInputs:
    """Gives each stacked network of a batched pass the data of its own member and agents, from the data of all of them.

    Samples beyond the largest batch size of the networks in the pack are left out.

    Args:
        scored: For each row, and each of the agents that its network plays or scores: the agent, and the place of the
            row's member in the pass. K * n pairs.
        per_row: n, how many of these pairs belong to one row.
        agents: How many agents the networks of the role play or score in all.
        members: M.
        width: Numbers that the networks' first input holds, of the widest.
        samples: How many samples members with networks in the pack learn from at most, and all of the population;
            None: rows compute all that they are given.
        device: Where the data is.
    """

    def __init__(
        self,
        scored: Sequence[tuple[int, int]],
        per_row: int,
        *,
        agents: int,
        members: int,
        width: int,
        samples: tuple[int, int] | None,
        device: torch.device,
    ) -> None:
        self._per_row, self._width, self._samples = per_row, width, samples
        self._read_agents = list(dict.fromkeys(agent for agent, _ in scored))

        def index(places: list[int], available: int) -> Tensor | None:
            """Return positions as an index tensor on the device; None if they are 0, 1, 2 ... and need no index."""
            return None if places == list(range(available)) else torch.tensor(places).to(device, non_blocking=True)

        joint = [member for _, member in scored[::per_row]]  # the agents of a row are of one member
        self._by_member = index(joint, members)
        self._runs = runs_of_members(joint)
        self._by_agent = index([agent * members + member for agent, member in scored], agents * members)
        read = {agent: i for i, agent in enumerate(self._read_agents)}
        self._by_read_agent = index([read[agent] * members + member for agent, member in scored], len(read) * members)

    def joint(self, source: Tensor) -> Tensor | ByMember:
        """Give each of K networks what its member's networks all read, (M, B, D): (K, B, D); else as `spread`."""
        if source.dim() == 4:
            return self.spread(source)
        x = self.cut(source)
        if self._by_member is None:
            return x
        read = x[0].numel() * len(self._by_member) // len(self._runs)
        # (What has one column alone is not multiplied as matrices are.)
        if read >= IN_PLACE and x.shape[-1] > 1 and x.device.type == "cpu" and not torch.compiler.is_compiling():
            return ByMember(x, self._runs)
        return x.index_select(0, self._by_member)

    def by_agent(self, source: Tensor) -> Tensor:
        """Gather what each network reads for each of its agents from (N, M, B, D): (K * n, B, D)."""
        x = self.cut(source).flatten(0, 1)
        return x if self._by_agent is None else x.index_select(0, self._by_agent)

    def spread(self, source: Source) -> Tensor:
        """Gather each of K networks' inputs from data by agent: (K, n * B, D), n agents a network, B samples."""
        if isinstance(source, Tensor):
            x = self.by_agent(source)
        else:
            x = self._side_by_side([self.cut(source[agent]) for agent in self._read_agents])
            if self._by_read_agent is not None:
                x = x.index_select(0, self._by_read_agent)
        return x if self._per_row == 1 else x.reshape(x.shape[0] // self._per_row, -1, x.shape[-1])

    def cut(self, x: Tensor) -> Tensor:
        """Drop samples of (..., samples, D) beyond the largest batch size of the networks in the pack."""
        if self._samples is None or x.shape[-2] != self._samples[1]:
            return x
        return x[..., : self._samples[0], :]

    def uncut(self, x: Tensor) -> Tensor:
        """Append zeros to (..., samples, D) where `cut` dropped samples, up to the largest batch size of all."""
        if self._samples is None or x.shape[-2] != self._samples[0] or self._samples[0] == self._samples[1]:
            return x
        whole = x.new_zeros(*x.shape[:-2], self._samples[1], x.shape[-1])
        whole[..., : self._samples[0], :] = x
        return whole

    def _side_by_side(self, own: Sequence[Tensor]) -> Tensor:
        """Stack observations of unequal width, one (M, B, D_agent) an agent, as (agents * M, B, D), padded with zeros.

        Dims: M members, B samples, D numbers of the widest observation that the networks read.
        """
        if all(x.shape[-1] == self._width for x in own):
            return own[0] if len(own) == 1 else torch.cat(list(own))
        padded = own[0].new_zeros(len(own), *own[0].shape[:-1], self._width)
        for rows, x in zip(padded, own, strict=True):
            rows[..., : x.shape[-1]] = x
        return padded.flatten(0, 1)


def runs_of_members(members: Sequence[int]) -> tuple[Run, ...]:
    """Split rows, given each one's member, into runs of neighbours that read neighbouring members."""
    starts = [i for i, m in enumerate(members) if i == 0 or m != members[i - 1] + 1]
    return tuple((a, b, members[a]) for a, b in zip(starts, [*starts[1:], len(members)], strict=True))
