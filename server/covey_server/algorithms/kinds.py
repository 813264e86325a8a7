"""Which networks learn together: kinds of them, families of kinds, and a family's share in a pack.

Agents of a kind see and do the same things. Kinds of a family differ in what their networks read and say; padded to the
widest, policies and values of all of them are one pack wherever the layers between are alike.

Dims: R pairs of a policy and a value (ids, each for the members due in turn), K networks of a pack, A policies and C
values among them, B decisions each, O outputs of the widest policy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from covey.config import AlgorithmConfig
from covey.networks.resolve import network_ids
from covey.spaces import EnvironmentSpaces, Space
from covey_server.algorithms.distributions import Distribution, Judged, distribution_of
from covey_server.algorithms.roles import indicator
from covey_server.packing.pack_rows import PackRows

MAX_PADDED_WIDTH = 256
"""Networks that read or say more are padded neither to others nor with them: there the numbers would begin to cost."""


@dataclass(frozen=True, slots=True)
class Kind:
    """Networks by id with their agents, what these see and do, and the distribution of that."""

    ids: dict[str, tuple[int, ...]]
    observation: Space
    action: Space
    masked: bool
    indicator: int
    distribution: Distribution

    @property
    def width(self) -> int:
        """Numbers that a network reads."""
        return self.observation.width + self.indicator


def families_of(spaces: EnvironmentSpaces, algorithm: AlgorithmConfig) -> list[list[Kind]]:
    """All networks of one role, by family and kind."""
    kinds: dict[object, Kind] = {}
    for network_id, agents in network_ids(spaces, algorithm.share_parameters).items():
        first, width = spaces.agents[agents[0]], indicator(algorithm, agents)
        kind = Kind({}, first.observation, first.action, first.masked, width, distribution_of(first.action))
        kinds.setdefault((first.observation, first.action, first.masked, width), kind).ids[network_id] = agents
    families: dict[object, list[Kind]] = {}
    for i, kind in enumerate(kinds.values()):
        small = max(kind.width, kind.action.width) <= MAX_PADDED_WIDTH
        families.setdefault("small" if small else i, []).append(kind)
    return list(families.values())


class Share:
    """The networks of a family in one pack: policies first, then values.

    Attributes:
        part: The rows of the pack.
        policies: (A,) places of the policies among all R pairs.
        values: (C,) places of the values.
        members: (K,) positions in the population.
    """

    def __init__(self, part: PackRows, family: Sequence[Kind], due: tuple[int, ...]) -> None:
        by_id = [kind for kind in family for _ in kind.ids]
        ids = len(by_id)
        places = [(k, k % ids * len(due) + due.index(m)) for k, m in part.owners.pairs]
        self.part = part
        self.policies = [place for k, place in places if k < ids]
        self.values = [place for k, place in places if k >= ids]
        self.members = [m for _, m in part.owners.pairs]
        self._runs: list[tuple[slice, Kind]] = []  # policies that are neighbours and of one kind
        at = 0
        for _, run in groupby((by_id[k] for k, _ in part.owners.pairs if k < ids), key=id):
            alike = list(run)
            self._runs.append((slice(at, at + len(alike)), alike[0]))
            at += len(alike)

    def log_std(self) -> Tensor | None:
        """Of the policies that have it, (K, 1, O)."""
        return self.part.log_std(self.part.index.take(self.part.pack.params))

    def judge(self, outputs: Tensor, log_std: Tensor | None, action: Tensor, mask: Tensor | None) -> Judged:
        """What the policies say of actions, (A, B) each; its `back` gives gradients of the size of the arguments.

        Args:
            outputs: (K, B, O), the policies' first.
            log_std: As `log_std` gives it.
            action: (A, B, O), encoded.
            mask: (A, B, O), or None where no agent of the family has masks.
        """
        judged: list[Judged] = []
        for at, kind in self._runs:
            own = (at, slice(None), slice(kind.action.width))
            free = None if log_std is None else log_std[at, 0, : kind.action.width]
            legal = mask[own] if mask is not None and kind.masked else None
            judged.append(kind.distribution.judge(outputs[own], free, action[own], legal))

        def back(of_log_prob: Tensor, of_entropy: Tensor) -> tuple[Tensor, Tensor | None]:
            of_outputs = torch.zeros_like(outputs)
            of_log_std = None if log_std is None else torch.zeros_like(log_std)
            for (at, kind), its in zip(self._runs, judged, strict=True):
                of_own, of_free = its.back(of_log_prob[at], of_entropy[at])
                of_outputs[at, :, : kind.action.width] = of_own
                if of_log_std is not None and of_free is not None:
                    of_log_std[at, 0, : kind.action.width] = of_free
            return of_outputs, of_log_std

        nobody = outputs[:0, :, 0]
        log_prob, entropy = (
            x[0] if len(x) == 1 else torch.cat([nobody, *x])
            for x in ([its.log_prob for its in judged], [its.entropy for its in judged])
        )
        return Judged(log_prob, entropy, back)
