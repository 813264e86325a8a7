"""The population's actor networks as they were at one moment, cloned by the trainer as padded matrices.

Another thread makes them into single networks without padding.

The clone stays on the device, so that taking a snapshot after every update waits for nothing; what is asked for is
copied to the host.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from covey.networks import NetworkSpec, Params
from covey.networks.normalisation import Moments
from covey.networks.pack import PackLayout
from covey_server.member import Member
from covey_server.packing.networks_by_role import PackedNetworks

ACTOR = "actor/"

Policies = dict[str, tuple[NetworkSpec, Params]]
"""A member's policies by network id."""


@dataclass(frozen=True, slots=True)
class PolicySnapshot:
    """A population's policies; immutable, so another thread may unpack it while training goes on.

    Attributes:
        updates: Member id to its update count when the snapshot was taken: the version of its policies.
    """

    updates: dict[int, int]
    _packs: tuple[tuple[PackLayout, tuple[tuple[str, int], ...], Tensor], ...]
    _observed: dict[tuple[str, int], Moments]  # by network key and member, of policies that normalise

    @staticmethod
    def of(actors: Sequence[PackedNetworks], members: Sequence[Member]) -> PolicySnapshot:
        """Clone the parameters of stacked networks, among which are the actors of these members."""
        packs = []
        for networks in actors:
            for pack in networks.packs:
                rows = tuple((networks.keys[k], members[m].member_id) for k, m in pack.rows)
                # Policies are the first rows; critics that share their pack would be copied for nothing.
                count = 1 + max((i for i, (key, _) in enumerate(rows) if key.startswith(ACTOR)), default=-1)
                if count:
                    packs.append((pack.layout, rows[:count], pack.params[:count].clone()))
        observed = {
            (key, m.member_id): network.observed
            for m in members
            for key, network in m.networks.items()
            if network.observed is not None
        }
        return PolicySnapshot({m.member_id: m.updates for m in members}, tuple(packs), observed)

    def policies(self, member_id: int) -> Policies:
        """Return one member's policy networks, architecture and parameters without padding, by network id.

        Among the parameters is what a policy that normalises reads by.
        """
        return {
            key.removeprefix(ACTOR): (
                layout.specs[k],
                layout.unpack_row(k, matrix[k].cpu().numpy()) | self._statistics(key, member_id),
            )
            for layout, rows, matrix in self._packs
            for k, (key, owner) in enumerate(rows)
            if owner == member_id and key.startswith(ACTOR)
        }

    def _statistics(self, key: str, member_id: int) -> Params:
        """Return the means and scales by which a policy reads observations; none if it reads them as they are."""
        observed = self._observed.get((key, member_id))
        return {} if observed is None else observed.tensors()
