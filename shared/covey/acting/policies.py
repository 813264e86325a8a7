"""Policies of one structure, run for all slots in one forward pass.

Dims: S slots, N agents of a group, K policies of a pack, B rows of each, D outputs of an agent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covey.acting.actions import ActionLayout
from covey.networks import NumpyOps, Params
from covey.networks.pack import PackLayout
from covey.policy_file import PolicySpec, decode_policy, policy_sha256
from covey.spaces import EnvironmentSpaces


@dataclass(frozen=True, slots=True, eq=False)
class LoadedPolicy:
    """A policy that can act."""

    sha256: bytes
    spec: PolicySpec
    params: Params

    @staticmethod
    def decode(data: bytes) -> LoadedPolicy:
        """From a policy file.

        Raises:
            RefusedError, ConfigError: as `decode_policy`.
        """
        spec, params = decode_policy(data)
        return LoadedPolicy(policy_sha256(data), spec, params)


class ActingPack:
    """K policies of one structure, padded to the widest and stacked."""

    def __init__(self, policies: Sequence[LoadedPolicy]) -> None:
        layout = PackLayout(tuple(p.spec.network for p in policies))
        self._spec = layout.padded
        self._params = layout.views(layout.pack([p.params for p in policies]))
        self._valid = layout.valid()

    def __call__(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Outputs (K, B, D) for observations (K, B, width)."""
        return self._spec.apply(_OPS, self._params, [x], valid=self._valid)  # type: ignore[no-any-return]


_OPS = NumpyOps()
_KEPT_PACKS = 32


@dataclass(frozen=True, slots=True)
class _Pass:
    """One forward pass of a plan: which rows of a group's (S * N) go in, and where outputs go."""

    group: int
    pack: ActingPack
    rows_in: NDArray[np.intp]  # (K, B); padding repeats a policy's first row
    slots: NDArray[np.intp]  # (K * B,), where the outputs belong; padding writes the same twice
    agents: NDArray[np.intp]  # (K * B,)


class PolicyRows:
    """Who plays which agent in which slot, and the passes that follow from it.

    A plan is made when that changes, once per order in the usual case; a step then is a gather, a forward pass and a
    scatter for each group and structure. Policies with fewer rows than others are padded.
    """

    def __init__(self, spaces: EnvironmentSpaces, layout: ActionLayout, slots: int) -> None:
        self._spaces = spaces
        self.outputs = np.zeros((slots, layout.width), np.float32)
        # (S, N, D) views of each group's columns.
        self._views = [self.outputs[:, g.columns].reshape(slots, g.agents, g.width) for g in layout.groups]
        self._passes: list[_Pass] = []
        self._packs: dict[tuple[bytes, ...], ActingPack] = {}

    def plan(self, players: Mapping[int, Sequence[LoadedPolicy | None]]) -> None:
        """Fix who plays: slot to players in the environment's agent order."""
        passes = []
        for g, group in enumerate(self._spaces.groups):
            rows: dict[bytes, list[tuple[int, int]]] = {}
            structures: dict[object, dict[bytes, LoadedPolicy]] = {}
            for slot, who in players.items():
                for n, agent in enumerate(group.agents):
                    policy = who[agent]
                    if policy is not None:
                        rows.setdefault(policy.sha256, []).append((slot, n))
                        structures.setdefault(policy.spec.network.structure, {})[policy.sha256] = policy
            for policies in structures.values():
                most = max(len(rows[sha]) for sha in policies)
                # (K, B, 2)
                index = np.array([rows[sha] + rows[sha][:1] * (most - len(rows[sha])) for sha in policies], np.intp)
                slots, agents = index[..., 0], index[..., 1]
                passes.append(
                    _Pass(g, self._pack(policies), slots * len(group) + agents, slots.ravel(), agents.ravel())
                )
        self._passes = passes

    def forward(self, observation: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Raw outputs of all planned rows, (S, W) in the action layout; other rows keep what they held.

        Args:
            observation: One (S, N, *shape) per group.
        """
        for p in self._passes:
            seen = observation[p.group]
            x = seen.reshape(seen.shape[0] * seen.shape[1], -1)[p.rows_in].astype(np.float32, copy=False)
            y = p.pack(x)
            self._views[p.group][p.slots, p.agents] = y.reshape(-1, y.shape[-1])
        return self.outputs

    def _pack(self, policies: Mapping[bytes, LoadedPolicy]) -> ActingPack:
        """The pack of these policies, kept from plan to plan: evaluations and pinned opponents use theirs again."""
        key = tuple(policies)
        pack = self._packs.pop(key, None) or ActingPack(list(policies.values()))
        self._packs[key] = pack
        while len(self._packs) > _KEPT_PACKS:
            del self._packs[next(iter(self._packs))]
        return pack
