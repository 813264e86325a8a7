"""A policy that can act."""

from __future__ import annotations

from dataclasses import dataclass

from covey.networks import Params
from covey.networks.torch_module import TorchModule
from covey.wire.policy_file import PolicySpec, decode_policy, policy_sha256


@dataclass(frozen=True, slots=True, eq=False)
class LoadedPolicy:
    """A policy that can act: the SHA-256 of its file, its description and its weights."""

    sha256: bytes
    spec: PolicySpec
    params: Params

    @staticmethod
    def decode(data: bytes) -> LoadedPolicy:
        """Read a policy from the bytes of its file.

        Raises:
            RefusedError, ConfigError: as `decode_policy`.
        """
        spec, params = decode_policy(data)
        return LoadedPolicy(policy_sha256(data), spec, params)

    def load_modules(self) -> None:
        """Make the modules of one's own that its network has, so that what is wrong with them is told now.

        Raises:
            ConfigError: one is not allowed here, torch is missing, or it is another module than the policy's.
        """
        for seen in self.spec.network.inputs:
            if isinstance(seen.encoder, TorchModule):
                seen.encoder.load()
