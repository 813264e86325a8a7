"""How rows lie in the replay memory: one matrix per dtype, so that a batch is one gather per dtype.

The batch dims are M members, B samples each, N agents in environment order; A is the width of all agents' actions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from covey.spaces import Box, Discrete, EnvironmentSpaces, action_bounds


@dataclass(frozen=True, slots=True)
class Batch:
    """Decisions drawn for M members, padded to the largest batch; observations are float32.

    Attributes:
        observation: Per group, (M, B, agents of the group * width).
        action: (M, B, A), Box mapped to [-1, 1] and Discrete as one-hot, agents in environment order.
        reward: (M, B, N).
        terminated: (M, B, N), 1 where the agent's episode ended by the environment's rules; a truncated decision is 0.
        weight: (M, B, N), 1 where the agent took part and the sample is one of the member's own, not padding.
        next_observation: Per group, as `observation`, of the row after.
    """

    observation: tuple[Tensor, ...]
    action: Tensor
    reward: Tensor
    terminated: Tensor
    weight: Tensor
    next_observation: tuple[Tensor, ...]


@dataclass(frozen=True, slots=True)
class Block:
    """A stretch of a fragment's column and where it lies in a row: agents `first` to `last` of the group."""

    column: str
    first: int
    last: int
    dtype: str
    offset: int
    width: int


@dataclass(frozen=True, slots=True)
class ActionRun:
    """Consecutive agents whose actions are stored and mapped alike."""

    agents: tuple[int, ...]
    dtype: str
    offset: int
    width: int
    discrete: int  # number of values, 0 for Box
    start: int


class RowLayout:
    """Where each column lies in the matrices, and how matrix rows become a `Batch`."""

    def __init__(self, spaces: EnvironmentSpaces, device: torch.device) -> None:
        self.widths: dict[str, int] = {}
        self.blocks: list[Block] = []
        self._observations = []
        for group in spaces.groups:
            width = group.observation.width * len(group)
            column = f"{group.group_id}/observation"
            offset = self._place(column, 0, len(group), str(group.observation.dtype), width)
            self._observations.append((str(group.observation.dtype), offset, width))
        self._actions = self._place_actions(spaces)
        self._agents = len(spaces.agents)
        self._reward = self._place_numbers(spaces, "reward", "float32")
        self._terminated = self._place_numbers(spaces, "terminated", "uint8")
        self._active = self._place_numbers(spaces, "active", "uint8")
        self._affine = [self._unit_mapping(spaces, run, device) for run in self._actions]
        self._values = [torch.arange(run.discrete, device=device) for run in self._actions]

    @property
    def row_bytes(self) -> int:
        """Bytes of one row over all matrices."""
        return sum(width * torch_dtype(dtype).itemsize for dtype, width in self.widths.items())

    def _place(self, column: str, first: int, last: int, dtype: str, width: int) -> int:
        offset = self.widths.get(dtype, 0)
        self.blocks.append(Block(column, first, last, dtype, offset, width))
        self.widths[dtype] = offset + width
        return offset

    def _place_numbers(self, spaces: EnvironmentSpaces, name: str, dtype: str) -> int:
        """One number per agent, in environment order; returns the first one's offset."""
        start = self.widths.get(dtype, 0)
        for group_id, first, last in _stretches(spaces):
            self._place(f"{group_id}/{name}", first, last, dtype, last - first)
        return start

    def _place_actions(self, spaces: EnvironmentSpaces) -> tuple[ActionRun, ...]:
        runs: list[ActionRun] = []
        at = 0
        for group_id, first, last in _stretches(spaces):
            group = next(g for g in spaces.groups if g.group_id == group_id)
            space = group.action
            dtype = str(space.dtype)
            numbers = last - first if isinstance(space, Discrete) else space.width * (last - first)
            offset = self._place(f"{group_id}/action", first, last, dtype, numbers)
            values, start = (space.n, space.start) if isinstance(space, Discrete) else (0, 0)
            agents = tuple(range(at, at + last - first))
            before = runs[-1] if runs else None
            if before and (before.dtype, before.discrete, before.start) == (dtype, values, start):
                runs[-1] = ActionRun(
                    before.agents + agents, dtype, before.offset, before.width + numbers, values, start
                )
            else:
                runs.append(ActionRun(agents, dtype, offset, numbers, values, start))
            at += last - first
        return tuple(runs)

    @staticmethod
    def _unit_mapping(spaces: EnvironmentSpaces, run: ActionRun, device: torch.device) -> tuple[Tensor, Tensor]:
        """Factor and summand, (width,) float32 each, that map a Box's own units to [-1, 1]."""
        factors, summands = [], []
        for i in run.agents:
            space = spaces.agents[i].action
            if isinstance(space, Box):
                low, high = (torch.from_numpy(bound) for bound in action_bounds(space))
                # A bound that leaves no room has one action: any number stands for it.
                factor = torch.where(high > low, 2 / (high - low), 0)
                factors.append(factor)
                summands.append(torch.where(high > low, -1 - low * factor, 0))
        if not factors:
            return torch.empty(0), torch.empty(0)
        return torch.cat(factors).to(device, torch.float32), torch.cat(summands).to(device, torch.float32)

    def batch(self, rows: dict[str, Tensor], sizes: Tensor) -> Batch:
        """Matrix rows (2, M, B, width) by dtype, of decisions and of the rows after them, as a `Batch`.

        Args:
            rows: Gathered rows, one tensor per dtype.
            sizes: (M,) batch size of each member; samples beyond it get weight 0.
        """
        seen = [rows[dtype][..., offset : offset + width].float() for dtype, offset, width in self._observations]
        actions = []
        for run, affine, values in zip(self._actions, self._affine, self._values, strict=True):
            raw = rows[run.dtype][0, ..., run.offset : run.offset + run.width]
            if run.discrete:
                actions.append((raw.unsqueeze(-1) == values + run.start).float().flatten(-2))
            else:
                actions.append(raw.float() * affine[0] + affine[1])
        n = self._agents
        flags = rows["uint8"][0]
        active = flags[..., self._active : self._active + n] > 0
        own = torch.arange(active.shape[1], device=active.device).unsqueeze(0) < sizes.unsqueeze(1)
        return Batch(
            observation=tuple(x[0] for x in seen),
            action=actions[0] if len(actions) == 1 else torch.cat(actions, -1),
            reward=rows["float32"][0, ..., self._reward : self._reward + n],
            terminated=flags[..., self._terminated : self._terminated + n].float(),
            weight=(active & own.unsqueeze(-1)).float(),
            next_observation=tuple(x[1] for x in seen),
        )


def torch_dtype(name: str) -> torch.dtype:
    """The torch dtype of a numpy dtype name."""
    dtype = getattr(torch, name)
    assert isinstance(dtype, torch.dtype)
    return dtype


def _stretches(spaces: EnvironmentSpaces) -> Iterator[tuple[str, int, int]]:
    """Agents in environment order as (group id, first, last) runs that are neighbours in their group too."""
    place = {agent: (g.group_id, k) for g in spaces.groups for k, agent in enumerate(g.agents)}
    at = 0
    while at < len(spaces.agents):
        group_id, first = place[at]
        last = first + 1
        at += 1
        while at < len(spaces.agents) and place[at] == (group_id, last):
            last += 1
            at += 1
        yield group_id, first, last
