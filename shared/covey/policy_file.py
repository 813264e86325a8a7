"""The policy file: what FetchPolicy serves, and whose SHA-256 names a policy.

A safetensors file of the actor network's natural parameters; the metadata entry "covey" holds
{"network": NetworkSpec, "observation": space, "action": space, "head": "deterministic", "indicator": 0} as JSON.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from covey.errors import ConfigError, RefusedError, SpaceError
from covey.networks import NetworkSpec, Params
from covey.networks.network import MAX_PARAMETERS
from covey.spaces import AgentSpec, Box, Space
from covey.spaces_json import space_from_json, space_to_json

MAX_HEADER_BYTES = 1 << 20
MAX_POLICY_BYTES = 4 * MAX_PARAMETERS + MAX_HEADER_BYTES + 8
HEADS = ("deterministic", "stochastic")


@dataclass(frozen=True)
class PolicySpec:
    """A policy but for its weights: the network, what it reads, what it drives, and how outputs become actions.

    `head` "deterministic": Box outputs z are squashed to tanh(z / 2), and [-1, 1] is mapped to the bounds.
    "stochastic": Box outputs are the means of a Gaussian in the same units, with standard deviations exp(`log_std`)
    from the network's parameters; what the environment gets is clipped. With both, outputs for Discrete,
    MultiDiscrete and MultiBinary actions are logits, those of a MultiDiscrete one choice after another.

    `indicator` is 0, or the number of agents that share the policy: the one-hot index of the agent in its group then
    follows the observation in the network's input.
    """

    network: NetworkSpec
    observation: Space
    action: Space
    head: str = "deterministic"
    indicator: int = 0

    def to_json(self) -> dict[str, Any]:
        """What a policy file says about itself."""
        return {
            "network": self.network.to_json(),
            "observation": space_to_json(self.observation),
            "action": space_to_json(self.action),
            "head": self.head,
            "indicator": self.indicator,
        }

    def check(self) -> None:
        """Hold the network against the spaces.

        Raises:
            ConfigError: an unknown head, or widths that do not fit.
        """
        if self.head not in HEADS:
            raise ConfigError(f"policy: head {self.head!r}, expected one of {', '.join(HEADS)}")
        n = self.network
        inputs = [(i.width, i.copies) for i in n.inputs]
        width = self.observation.width + self.indicator
        if inputs != [(width, 1)] or n.outputs != self.action.width or n.extra or not 0 <= self.indicator <= 1024:
            raise ConfigError(
                f"policy: network from {inputs} and {n.extra} extra inputs to {n.outputs} outputs, expected one input "
                f"of {width} and {self.action.width} outputs, as the spaces and the indicator of {self.indicator} say"
            )
        gaussian = self.head == "stochastic" and isinstance(self.action, Box)
        if gaussian != (n.log_std is not None):
            raise ConfigError(f"policy: head {self.head!r} with log_std {n.log_std}, expected one for Gaussians alone")
        if gaussian and np.dtype(self.action.dtype).kind != "f":
            raise ConfigError(f"policy: a Gaussian of {self.action.dtype} actions, expected floating-point ones")


def spec_of(network: NetworkSpec, agent: AgentSpec, on_policy: bool) -> PolicySpec:
    """What a trained policy network is to an agent that plays by it.

    Algorithms on policy learn stochastic policies; inputs beyond the agent's observation are the indicator.
    """
    head = "stochastic" if on_policy else "deterministic"
    indicator = network.inputs[0].width - agent.observation.width
    return PolicySpec(network, agent.observation, agent.action, head, indicator)


def encode_policy(spec: PolicySpec, params: Mapping[str, NDArray[np.float32]]) -> bytes:
    """The policy file; equal specs and weights give equal bytes."""
    text = json.dumps(spec.to_json(), separators=(",", ":"))
    return bytes(save({p.name: params[p.name] for p in spec.network.parameters}, metadata={"covey": text}))


def policy_sha256(data: bytes) -> bytes:
    """The 32 bytes by which orders name the policy."""
    return hashlib.sha256(data).digest()


def decode_policy(data: bytes) -> tuple[PolicySpec, Params]:
    """Read a policy file from elsewhere, trusting nothing in it.

    Raises:
        RefusedError: not an intact safetensors file, larger than an actor accepts, or tensors other than the spec's.
        ConfigError: a spec that is none.
    """
    spec = _parse_spec(_metadata(data))
    try:
        tensors: Params = load(data)
    except (SafetensorError, KeyError, ValueError, TypeError) as exc:
        raise RefusedError(f"policy file: not an intact safetensors file: {exc}") from exc
    expected = {p.name: p.shape for p in spec.network.parameters}
    if tensors.keys() != expected.keys():
        odd = sorted(tensors.keys() ^ expected.keys())
        raise RefusedError(f"policy file: tensors {odd[:3]} are missing or too many, expected those of its spec")
    for name, tensor in tensors.items():
        if tensor.dtype != np.float32 or tensor.shape != expected[name]:
            raise RefusedError(
                f"policy file: {name} is {tensor.dtype}{list(tensor.shape)}, expected float32{list(expected[name])}"
            )
        if not np.isfinite(tensor).all():
            raise RefusedError(f"policy file: {name} holds values that are not finite; the member has diverged")
    return spec, tensors


def _metadata(data: bytes) -> str:
    """The "covey" entry. The header is measured before it is parsed: safetensors itself parses headers of any size."""
    if not 8 <= len(data) <= MAX_POLICY_BYTES:
        raise RefusedError(f"policy file: {len(data)} bytes, expected 8 to {MAX_POLICY_BYTES}")
    size = int.from_bytes(data[:8], "little")
    if size > min(MAX_HEADER_BYTES, len(data) - 8):
        raise RefusedError(f"policy file: header of {size} bytes, expected at most {MAX_HEADER_BYTES} and a whole file")
    try:
        entry = json.loads(data[8 : 8 + size])["__metadata__"]["covey"]
    except (ValueError, KeyError, TypeError, RecursionError) as exc:
        raise RefusedError("policy file: no safetensors header with a 'covey' entry") from exc
    if not isinstance(entry, str):
        raise RefusedError("policy file: metadata 'covey' is no string")
    return entry


# A member's architecture changes seldom, its weights with every order; a spec caches what packs derive from it.
@functools.lru_cache(maxsize=256)
def _parse_spec(text: str) -> PolicySpec:
    try:
        parsed = json.loads(text)
        spec = PolicySpec(
            NetworkSpec.from_json(parsed["network"]),
            space_from_json(parsed["observation"]),
            space_from_json(parsed["action"]),
            parsed["head"],
            int(parsed["indicator"]),
        )
    except (SpaceError, ValueError, KeyError, TypeError, RecursionError) as exc:
        raise ConfigError(
            f"policy spec: {type(exc).__name__} {exc}, expected network, observation, action, head, indicator"
        ) from exc
    spec.check()
    return spec
