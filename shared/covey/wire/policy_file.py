"""Policy files, which actors fetch by the SHA-256 of their content: writing them, and reading them without trust.

It is a safetensors file of the actor network's parameters, without padding; its metadata entry "covey" holds
{"network": NetworkSpec, "observation": space, "action": space, "head": "deterministic", "indicator": 0} as JSON, and
"normalized": [[0, 8]] where observations are normalised, with the means and scales among the tensors.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covey.errors import ConfigError, DivergedError, RefusedError, SpaceError
from covey.networks import NetworkSpec, Params
from covey.networks.network import MAX_PARAMETERS
from covey.networks.normalisation import MEAN, SCALE, Ranges, normalised_ranges
from covey.spaces import AgentSpec, Box, Space, has_box, leaves
from covey.wire.limits import MAX_AGENTS, MAX_LEAVES
from covey.wire.spaces_json import space_from_json, space_to_json

MAX_HEADER_BYTES = 1 << 20
MAX_POLICY_BYTES = 4 * MAX_PARAMETERS + MAX_HEADER_BYTES + 8
HashedFiles = Mapping[str, tuple[bytes, bytes]]
"""A member's policy files by network id, each with its SHA-256: (hash, file)."""

HEADS = ("deterministic", "stochastic", "squashed")

LOWEST_LOG_STD, HIGHEST_LOG_STD = -20.0, 2.0
"""Limits of what squashed policies' outputs say of log standard deviations: beyond, a density is no number any more."""


@dataclass(frozen=True)
class PolicySpec:
    """Everything about a policy but its weights: its network, spaces, and how outputs become actions.

    Attributes:
        network: Architecture.
        observation: Space that it reads.
        action: Space of its actions.
        head: "deterministic": outputs z for a Box are squashed to tanh(z / 2), and [-1, 1] is mapped to the bounds.
            "stochastic": outputs for a Box are the means of a Gaussian in the same units, with standard deviations
            exp(`log_std`) from the network's parameters; what the environment gets is clipped. With both, outputs for
            Discrete, MultiDiscrete and MultiBinary actions are logits, those of a MultiDiscrete one choice after
            another. Outputs for a Dict or Tuple are those for its leaves, one leaf after another; `log_std` has as many
            numbers as there are outputs, of which those for leaves that are no Box mean nothing.
            "squashed": actions are floating-point Boxes, or a Dict or Tuple of them, and there are two outputs for each
            number: first all means, then all log standard deviations, limited to [-20, 2], of Gaussians; tanh of their
            samples is mapped from [-1, 1] to the bounds.
        indicator: 0, or the number of agents that share the policy: the one-hot index of the agent in its group then
            follows the observation in the network's input.
        normalized: Parts of the encoded observation, each from its first number to its last one (excluded), whose
            numbers x are read as clip((x - mean) * scale, -10, 10). The file has both for all of these numbers in turn,
            as the tensors `observation.mean` and `observation.scale`.
    """

    network: NetworkSpec
    observation: Space
    action: Space
    head: str = "deterministic"
    indicator: int = 0
    normalized: Ranges = ()

    def to_json(self) -> dict[str, Any]:
        """Return the description of a policy as the JSON object that a policy file holds."""
        description: dict[str, Any] = {
            "network": self.network.to_json(),
            "observation": space_to_json(self.observation),
            "action": space_to_json(self.action),
            "head": self.head,
            "indicator": self.indicator,
        }
        if self.normalized:
            description["normalized"] = [list(part) for part in self.normalized]
        return description

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of the tensors that the policy's file has, by name."""
        shapes: dict[str, tuple[int, ...]] = {p.name: p.shape for p in self.network.parameters}
        if self.normalized:
            numbers = sum(end - first for first, end in self.normalized)
            shapes |= {MEAN: (numbers,), SCALE: (numbers,)}
        return shapes

    def check_agent(self, name: str, agent: AgentSpec) -> None:
        """Check that an agent has the spaces that the policy is made for.

        Args:
            name: Name of the policy's file, for the error.
            agent: The agent.

        Raises:
            ConfigError: it has other spaces.
        """
        if (self.observation, self.action) != (agent.stacked, agent.action):
            raise ConfigError(f"{name} is made for {self.observation} and {self.action}, not for {agent}")

    def check(self) -> None:
        """Check that the network fits the spaces and the head.

        Raises:
            ConfigError: an unknown head, or widths that do not fit.
        """
        if self.head not in HEADS:
            raise ConfigError(f"policy: head {self.head!r}, expected one of {', '.join(HEADS)}")
        n = self.network
        inputs = [(i.width, i.copies) for i in n.inputs]
        width = self.observation.width + self.indicator
        outputs = self.action.width * (2 if self.head == "squashed" else 1)
        extra = n.extra + n.reads_memory
        if inputs != [(width, 1)] or n.outputs != outputs or extra or not 0 <= self.indicator <= MAX_AGENTS:
            raise ConfigError(
                f"policy: network from {inputs} and {extra} extra inputs to {n.outputs} outputs, expected one input "
                f"of {width} and {outputs} outputs, as the spaces and the indicator of {self.indicator} say"
            )
        gaussian = self.head == "stochastic" and has_box(self.action)
        if gaussian != (n.log_std is not None):
            raise ConfigError(f"policy: head {self.head!r} with log_std {n.log_std}, expected one for Gaussians alone")
        boxes = [leaf.space for leaf in leaves(self.action) if isinstance(leaf.space, Box)]
        if self.head == "squashed" and len(boxes) < len(leaves(self.action)):
            raise ConfigError(f"policy: head 'squashed' of {self.action} actions, expected Boxes alone")
        if (gaussian or self.head == "squashed") and any(np.dtype(box.dtype).kind != "f" for box in boxes):
            raise ConfigError(f"policy: a Gaussian of {self.action} actions, expected floating-point ones")
        ends = [0, *(number for part in self.normalized for number in part)]
        if len(ends) > 1 + 2 * MAX_LEAVES or ends != sorted(ends) or ends[-1] > self.observation.width:
            raise ConfigError(
                f"policy: normalized {str(self.normalized)[:80]}, expected parts of an observation of "
                f"{self.observation.width} numbers, one after another"
            )


def spec_of(network: NetworkSpec, agent: AgentSpec, head: str, *, normalized: bool = False) -> PolicySpec:
    """Describe a trained network as the policy of an agent: its spaces, and how outputs become actions.

    Args:
        network: Inputs beyond the agent's observation are the indicator.
        agent: Who plays by it.
        head: One of `HEADS`: how outputs become actions, as the algorithm's `policy_head` says.
        normalized: Whether it reads normalised observations.
    """
    indicator = network.inputs[0].width - agent.stacked.width
    ranges = normalised_ranges(agent.stacked) if normalized else ()
    return PolicySpec(network, agent.stacked, agent.action, head, indicator, ranges)


def encode_policy(spec: PolicySpec, params: Mapping[str, NDArray[np.float32]]) -> bytes:
    """Return the bytes of a policy file; equal descriptions, weights and statistics give equal bytes.

    Args:
        spec: The description.
        params: The network's parameters, and what a policy that normalises reads by.
    """
    from safetensors.numpy import save  # here, as an actor only reads policies and does without safetensors

    return bytes(save({name: params[name] for name in spec.shapes}, metadata={"covey": _text(spec)}))


@functools.lru_cache(1024)
def _text(spec: PolicySpec) -> str:
    """Return a policy's description as JSON text; cached, as it stays the same while weights change."""
    return json.dumps(spec.to_json(), separators=(",", ":"))


def policy_sha256(data: bytes) -> bytes:
    """Return the SHA-256 of a policy file, 32 bytes, by which the policy is named."""
    return hashlib.sha256(data).digest()


def hashed(files: Mapping[str, bytes]) -> HashedFiles:
    """Hash policy files by network id. It takes milliseconds for large ones, so nobody does it under a lock."""
    return {network_id: (policy_sha256(file), file) for network_id, file in files.items()}


def decode_policy(data: bytes) -> tuple[PolicySpec, Params]:
    """Read a policy file from elsewhere, trusting nothing in it; returns the specification and the parameters.

    Among the parameters are, of a policy that normalises, the means and scales that it reads by.

    Raises:
        RefusedError: it is no intact safetensors file, is too large, its tensors are not those of its specification, or
            a scale is not positive.
        DivergedError: a number is not finite.
        ConfigError: its specification is none.
    """
    header = _header(data)
    spec, places = _parse_header(header)
    start, size = 8 + len(header), sum(stop - first for _, first, stop, _ in places)
    expected = start + 4 * size
    if len(data) != expected:
        raise RefusedError(f"policy file: not an intact safetensors file: {len(data)} bytes, expected {expected}")
    numbers = np.frombuffer(data, "<f4", size, start).astype(np.float32)
    params = {name: numbers[first:stop].reshape(shape) for name, first, stop, shape in places}
    if not np.isfinite(numbers).all():
        name = next(name for name, values in params.items() if not np.isfinite(values).all())
        raise DivergedError(f"policy file: {name} holds values that are not finite; the member has diverged")
    if SCALE in params and not (params[SCALE] > 0).all():
        raise RefusedError(f"policy file: {SCALE} holds {params[SCALE].min():g}, expected positive numbers")
    return spec, params


def read_spec(data: bytes) -> PolicySpec:
    """Read the specification in a policy file, without its parameters.

    Raises:
        RefusedError, ConfigError: as `decode_policy`.
    """
    return _parse_header(_header(data))[0]


def _header(data: bytes) -> bytes:
    """Return the JSON header of a policy file, unparsed; one that is too large is refused."""
    if not 8 <= len(data) <= MAX_POLICY_BYTES:
        raise RefusedError(f"policy file: {len(data)} bytes, expected 8 to {MAX_POLICY_BYTES}")
    size = int.from_bytes(data[:8], "little")
    if size > min(MAX_HEADER_BYTES, len(data) - 8):
        raise RefusedError(f"policy file: header of {size} bytes, expected at most {MAX_HEADER_BYTES} and a whole file")
    return data[8 : 8 + size]


# A member's architecture changes seldom, its weights with every order: versions of a policy have equal headers.
@functools.lru_cache(maxsize=256)
def _parse_header(header: bytes) -> tuple[PolicySpec, tuple[tuple[str, int, int, tuple[int, ...]], ...]]:
    """Read from a policy file's header the policy's description and where each parameter lies in the file.

    Positions count the file's numbers; the last one is exclusive.
    """
    try:
        entries = json.loads(header)
        text = entries.pop("__metadata__")["covey"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise RefusedError("policy file: no safetensors header with a 'covey' entry") from exc
    if not isinstance(text, str):
        raise RefusedError("policy file: metadata 'covey' is no string")
    spec = _parse_spec(text)
    shapes = spec.shapes
    if entries.keys() != shapes.keys():
        odd = sorted(entries.keys() ^ shapes.keys())
        raise RefusedError(f"policy file: tensors {odd[:3]} are missing or too many, expected those of its spec")
    places = []
    for name, expected in shapes.items():
        match entries[name]:
            case {"dtype": "F32", "shape": shape, "data_offsets": [int(start), int(stop)]} if (
                shape == list(expected) and start % 4 == 0 and stop - start == 4 * math.prod(expected)
            ):
                places.append((name, start // 4, stop // 4, expected))
            case entry:
                raise RefusedError(f"policy file: {name} is {str(entry)[:80]}, expected float32{list(expected)}")
    # Sorted by start, each parameter must begin where the one before ends, and the first at 0.
    places.sort(key=lambda place: place[1])
    if [start for _, start, _, _ in places] != [0, *(stop for _, _, stop, _ in places)][:-1]:
        raise RefusedError("policy file: not an intact safetensors file: tensors overlap, or leave gaps")
    return spec, tuple(places)


# Cached for the same reason, and because a specification keeps what packs derive from it.
@functools.lru_cache(maxsize=256)
def _parse_spec(text: str) -> PolicySpec:
    """Read a policy's description from the JSON text in a policy file's metadata.

    Raises:
        ConfigError: it is none.
    """
    try:
        parsed = json.loads(text)
        spec = PolicySpec(
            NetworkSpec.from_json(parsed["network"]),
            space_from_json(parsed["observation"]),
            space_from_json(parsed["action"]),
            str(parsed["head"]),
            int(parsed["indicator"]),
            tuple((int(first), int(end)) for first, end in parsed.get("normalized", ())),
        )
    except (SpaceError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as exc:
        raise ConfigError(
            f"policy spec: {type(exc).__name__} {exc}, expected network, observation, action, head, indicator"
        ) from exc
    spec.check()
    return spec
