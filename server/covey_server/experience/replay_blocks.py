"""Parts of a row of the replay memory: where the numbers of a column lie, and how they become what networks read."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from covey.spaces import (
    Box,
    Discrete,
    LeafSpace,
    MultiBinary,
    MultiDiscrete,
    Space,
    action_bounds,
    leaves,
    mask_width,
)
from covey_server.experience.observations import TorchEncoding


@dataclass(frozen=True, slots=True)
class Block:
    """Where one column's numbers for some neighbouring agents of a group lie in a row of a replay matrix.

    Attributes:
        column: Name of the fragment's column.
        first: First agent, by its index in the group.
        last: The agent after the last one.
        dtype: The matrix.
        offset: First number in the matrix's row.
        width: Number of numbers, over these agents.
    """

    column: str
    first: int
    last: int
    dtype: str
    offset: int
    width: int


@dataclass(frozen=True, slots=True)
class ActionRun:
    """Where the actions of neighbouring agents lie in replay, if one operation can map them all for networks.

    Attributes:
        spaces: Their action spaces; of agents whose actions are trees, those of the leaves.
        dtype: The matrix.
        offset: First number in the matrix's row.
        width: Number of numbers as stored, over these agents.
        discrete: Number of values of a Discrete action; 0 for other actions.
        start: The lowest value of a Discrete action.
    """

    spaces: tuple[LeafSpace, ...]
    dtype: str
    offset: int
    width: int
    discrete: int
    start: int


@dataclass(frozen=True, slots=True)
class MaskRun:
    """Where the action masks of neighbouring agents, in environment order, lie side by side in replay.

    Attributes:
        offset: First number in a row of the uint8 matrix.
        width: Number of numbers over these agents, or the width of their actions where they have no masks.
        choices: Number of values of each choice in one agent's mask; () where these agents have no masks.
        place: For each number of one agent's action its place in the mask, or the mask's width where the mask says
            nothing about it; None where both are the same.
    """

    offset: int
    width: int
    choices: tuple[int, ...]
    place: Tensor | None = None


@dataclass(frozen=True, slots=True)
class StoredLeaf:
    """Where a group's observations of one leaf lie in replay, and how they are encoded.

    Attributes:
        encoding: For networks; of stacks where these read several observations.
        dtype: The matrix.
        offset: First number in the matrix's row.
        width: Number of numbers, over all agents of the group.
        apart: Of one agent's observation, how many numbers come before and after the axis on which frames are stacked.
    """

    encoding: TorchEncoding
    dtype: str
    offset: int
    width: int
    apart: tuple[int, int]


def unit_mapping(run: ActionRun, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return factor and summand, (width,) float32 each, that map these agents' Box actions to [-1, 1].

    Switches stay as they are. Both are empty for other actions.
    """
    factors, summands = [], []
    for space in run.spaces:
        if isinstance(space, MultiBinary):
            factors.append(torch.ones(space.n))
            summands.append(torch.zeros(space.n))
        elif isinstance(space, Box):
            low, high = (torch.from_numpy(bound) for bound in action_bounds(space))
            # u = 2 (x - low) / (high - low) - 1. Where both bounds are equal there is one action; 0 stands for it.
            factor = torch.where(high > low, 2 / (high - low), 0)
            factors.append(factor)
            summands.append(torch.where(high > low, -1 - low * factor, 0))
    if not factors:
        return torch.empty(0), torch.empty(0)
    return torch.cat(factors).to(device, torch.float32), torch.cat(summands).to(device, torch.float32)


def mask_places(action: Space, device: torch.device) -> Tensor | None:
    """Return for each number of an action its place in the mask, see `MaskRun`."""
    width, at = mask_width(action), 0
    if width == action.width:
        return None
    places: list[int] = []
    for leaf in leaves(action):
        masked = isinstance(leaf.space, Discrete | MultiDiscrete)
        places += range(at, at + leaf.space.width) if masked else [width] * leaf.space.width
        at += leaf.space.width if masked else 0
    return torch.tensor(places).to(device, non_blocking=True)
