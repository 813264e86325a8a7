"""Keeps the policies that actors play with: serialised once, when they are published, and served by hash."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from covey.config import AlgorithmSettings
from covey.networks import Params
from covey.networks.normalisation import MEAN
from covey.networks.resolve import network_ids
from covey.spaces import EnvironmentSpaces
from covey.v1.order_pb2 import PolicyRef
from covey.wire.policy_file import HashedFiles, encode_policy, hashed, read_spec, spec_of
from covey_server.member import is_finite
from covey_server.packing.policy_snapshot import Policies, PolicySnapshot

MIN_SWEEP_BYTES = 4 << 20
"""Up to here nobody looks for policies that are no longer played with."""


@dataclass(slots=True)
class _Published:
    version: int
    refs: list[PolicyRef]  # per agent


def _zeroed(params: Params) -> Params:
    """The parameters with 0 in the place of numbers that are not finite."""
    return {name: np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0) for name, values in params.items()}


class PolicyStore:
    """Serialised policies by SHA-256, and for each population member which are its newest.

    The trainer offers snapshots of weights; `publish` serialises what is newer than what is on offer, outside of the
    learner's lock, and `refs` only looks up what was published last. Safe to use from any thread.

    Args:
        spaces: Spaces of the environment.
        algorithm: Says whether agents of a group share a policy, and how outputs become actions.

    Attributes:
        diverged: Members whose newest weights are not finite, with the count of updates at which that was seen. What
            is published of them stays what was finite last.
    """

    def __init__(self, spaces: EnvironmentSpaces, algorithm: AlgorithmSettings) -> None:
        self._agents = spaces.agents
        self._algorithm = algorithm
        self._owners = network_ids(spaces, algorithm.share_parameters)
        self._mutex = threading.Lock()  # of everything below
        self._blobs: dict[bytes, bytes] = {}
        self._state_sizes: dict[bytes, int] = {}  # of the same policies
        self._bytes = 0
        self._sweep_at = MIN_SWEEP_BYTES
        self._published: dict[int, _Published] = {}
        self._snapshot: PolicySnapshot | None = None
        self.diverged: dict[int, int] = {}

    def offer(self, snapshot: PolicySnapshot) -> None:
        """Hand over a snapshot of newer weights, parts of which `publish` serialises when an order is to name them."""
        self._snapshot = snapshot

    def publish(self, member_ids: Iterable[int]) -> None:
        """Serialise the policies of these members, where the newest snapshot is newer than what was published.

        Members that the snapshot does not have (any more) are left out.
        """
        snapshot = self._snapshot
        if snapshot is None:
            return
        for member_id in member_ids:
            version = snapshot.updates.get(member_id)
            before = self._published.get(member_id)
            if version is None or (before is not None and before.version >= version):
                continue
            policies = snapshot.policies(member_id)
            if not is_finite(params for _, params in policies.values()):
                self.diverged.setdefault(member_id, version)
                if before is not None:
                    continue
                # Of a member that was restored like that nothing finite is left, and orders must name something.
                policies = {i: (spec, _zeroed(params)) for i, (spec, params) in policies.items()}
            files = hashed(self._encode(policies))
            with self._mutex:
                self._enter(member_id, version, files)

    def refs(self, member_id: int) -> list[PolicyRef]:
        """Return references (hash, version) to a member's last published policies, one per agent in environment order.

        Raises:
            KeyError: none were published yet.
        """
        return self._published[member_id].refs

    def files(self, member_id: int) -> dict[str, bytes]:
        """A member's policy files as published last, by network id."""
        refs = self._published[member_id].refs
        return {i: self._blobs[refs[agents[0]].sha256] for i, agents in self._owners.items()}

    def hold(self, member_id: int, files: HashedFiles) -> list[PolicyRef]:
        """Serve policy files of a member as it was earlier, as long as an order or an evaluation names them.

        Args:
            member_id: The member, alive or not.
            files: A policy file for each network id, as `hashed` returns them.

        Returns:
            References, one per agent in environment order.
        """
        with self._mutex:
            return self._keep(member_id, 0, files)

    def hold_file(self, sha256: bytes, file: bytes) -> PolicyRef:
        """Serve a policy file that no member of the population has, as long as an order or an evaluation names it."""
        with self._mutex:
            self._store(sha256, file)
        return PolicyRef(sha256=sha256)

    def _encode(self, policies: Policies) -> dict[str, bytes]:
        """Serialise the policies of a member; returns the bytes of a policy file for each network id."""
        files = {}
        for network_id, (spec, params) in policies.items():
            agent = self._agents[self._owners[network_id][0]]
            head = self._algorithm.policy_head
            files[network_id] = encode_policy(spec_of(spec, agent, head, normalized=MEAN in params), params)
        return files

    def _enter(self, member_id: int, version: int, files: HashedFiles) -> None:
        """Store policy files as the member's newest ones, unless another thread has published newer ones."""
        before = self._published.get(member_id)
        if before is None or before.version < version:
            self._published[member_id] = _Published(version, self._keep(member_id, version, files))

    def _keep(self, member_id: int, version: int, files: HashedFiles) -> list[PolicyRef]:
        """Keep a member's policy files, by network id; returns a reference to each agent's."""
        refs: dict[int, PolicyRef] = {}
        for network_id, (sha256, blob) in files.items():
            self._store(sha256, blob)
            for i in self._owners[network_id]:
                refs[i] = PolicyRef(sha256=sha256, member_id=member_id, version=version)
        return [refs[i] for i in range(len(self._agents))]

    def _store(self, sha256: bytes, file: bytes) -> None:
        """Store a policy file, unless it is there already."""
        if sha256 not in self._blobs:
            self._blobs[sha256] = file
            self._state_sizes[sha256] = read_spec(file).network.state_size
            self._bytes += len(file)

    def forget(self, living: set[int]) -> None:
        """Stop offering policies of members that left the population, keeping files as long as an order names them."""
        with self._mutex:
            self._published = {m: p for m, p in self._published.items() if m in living}
            self.diverged = {m: version for m, version in self.diverged.items() if m in living}

    def drop_unnamed(self, named: Callable[[], set[bytes]]) -> None:
        """Delete policy files that nobody uses any more, once the store has grown by a quarter since the last clean-up.

        Args:
            named: Gives the hashes of policies that orders and evaluations name; the newest ones stay anyway.
        """
        if self._bytes <= self._sweep_at:
            return
        in_orders = named()
        with self._mutex:
            kept = in_orders | {ref.sha256 for published in self._published.values() for ref in published.refs}
            self._blobs = {sha256: blob for sha256, blob in self._blobs.items() if sha256 in kept}
            self._state_sizes = {sha256: self._state_sizes[sha256] for sha256 in self._blobs}
            self._bytes = sum(map(len, self._blobs.values()))
            self._sweep_at = max(MIN_SWEEP_BYTES, self._bytes + self._bytes // 4)

    def state_size(self, sha256: bytes) -> int | None:
        """Return how many numbers the state of a policy has, 0 without memory; None if it is no longer kept."""
        return self._state_sizes.get(sha256)

    @property
    def size(self) -> int:
        """Total size of all policy files kept, in bytes."""
        return self._bytes

    def get(self, sha256: bytes) -> bytes | None:
        """Return the policy file with this SHA-256, or None if it is no longer kept."""
        return self._blobs.get(sha256)
