"""What networks read of on-policy rollouts: encoded all at once where that is little, else by the minibatch.

Encoded, a number takes four bytes; stored, a pixel takes one. A round of images is therefore kept as it came, and
encoded where a minibatch needs it; for vectors one encoding for all passes is faster.

Dims: V views (what an agent saw in some row) of all agents, W numbers that the widest network reads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from covey_server.experience.observations import TorchEncoding
from covey_server.experience.rollouts import RoundColumn

ENCODED_BYTES = 64 << 20
"""Rounds that take up to this many bytes when they are encoded are encoded all at once."""

PIECE_BYTES = 256 << 10
"""Bytes of encoded views that are made at a time of rounds that are not: what a core's cache holds."""


@dataclass(frozen=True, slots=True)
class AgentRound:
    """What a network of one agent reads of one member's round: for policies what the agent saw, for critics also more.

    Attributes:
        rows: (V,), the rows that count.
        sources: What is read in all rows of the round: arrays of R rows each, in the spaces' own dtypes.
        encode: Their encodings, an object that rounds of one kind share.
        indicator: Length of the one-hot index that networks of several agents read besides; 0 for none.
        place: The agent's index among those that share its network.
    """

    rows: NDArray[np.int64]
    sources: Sequence[RoundColumn]
    encode: Sequence[TorchEncoding]
    indicator: int
    place: int

    def __len__(self) -> int:
        return len(self.rows)

    def seen(self, views: slice | NDArray[np.int64]) -> list[NDArray[np.generic]]:
        """Copy some of what is read, as it is stored: (views, numbers) for each source."""
        rows = self.rows[views]
        return [
            source[rows].reshape(len(rows), encode.numbers)
            for source, encode in zip(self.sources, self.encode, strict=True)
        ]

    def read(
        self, seen: Sequence[NDArray[np.generic]], places: Sequence[int], width: int, device: torch.device
    ) -> Tensor:
        """Encode what is read of rounds of this kind, with the agents' one-hot index if their network reads one.

        Args:
            seen: (views, numbers) for each source.
            places: (views,), each agent's index among those that share its network.
            width: Numbers to be zero-padded to.
            device: Where they are needed.

        Returns:
            (views, width) float32.
        """
        read = [
            encode(torch.from_numpy(source).to(device, non_blocking=True))
            for encode, source in zip(self.encode, seen, strict=True)
        ]
        x = read[0] if len(read) == 1 else torch.cat(read, -1)
        if self.indicator:
            index = torch.tensor(places).to(device, non_blocking=True)
            x = torch.cat([x, F.one_hot(index, self.indicator).float()], -1)
        return F.pad(x, (0, width - x.shape[-1])) if width > x.shape[-1] else x


Change = Callable[[Tensor, Tensor], Tensor]


class RoundInputs(Protocol):
    """Gives what networks read of a round, encoded: any of its V views (an agent's observation in a row), by index."""

    def take(self, index: Tensor) -> Tensor:
        """Return what networks read in these views, (*index's shape, W) float32; until the next call at least."""
        ...

    def change(self, change: Change) -> None:
        """Let networks read from now on what a function makes of what they would read.

        Args:
            change: Given views (n,) and what is read in them (n, W), returns what is to be read instead; it may write
                over what it is given.
        """
        ...


class Encoded:
    """Views that are encoded already.

    Args:
        agents: What each agent saw in each round, one after another.
        width: W.
        device: Where networks learn.
    """

    def __init__(self, agents: Sequence[AgentRound], width: int, device: torch.device) -> None:
        read = []
        for _, run in groupby(agents, key=lambda agent: id(agent.encode)):  # one encoding for all agents of a type
            alike = list(run)
            seen = [np.concatenate(its) for its in zip(*(agent.seen(slice(None)) for agent in alike), strict=True)]
            read.append(alike[0].read(seen, [a.place for a in alike for _ in range(len(a))], width, device))
        self._x = torch.cat(read)

    def take(self, index: Tensor) -> Tensor:
        """Return what networks read in these views."""
        return self._x.index_select(0, index.flatten()).view(*index.shape, -1)

    def change(self, change: Change) -> None:
        """Change all views at once."""
        self._x = change(torch.arange(len(self._x), device=self._x.device), self._x)


class Stored:
    """Views in the spaces' own dtypes, which are encoded whenever they are asked for.

    Args:
        agents: What each agent saw in each round, one after another.
        width: W.
        device: Where networks learn.
    """

    def __init__(self, agents: Sequence[AgentRound], width: int, device: torch.device) -> None:
        self._agents, self._width, self._device = agents, width, device
        self._ends = np.cumsum([len(agent) for agent in agents])
        self._buffer = torch.empty(0, width, device=device)
        self._change: Change | None = None

    def take(self, index: Tensor) -> Tensor:
        """Encode these views, in memory that the next call overwrites."""
        wanted = index.flatten().cpu().numpy()
        if len(wanted) > len(self._buffer):
            self._buffer = torch.empty(len(wanted), self._width, device=self._device)
        x = self._buffer[: len(wanted)]
        whose = np.searchsorted(self._ends, wanted, side="right")
        most = max(1, PIECE_BYTES // (4 * self._width))
        for a in np.unique(whose):
            agent, places = self._agents[a], np.flatnonzero(whose == a)
            for first in range(0, len(places), most):
                at = places[first : first + most]
                seen = agent.seen(wanted[at] - (self._ends[a] - len(agent)))
                read = agent.read(seen, [agent.place] * len(at), self._width, self._device)
                x[torch.from_numpy(at).to(self._device, non_blocking=True)] = read
        if self._change is not None:
            x = self._change(index.flatten(), x)
        return x.view(*index.shape, -1)

    def change(self, change: Change) -> None:
        """Change views whenever they are asked for."""
        self._change = change


def round_inputs(agents: Sequence[AgentRound], width: int, device: torch.device) -> RoundInputs:
    """Encode what agents saw now, or prepare to do so by the minibatch, by the bytes that it would take."""
    views = sum(map(len, agents))
    kind = Encoded if 4 * width * views <= ENCODED_BYTES else Stored
    return kind(agents, width, device)
