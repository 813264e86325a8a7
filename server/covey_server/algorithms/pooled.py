"""A round's decisions as the networks that made them learn from them: pooled, encoded and laid flat on the device.

A network's decisions are those of all agents that it plays, each with its own observation, action, mask and outcome.

Dims: R pairs of a policy and a value (ids, each for the members due in turn), V views and D decisions of all of them,
pair by pair; W numbers that the widest network reads, O outputs of the widest policy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from covey_server.algorithms.kinds import Kind
from covey_server.experience.observations import TorchEncoding
from covey_server.experience.rollouts import AgentDecisions, Rollout

Parts = Sequence[tuple[AgentDecisions, int]]
"""What agents decided, and which one of its network's each is."""


@dataclass(frozen=True, slots=True)
class Pooled:
    """What the networks of a family learn from.

    Attributes:
        x: (V, W) what networks read.
        view_counts: (R,) of each pair.
        here: (D,) int64 into `x`.
        after: (D,) int64 into `x`, where the decision closed.
        counts: (R,) decisions of each pair.
        action: (D, O), encoded by the kind's distribution.
        mask: (D, O), or None where no agent has masks.
        chosen: (D,) 1 where the agent chose, 0 where the environment did.
        steps: (D,) env steps that the decision took.
        reward: (D,).
        terminated: (D,) 1 or 0.
        continues: (D,) 1 where the next element is the same agent's next decision.
        longest: Decisions of the longest trajectory.
        forced: Whether the environment chose anywhere.
    """

    x: Tensor
    view_counts: NDArray[np.int64]
    here: Tensor
    after: Tensor
    counts: NDArray[np.int64]
    action: Tensor
    mask: Tensor | None
    chosen: Tensor
    steps: Tensor
    reward: Tensor
    terminated: Tensor
    continues: Tensor
    longest: int
    forced: bool


class Pool:
    """Pools the rounds of a family's networks."""

    def __init__(self, family: Sequence[Kind], device: torch.device) -> None:
        self._family, self._device = family, device
        self._encodings = [TorchEncoding(kind.observation, device) for kind in family]
        self._width = max(kind.width for kind in family)
        self._outputs = max(kind.action.width for kind in family)
        self._masked = any(kind.masked for kind in family)

    def __call__(self, rounds: Sequence[Rollout]) -> Pooled:
        """The decisions of all networks of the family in these rounds, one for each member due."""
        by_kind: list[Parts] = [
            [(r.agents[a], j) for agents in kind.ids.values() for r in rounds for j, a in enumerate(agents)]
            for kind in self._family
        ]
        parts = [part for its in by_kind for part, _ in its]
        sizes = [len(agents) for kind in self._family for agents in kind.ids.values() for _ in rounds]
        pair = np.repeat(np.arange(len(sizes)), sizes)
        views = np.array([len(part.view) for part in parts])
        decisions = np.array([len(part.here) for part in parts])
        first = np.repeat(np.cumsum(views) - views, decisions)
        forced, continues = (np.concatenate([getattr(p, name) for p in parts]) for name in ("forced", "continues"))
        return Pooled(
            x=torch.cat([self._read(i, its) for i, its in enumerate(by_kind)]),
            view_counts=np.bincount(pair, views, len(sizes)).astype(np.int64),
            here=self._put(np.concatenate([part.here for part in parts]) + first),
            after=self._put(np.concatenate([part.after for part in parts]) + first),
            counts=np.bincount(pair, decisions, len(sizes)).astype(np.int64),
            action=torch.cat([self._acted(k, its) for k, its in zip(self._family, by_kind, strict=True)]),
            mask=torch.cat([self._legal(k, its) for k, its in zip(self._family, by_kind, strict=True)])
            if self._masked
            else None,
            chosen=self._number(~forced),
            steps=self._number(np.concatenate([part.steps for part in parts])),
            reward=self._number(np.concatenate([part.reward for part in parts])),
            terminated=self._number(np.concatenate([part.terminated for part in parts])),
            continues=self._number(continues),
            longest=_longest_run(continues),
            forced=bool(forced.any()),
        )

    def _read(self, i: int, parts: Parts) -> Tensor:
        """(V, W) what networks of kind i read."""
        kind, encode = self._family[i], self._encodings[i]
        view = np.concatenate([part.view for part, _ in parts])
        x = encode(self._put(view.reshape(len(view), encode.numbers)))
        if kind.indicator:
            index = self._put(np.repeat([j for _, j in parts], [len(part.view) for part, _ in parts]))
            x = torch.cat([x, F.one_hot(index, kind.indicator).float()], -1)
        return F.pad(x, (0, self._width - kind.width))

    def _acted(self, kind: Kind, parts: Parts) -> Tensor:
        """(D, O) what agents of this kind did."""
        action = kind.distribution.encode(np.concatenate([part.action for part, _ in parts]))
        return F.pad(self._put(action), (0, self._outputs - kind.action.width))

    def _legal(self, kind: Kind, parts: Parts) -> Tensor:
        """(D, O) what they might have done."""
        masks = [part.mask for part, _ in parts if part.mask is not None]
        if not masks:
            return torch.ones(sum(len(part.here) for part, _ in parts), self._outputs, device=self._device)
        mask = kind.distribution.legal(np.concatenate(masks))
        return F.pad(self._put(mask), (0, self._outputs - kind.action.width))

    def _number(self, values: NDArray[Any]) -> Tensor:
        return self._put(values.astype(np.float32))

    def _put(self, values: NDArray[Any]) -> Tensor:
        return torch.from_numpy(values).to(self._device)


def _longest_run(continues: NDArray[np.bool_]) -> int:
    """Elements of the longest trajectory, each of which ends where nothing continues."""
    ends = np.flatnonzero(~continues)
    return int(np.diff(ends, prepend=-1).max(initial=0))
