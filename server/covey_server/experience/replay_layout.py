"""How rows lie in the replay memory: in one matrix per dtype, so that a minibatch takes one gather per dtype.

Dims of a minibatch: M members, B samples each, N agents in environment order, A width of all agents' actions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from covey.rows import STATE, Columns, leaf_columns
from covey.spaces import (
    Discrete,
    EnvironmentSpaces,
    Group,
    LeafSpace,
    MultiDiscrete,
    leaves,
    masked_choices,
    numbers_before_frames,
)
from covey_server.experience.batch import Batch
from covey_server.experience.observations import TorchEncoding
from covey_server.experience.parts import FragmentDecisions, Part
from covey_server.experience.replay_blocks import (
    ActionRun,
    Block,
    MaskRun,
    StoredLeaf,
    mask_places,
    unit_mapping,
)


class RowLayout:
    """Where each column of an actor's message lies in the replay matrices, and how minibatches are made of their rows.

    Args:
        spaces: The run's spaces.
        device: Where batches are made.

    Attributes:
        widths: Numbers per row of each matrix, by dtype.
        blocks: Where each column lies.
        observed: Dtypes of matrices that hold observations.
        earlier_column: Where policies read stacks of observations, the column of the uint8 matrix that says how many
            rows before a row belong to its stack.
    """

    def __init__(self, spaces: EnvironmentSpaces, device: torch.device) -> None:
        # Columns are placed one after another; `widths` grows as they are.
        self.widths: dict[str, int] = {}
        self.blocks: list[Block] = []
        self._frames = spaces.frame_stack
        self._observations = [self._place_observation(group, device) for group in spaces.groups]
        self.observed = frozenset(self.widths)
        self._state = self._place_state(spaces, device)
        self._actions = self._place_actions(spaces)
        self._masks = self._place_masks(spaces, device)
        self._agents = len(spaces.agents)
        self._reward = self._place_numbers(spaces, "reward", "float32")
        self._terminated = self._place_numbers(spaces, "terminated", "uint8")
        # Parts come from no column of the fragment: they are computed when it is inserted.
        self._part = self.widths["uint8"]
        self.widths["uint8"] += self._agents
        self.earlier_column = self.widths["uint8"]
        self.widths["uint8"] += self._frames > 1
        self._affine = [unit_mapping(run, device) for run in self._actions]
        self._one_hot = [
            TorchEncoding(run.spaces[0], device) if isinstance(run.spaces[0], MultiDiscrete) else None
            for run in self._actions
        ]
        self._values = [torch.arange(run.discrete, device=device) for run in self._actions]
        # For each number of the joint action, the agent whose action it is.
        widths = torch.tensor([a.action.width for a in spaces.agents])
        self._action_owner = torch.arange(self._agents).repeat_interleave(widths).to(device)
        # (N, 1, 1, N), whether the agent whose decision closes (first dim) is the agent looked at (last dim).
        self._is_same_agent = torch.eye(self._agents, dtype=torch.bool, device=device).view(
            self._agents, 1, 1, self._agents
        )

    @property
    def row_bytes(self) -> int:
        """Bytes that one row takes in replay, over all matrices and the numbers that say where its decisions close."""
        return sum(width * torch_dtype(dtype).itemsize for dtype, width in self.widths.items()) + 8 * self._agents

    @property
    def link_width(self) -> int:
        """Numbers kept per row to find where decisions close: per agent, the rows and the env steps until then."""
        return 2 * self._agents

    def write(
        self,
        into: dict[str, NDArray[np.generic]],
        columns: Columns,
        decisions: FragmentDecisions | None,
        earlier: NDArray[np.uint8] | None,
    ) -> None:
        """Write the columns of an actor's message into one matrix per dtype, each with as many rows as the message.

        Args:
            into: A matrix by dtype, (rows, width) each.
            columns: All rows of the fragment.
            decisions: Where not every agent acts in every row, when decisions close and what agents do; else None.
            earlier: Where observations are stacked, how many rows before each row its stack reaches back; else None.
        """
        n = self._agents
        for b in self.blocks:
            source = columns[b.column][:, b.first : b.last]
            into[b.dtype][:, b.offset : b.offset + b.width] = source.reshape(len(source), b.width)
        if self._state is not None:
            at = slice(self._state.offset, self._state.offset + self._state.width)
            into[self._state.dtype][:, at] = columns[STATE].reshape(len(columns[STATE]), self._state.width)
        if earlier is not None:
            into["uint8"][:, self.earlier_column] = earlier
        if decisions is None:
            into["uint8"][:, self._part : self._part + n] = Part.CHOSE
        else:
            # A row's reward and flag become those of the whole decision made in it, not of its env step alone.
            into["float32"][:, self._reward : self._reward + n] = decisions.closed.reward
            into["uint8"][:, self._terminated : self._terminated + n] = decisions.closed.terminated
            into["uint8"][:, self._part : self._part + n] = decisions.parts

    def _place(self, column: str, first: int, last: int, dtype: str, width: int) -> int:
        """Append agents `first` to `last` (excluded) of a column to the matrix of this dtype.

        Returns where they begin.
        """
        offset = self.widths.get(dtype, 0)
        self.blocks.append(Block(column, first, last, dtype, offset, width))
        self.widths[dtype] = offset + width
        return offset

    def _place_observation(self, group: Group, device: torch.device) -> tuple[list[StoredLeaf], int, Tensor]:
        """Append the observations of a group of agents to the matrices of their dtypes.

        Returns:
            The leaves; the number of agents; and the agent whose observation each encoded number is.
        """
        stored = []
        columns = leaf_columns(group.group_id, "observation", group.observation)
        for (column, leaf), read in zip(columns, leaves(group.stacked), strict=True):
            numbers, before = math.prod(leaf.shape), numbers_before_frames(leaf)
            offset = self._place(column, 0, len(group), leaf.dtype, numbers * len(group))
            apart = (before, numbers // max(1, before))
            encoding = TorchEncoding(read.space, device)
            stored.append(StoredLeaf(encoding, leaf.dtype, offset, numbers * len(group), apart))
        owner = torch.tensor(group.agents).repeat_interleave(group.stacked.width).to(device)
        return stored, len(group), owner

    def _place_state(self, spaces: EnvironmentSpaces, device: torch.device) -> StoredLeaf | None:
        """Append the state of the whole environment to the matrix of its dtype, where rows hold it."""
        if spaces.state is None:
            return None
        dtype, encoding = spaces.state.dtype, TorchEncoding(spaces.state, device)
        offset = self.widths.get(dtype, 0)
        self.widths[dtype] = offset + encoding.numbers
        return StoredLeaf(encoding, dtype, offset, encoding.numbers, (1, encoding.numbers))

    def _place_masks(self, spaces: EnvironmentSpaces, device: torch.device) -> tuple[MaskRun, ...]:
        """Append all agents' action masks to the uint8 matrix; returns () if no agent has one."""
        if not any(group.masked for group in spaces.groups):
            return ()
        runs = []
        for group_id, first, last in _neighbour_runs(spaces):
            group = next(g for g in spaces.groups if g.group_id == group_id)
            width = group.action.width * (last - first)
            if group.masked:
                values = tuple(n for n, _ in masked_choices(group.action))
                numbers = sum(values) * (last - first)
                offset = self._place(f"{group_id}/action_mask", first, last, "uint8", numbers)
                runs.append(MaskRun(offset, numbers, values, mask_places(group.action, device)))
            else:
                runs.append(MaskRun(0, width, ()))
        return tuple(runs)

    def _place_numbers(self, spaces: EnvironmentSpaces, name: str, dtype: str) -> int:
        """Append a column with one number per agent, such as the reward.

        Returns where the first agent's number lies.
        """
        start = self.widths.get(dtype, 0)
        for group_id, first, last in _neighbour_runs(spaces):
            self._place(f"{group_id}/{name}", first, last, dtype, last - first)
        return start

    def _place_actions(self, spaces: EnvironmentSpaces) -> tuple[ActionRun, ...]:
        """Append all agents' actions in environment order, joining neighbours that are stored and mapped alike."""
        runs: list[ActionRun] = []
        for group_id, first, last in _neighbour_runs(spaces):
            group = next(g for g in spaces.groups if g.group_id == group_id)
            parts = leaf_columns(group_id, "action", group.action)
            # Agents of one leaf lie side by side; of agents with several, one agent's leaves come before the next's.
            several = [(first, last)] if len(parts) == 1 else [(n, n + 1) for n in range(first, last)]
            for begin, end in several:
                for column, leaf in parts:
                    self._append_action(runs, column, leaf, begin, end)
        return tuple(runs)

    def _append_action(self, runs: list[ActionRun], column: str, space: LeafSpace, first: int, last: int) -> None:
        """Append the actions of agents `first` to `last` (excluded) of a column, joining them to the run before."""
        numbers = math.prod(space.shape) * (last - first)
        offset = self._place(column, first, last, space.dtype, numbers)
        values, start = (space.n, space.start) if isinstance(space, Discrete) else (0, 0)
        own = (space,) * (last - first)
        # One run for all agents of a simple environment: its actions then take one operation per batch.
        before = runs[-1] if runs else None
        alike = before and (before.dtype, before.discrete, before.start) == (space.dtype, values, start)
        joined = isinstance(space, MultiDiscrete) or (before and isinstance(before.spaces[0], MultiDiscrete))
        if before and alike and (not joined or before.spaces[0] == space):
            own, offset, numbers = before.spaces + own, before.offset, before.width + numbers
            runs.pop()
        runs.append(ActionRun(own, space.dtype, offset, numbers, values, start))

    def batch(
        self, seen: dict[str, Tensor], next_seen: dict[str, Tensor], links: Tensor | None, sizes: Tensor
    ) -> Batch:
        """Make a minibatch from rows gathered from the replay matrices, given by dtype.

        M members, B samples each, N agents; `width` is the numbers in a row of the matrix. F is 1; but where
        observations are stacked and the matrix has some, F are the frames of a stack: the rows before, oldest first,
        and the row itself.

        Args:
            seen: (F, M, B, width), rows in which decisions were made.
            next_seen: (F, M, B, width), the rows after them; with links (F, N, M, B, width), for each agent the row in
                which its decision closes.
            links: (M, B, 2N) int32, those of `now`; None where every agent acts in every row.
            sizes: (M,) batch size of each member; samples beyond it get weight 0.
        """
        n = self._agents
        now, after = ({dtype: x[-1] for dtype, x in rows.items()} for rows in (seen, next_seen))
        flags = now["uint8"]
        # (M, B), whether a sample is within its member's batch size, and not padding up to the largest one.
        is_sample = torch.arange(flags.shape[1], device=flags.device).unsqueeze(0) < sizes.unsqueeze(1)
        part = next_part = None
        closes = is_sample.unsqueeze(-1)
        if links is not None:
            part = flags[..., self._part : self._part + n]
            # Where its own decision closes, an agent that is not forced counts as choosing: its policy acts there next.
            next_part = after["uint8"][..., self._part : self._part + n]
            next_part = next_part.masked_fill(self._is_same_agent & (next_part != Part.FORCED), Part.CHOSE)
            closes = closes & (links[..., :n] > 0)
        return Batch(
            observation=self._encoded_observations(seen, part),
            action=self._joint_action(now, part),
            legal=self._legal_actions(now["uint8"]),
            part=part,
            reward=now["float32"][..., self._reward : self._reward + n],
            steps=None if links is None else links[..., n:],
            terminated=flags[..., self._terminated : self._terminated + n].float(),
            weight=closes.float().expand(*is_sample.shape, n),
            next_observation=self._encoded_observations(next_seen, next_part),
            next_action=None if next_part is None else self._joint_action(after, next_part),
            next_legal=self._legal_actions(after["uint8"]),
            next_part=next_part,
            state=self._encoded_state(now),
            next_state=self._encoded_state(after),
        )

    def _encoded_observations(self, rows: dict[str, Tensor], part: Tensor | None) -> tuple[Tensor, ...]:
        """Encode gathered observations of each group, (..., agents of the group * width), zeros for absent agents.

        Rows are (F, ..., width), for the F frames of a stack.
        """
        seen = []
        for stored, agents, owner in self._observations:
            encoded = [
                s.encoding(self._joined(rows[s.dtype][..., s.offset : s.offset + s.width], agents, s)) for s in stored
            ]
            x = encoded[0]
            if len(encoded) > 1:  # the leaves of one agent before those of the next
                x = torch.cat([y.unflatten(-1, (agents, -1)) for y in encoded], -1).flatten(-2)
            # Agents that are not there are stored as zeros, which an encoding may turn into other numbers, and earlier
            # frames of a stack may be of when they were there.
            if part is not None and not (self._frames == 1 and all(s.encoding.plain for s in stored)):
                x = x * (part != Part.ABSENT).index_select(-1, owner)
            seen.append(x)
        return tuple(seen)

    def _encoded_state(self, rows: dict[str, Tensor]) -> Tensor | None:
        """Encode the state of the whole environment of gathered rows; None where rows do not hold it."""
        if self._state is None:
            return None
        its = self._state
        return its.encoding(rows[its.dtype][..., its.offset : its.offset + its.width])

    def _joined(self, frames: Tensor, agents: int, stored: StoredLeaf) -> Tensor:
        """Join a leaf's frames, (F, ..., numbers of all agents), to stacks (..., numbers), one agent after another."""
        if self._frames == 1:
            return frames[0]
        apart: Tensor = frames.unflatten(-1, (agents, *stored.apart))
        return apart.movedim(0, -2).flatten(-4)

    def _joint_action(self, rows: dict[str, Tensor], part: Tensor | None) -> Tensor:
        """Join all agents' actions of gathered rows: Box mapped to [-1, 1], choices one-hot, zeros if absent."""
        actions = []
        for run, affine, values, one_hot in zip(self._actions, self._affine, self._values, self._one_hot, strict=True):
            raw = rows[run.dtype][..., run.offset : run.offset + run.width]
            if run.discrete:
                # One-hot: each stored number is compared with every value that it may have.
                actions.append((raw.unsqueeze(-1) == values + run.start).float().flatten(-2))
            elif one_hot is not None:
                actions.append(one_hot(raw))
            else:
                actions.append(raw.float() * affine[0] + affine[1])
        joint = actions[0] if len(actions) == 1 else torch.cat(actions, -1)
        if part is None:
            return joint
        there = (part != Part.ABSENT) & (part != Part.LEFT)
        return joint * there.index_select(-1, self._action_owner)

    def _legal_actions(self, flags: Tensor) -> Tensor | None:
        """Which numbers of the joint action are legal, (..., width) bool; None if no agent has an action mask.

        Agents without a mask may do anything; so may those whose mask is all zeros because they do not act, choice by
        choice.
        """
        if not self._masks:
            return None
        legal = []
        for run in self._masks:
            if run.choices:
                mask = flags[..., run.offset : run.offset + run.width] > 0
                by_choice = mask.unflatten(-1, (-1, sum(run.choices))).split_with_sizes(run.choices, -1)
                free = [m | ~m.any(-1, keepdim=True) for m in by_choice]
                may = free[0] if len(free) == 1 else torch.cat(free, -1)
                if run.place is not None:
                    may = F.pad(may, (0, 1), value=True).index_select(-1, run.place)
                legal.append(may.flatten(-2))
            else:
                legal.append(torch.ones((), dtype=torch.bool, device=flags.device).expand(*flags.shape[:-1], run.width))
        return legal[0] if len(legal) == 1 else torch.cat(legal, -1)


def torch_dtype(name: str) -> torch.dtype:
    """Return the torch dtype that has the name of a numpy dtype."""
    dtype = getattr(torch, name)
    assert isinstance(dtype, torch.dtype)
    return dtype


def _neighbour_runs(spaces: EnvironmentSpaces) -> Iterator[tuple[str, int, int]]:
    """Find runs of agents that are neighbours both in environment order and within their group.

    Yields:
        (group id, first, last) in environment order; `first` and `last`, which is excluded, count within the group.
    """
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
