"""Policies on offer: serialised once, when an order first names them, and served by hash."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from covey.config import AlgorithmConfig
from covey.networks.resolve import network_ids
from covey.spaces import EnvironmentSpaces
from covey.v1.order_pb2 import PolicyRef
from covey.wire.policy_file import encode_policy, policy_sha256, spec_of
from covey_server.packing.policy_snapshot import PolicySnapshot

MIN_SWEEP_BYTES = 4 << 20
"""Up to here nobody looks for policies that are no longer played with."""


@dataclass(slots=True)
class _Published:
    version: int
    refs: list[PolicyRef]  # per agent


class PolicyStore:
    """Serialised policies by sha256, and who currently plays with which.

    Args:
        spaces: Of the environment.
        algorithm: Says whether agents of a group share a policy, and how outputs become actions.
    """

    def __init__(self, spaces: EnvironmentSpaces, algorithm: AlgorithmConfig) -> None:
        self._agents = spaces.agents
        self._algorithm = algorithm
        self._owners = network_ids(spaces, algorithm.share_parameters)
        self._blobs: dict[bytes, bytes] = {}
        self._bytes = 0
        self._sweep_at = MIN_SWEEP_BYTES
        self._current: dict[int, _Published] = {}
        self._snapshot: PolicySnapshot | None = None

    def offer(self, snapshot: PolicySnapshot) -> None:
        """Newer weights; serialised only when an order names them."""
        self._snapshot = snapshot

    def refs(self, member_id: int) -> list[PolicyRef]:
        """A member's newest policies, one per agent in environment order."""
        if self._snapshot is None:
            raise RuntimeError("no snapshot was offered before the first order")
        version = self._snapshot.updates[member_id]
        published = self._current.get(member_id)
        if published is None or published.version != version:
            published = _Published(version, self._publish(member_id, version, self._snapshot))
            self._current[member_id] = published
        return published.refs

    def _publish(self, member_id: int, version: int, snapshot: PolicySnapshot) -> list[PolicyRef]:
        refs: dict[int, PolicyRef] = {}
        for network_id, (spec, params) in snapshot.policies(member_id).items():
            agents = self._owners[network_id]
            agent = self._agents[agents[0]]
            blob = encode_policy(spec_of(spec, agent, self._algorithm.on_policy), params)
            sha256 = policy_sha256(blob)
            if sha256 not in self._blobs:
                self._blobs[sha256] = blob
                self._bytes += len(blob)
            for i in agents:
                refs[i] = PolicyRef(sha256=sha256, member_id=member_id, version=version)
        return [refs[i] for i in range(len(self._agents))]

    def forget(self, living: set[int]) -> None:
        """Members have died: their policies stay only as long as somebody names them."""
        self._current = {m: p for m, p in self._current.items() if m in living}

    def sweep(self, named: Callable[[], set[bytes]]) -> None:
        """Drop what nobody plays with any more, once there is twice as much as when that was done last.

        Args:
            named: Gives the hashes of policies that orders and evaluations name; the newest ones stay anyway.
        """
        if self._bytes <= self._sweep_at:
            return
        kept = named() | {ref.sha256 for published in self._current.values() for ref in published.refs}
        self._blobs = {sha256: blob for sha256, blob in self._blobs.items() if sha256 in kept}
        self._bytes = sum(map(len, self._blobs.values()))
        self._sweep_at = max(MIN_SWEEP_BYTES, 2 * self._bytes)

    @property
    def size(self) -> int:
        """Bytes of all policy files kept."""
        return self._bytes

    def get(self, sha256: bytes) -> bytes | None:
        """A policy file, or None if it is gone."""
        return self._blobs.get(sha256)
