"""How rows lie in the replay memory: one matrix per dtype, so that a batch is one gather per dtype.

The batch dims are M members, B samples each, N agents in environment order; A is the width of all agents' actions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from covey.rows import Columns
from covey.spaces import Box, Discrete, EnvironmentSpaces, Group, action_bounds
from covey_server.experience.batch import Batch
from covey_server.experience.observations import TorchEncoding
from covey_server.experience.parts import Decided, Part


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


@dataclass(frozen=True, slots=True)
class MaskRun:
    """Consecutive agents whose masks are stored side by side; `values` is 0 where they have none."""

    offset: int
    width: int
    values: int


class RowLayout:
    """Where each column lies in the matrices, and how matrix rows become a `Batch`."""

    def __init__(self, spaces: EnvironmentSpaces, device: torch.device) -> None:
        self.widths: dict[str, int] = {}
        self.blocks: list[Block] = []
        self._observations = [self._place_observation(group, device) for group in spaces.groups]
        self._actions = self._place_actions(spaces)
        self._masks = self._place_masks(spaces)
        self._agents = len(spaces.agents)
        self._reward = self._place_numbers(spaces, "reward", "float32")
        self._terminated = self._place_numbers(spaces, "terminated", "uint8")
        self._part = self.widths["uint8"]
        self.widths["uint8"] += self._agents
        self._affine = [self._unit_mapping(spaces, run, device) for run in self._actions]
        self._values = [torch.arange(run.discrete, device=device) for run in self._actions]
        widths = torch.tensor([a.action.width for a in spaces.agents])
        self._owner = torch.arange(self._agents).repeat_interleave(widths).to(device)
        self._self = torch.eye(self._agents, dtype=torch.bool, device=device).view(self._agents, 1, 1, self._agents)

    @property
    def row_bytes(self) -> int:
        """Bytes of one row over all matrices, its links included."""
        return sum(width * torch_dtype(dtype).itemsize for dtype, width in self.widths.items()) + 8 * self._agents

    @property
    def link_width(self) -> int:
        """Numbers of a row's links: for each agent how far on its decision closes, 0 where none does; then k."""
        return 2 * self._agents

    def write(self, into: dict[str, NDArray[np.generic]], columns: Columns, decided: Decided | None) -> None:
        """Write a fragment into matrices of as many rows; `decided` where not everybody acts in all of them."""
        n = self._agents
        for b in self.blocks:
            source = columns[b.column][:, b.first : b.last]
            into[b.dtype][:, b.offset : b.offset + b.width] = source.reshape(len(source), b.width)
        if decided is None:
            into["uint8"][:, self._part : self._part + n] = Part.CHOSE
        else:
            into["float32"][:, self._reward : self._reward + n] = decided.closed.reward
            into["uint8"][:, self._terminated : self._terminated + n] = decided.closed.terminated
            into["uint8"][:, self._part : self._part + n] = decided.parts

    def _place(self, column: str, first: int, last: int, dtype: str, width: int) -> int:
        offset = self.widths.get(dtype, 0)
        self.blocks.append(Block(column, first, last, dtype, offset, width))
        self.widths[dtype] = offset + width
        return offset

    def _place_observation(self, group: Group, device: torch.device) -> tuple[TorchEncoding, str, int, int, Tensor]:
        """Its encoding, dtype, offset and width as stored, and for each number as encoded the agent's index."""
        encoding = TorchEncoding(group.observation, device)
        dtype, width = str(group.observation.dtype), encoding.numbers * len(group)
        offset = self._place(f"{group.group_id}/observation", 0, len(group), dtype, width)
        owner = torch.tensor(group.agents).repeat_interleave(encoding.width).to(device)
        return encoding, dtype, offset, width, owner

    def _place_masks(self, spaces: EnvironmentSpaces) -> tuple[MaskRun, ...]:
        """Runs of agents over the width of all actions; none where no agent has a mask."""
        if not any(group.masked for group in spaces.groups):
            return ()
        runs = []
        for group_id, first, last in _stretches(spaces):
            group = next(g for g in spaces.groups if g.group_id == group_id)
            width = group.action.width * (last - first)
            if group.masked:
                offset = self._place(f"{group_id}/action_mask", first, last, "uint8", width)
                runs.append(MaskRun(offset, width, group.action.width))
            else:
                runs.append(MaskRun(0, width, 0))
        return tuple(runs)

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

    def batch(self, now: dict[str, Tensor], after: dict[str, Tensor], links: Tensor | None, sizes: Tensor) -> Batch:
        """Matrix rows by dtype as a `Batch`.

        Args:
            now: (M, B, width), rows in which decisions were made.
            after: (M, B, width), the rows after them; with links (N, M, B, width), the rows that links lead to.
            links: (M, B, 2N) of `now`; None where everybody acts in all rows.
            sizes: (M,) batch size of each member; samples beyond it get weight 0.
        """
        n = self._agents
        flags = now["uint8"]
        own = torch.arange(flags.shape[1], device=flags.device).unsqueeze(0) < sizes.unsqueeze(1)
        part = next_part = None
        closes = own.unsqueeze(-1)
        if links is not None:
            part = flags[..., self._part : self._part + n]
            next_part = after["uint8"][..., self._part : self._part + n]
            next_part = next_part.masked_fill(self._self & (next_part != Part.FORCED), Part.CHOSE)
            closes = closes & (links[..., :n] > 0)
        return Batch(
            observation=self._seen(now, part),
            action=self._done(now, part),
            legal=self._legal(now["uint8"]),
            part=part,
            reward=now["float32"][..., self._reward : self._reward + n],
            steps=None if links is None else links[..., n:],
            terminated=flags[..., self._terminated : self._terminated + n].float(),
            weight=closes.float().expand(*own.shape, n),
            next_observation=self._seen(after, next_part),
            next_action=None if next_part is None else self._done(after, next_part),
            next_legal=self._legal(after["uint8"]),
            next_part=next_part,
        )

    def _seen(self, rows: dict[str, Tensor], part: Tensor | None) -> tuple[Tensor, ...]:
        """Observations per group, encoded."""
        seen = []
        for encoding, dtype, offset, width, owner in self._observations:
            x = encoding(rows[dtype][..., offset : offset + width])
            if part is not None and not encoding.plain:
                x = x * (part != Part.ABSENT).index_select(-1, owner)
            seen.append(x)
        return tuple(seen)

    def _done(self, rows: dict[str, Tensor], part: Tensor | None) -> Tensor:
        """Joint actions as critics read them."""
        actions = []
        for run, affine, values in zip(self._actions, self._affine, self._values, strict=True):
            raw = rows[run.dtype][..., run.offset : run.offset + run.width]
            if run.discrete:
                actions.append((raw.unsqueeze(-1) == values + run.start).float().flatten(-2))
            else:
                actions.append(raw.float() * affine[0] + affine[1])
        joint = actions[0] if len(actions) == 1 else torch.cat(actions, -1)
        if part is None:
            return joint
        there = (part != Part.ABSENT) & (part != Part.LEFT)
        return joint * there.index_select(-1, self._owner)

    def _legal(self, flags: Tensor) -> Tensor | None:
        """Joint masks; nothing is masked for agents without one, or with a mask of zeros (they do not act)."""
        if not self._masks:
            return None
        legal = []
        for run in self._masks:
            if run.values:
                mask = flags[..., run.offset : run.offset + run.width].reshape(*flags.shape[:-1], -1, run.values) > 0
                legal.append((mask | ~mask.any(-1, keepdim=True)).flatten(-2))
            else:
                legal.append(torch.ones((), dtype=torch.bool, device=flags.device).expand(*flags.shape[:-1], run.width))
        return legal[0] if len(legal) == 1 else torch.cat(legal, -1)


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
