"""Policies with which an actor is tried, and whether what it did is what they say.

R rows, N agents of a group.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covey.config.encoder_choice import encoder_of
from covey.config.network import EncoderConfig
from covey.networks import MLP, Encoder, Input, NetworkSpec, Recurrent
from covey.networks.images import is_image
from covey.networks.normalisation import CLIP, MEAN, SCALE, Moments, normalised_ranges
from covey.networks.ops import NumpyOps
from covey.observations import ObservationEncoding
from covey.spaces import (
    Box,
    Discrete,
    EnvironmentSpaces,
    Group,
    LeafSpace,
    MultiBinary,
    MultiDiscrete,
    action_bounds,
    choices,
    leaf_arrays,
    leaves,
)
from covey.spaces.components import first_values
from covey.wire.policy_file import PolicySpec, decode_policy, encode_policy, policy_sha256

TOLERANCE = 1e-3
"""By how much a Box action may differ, in units of half its range, and an output from the largest: both are float32."""


STATE_SIZE = 12
"""Numbers that a policy with memory remembers."""

WEIGHTS = 3.0
"""Factor of weights as they are drawn for training, so that what is done depends on what is seen."""


class SamplePolicy:
    """A policy of random weights for one group of agents: its file, and what it does.

    Args:
        group: Who plays by it.
        plain: Layers without norms and gates, no indicator, deterministic; else all that a policy file may have.
        seed: Seed from which the weights are drawn.
        memory: Whether it has memory: a GRU behind its encoder.
        normalized_by: Observations (R, *shape) by whose statistics it normalises what it reads, where any of their
            numbers can be; None: it does not.
        weights: Factor of weights as they are drawn for training; 0: outputs are alike whatever is seen, and so near
            to each other that samples of their softmax are seldom the largest.

    Attributes:
        rule: The rule that is broken by actions which are not this policy's.
        state_size: How many numbers it remembers; 0 without memory.
    """

    def __init__(
        self,
        group: Group,
        *,
        plain: bool,
        seed: int,
        memory: bool = False,
        normalized_by: NDArray[Any] | None = None,
        weights: float = WEIGHTS,
    ) -> None:
        action = group.action
        boxes = [leaf.space.dtype for leaf in leaves(action) if isinstance(leaf.space, Box)]
        gaussian = not plain and bool(boxes) and all(np.dtype(dtype).kind == "f" for dtype in boxes)
        indicator = 0 if plain else len(group)
        encoder: Encoder = MLP(hidden_size=(16,))
        head = MLP(hidden_size=(16,))
        if not plain:
            encoder = MLP(hidden_size=(16, 12), activation="ELU", gated=(1,))
            head = MLP(hidden_size=(16,), activation="Tanh", layer_norm=True)
            if any(is_image(leaf.space) for leaf in leaves(group.observation)):
                # What a run's policies have by itself where they see images.
                encoder = encoder_of(
                    EncoderConfig(),
                    group.observation,
                    "network",
                    f"group {group.group_id!r}",
                    beside=indicator,
                    frames=group.frame_stack,
                )
        if memory:
            encoder = Recurrent(encoder=encoder, hidden_state_size=STATE_SIZE)
        network = NetworkSpec(
            inputs=(Input("observation", group.stacked.width + indicator, encoder),),
            head=head,
            outputs=action.width,
            latent_dim=16,
            log_std=-0.5 if gaussian else None,
        )
        ranges = () if normalized_by is None else normalised_ranges(group.stacked)
        self.rule = "normalized" if ranges else "actions" if plain else "layers"
        self.state_size = network.state_size
        self._group = group
        self._spec = PolicySpec(
            network, group.stacked, action, "stochastic" if gaussian else "deterministic", indicator, ranges
        )
        rng = np.random.default_rng(seed)
        # Gates and norms begin where they change nothing, and weights so small that one action is always the best.
        params = {
            name: values * weights if name.endswith(".weight") else values + rng.uniform(-0.4, 0.4, values.shape)
            for name, values in network.init(rng).items()
        }
        if normalized_by is not None and ranges:
            x = ObservationEncoding.of(group.stacked).encode(normalized_by.reshape(len(normalized_by), -1))
            own = Moments.of(np.concatenate([x[:, first:end] for first, end in ranges], 1)).tensors()
            # Some so narrow that much of what is seen lies beyond the clip.
            params |= own | {SCALE: own[SCALE] * 10 ** rng.uniform(-0.5, 2, own[SCALE].shape)}
        self.file = encode_policy(self._spec, {name: values.astype(np.float32) for name, values in params.items()})
        self.sha256 = policy_sha256(self.file)
        self._params = decode_policy(self.file)[1]

    def wrong(
        self, number: int, seen: NDArray[Any], taken: NDArray[Any], mask: NDArray[Any] | None
    ) -> NDArray[np.bool_]:
        """Which actions are not what the policy says, without exploration.

        Args:
            number: The agent's index in its group.
            seen: (R, *shape), what it saw.
            taken: (R, *shape), what it did.
            mask: (R, width), its legal values, if they are known.
        """
        return self.differs(self._outputs(number, seen), taken, mask)

    def differs(self, z: NDArray[np.float64], taken: NDArray[Any], mask: NDArray[Any] | None) -> NDArray[np.bool_]:
        """Which actions are not what these outputs (R, outputs) say; other arguments are those of `wrong`."""
        wrong = np.zeros(len(z), bool)
        first = first_masked = 0
        for leaf, done in zip(leaves(self._group.action), leaf_arrays(self._group.action, taken), strict=True):
            own, legal = z[:, first : first + leaf.space.width], None
            if mask is not None and isinstance(leaf.space, Discrete | MultiDiscrete):
                legal = mask.reshape(len(z), -1)[:, first_masked : first_masked + leaf.space.width]
                first_masked += leaf.space.width
            wrong |= self._wrong_leaf(leaf.space, own, done.reshape(len(z), -1), legal)
            first += leaf.space.width
        return wrong

    def _wrong_leaf(
        self, action: LeafSpace, z: NDArray[np.float64], taken: NDArray[Any], mask: NDArray[Any] | None
    ) -> NDArray[np.bool_]:
        """As `wrong`, of a leaf of the actions: its outputs z, what was done (R, numbers), its part of the mask."""
        if isinstance(action, Box):
            low, high = action_bounds(action)
            unit = np.tanh(z / 2) if self._spec.head == "deterministic" else np.clip(z, -1, 1)
            expected = low + (unit + 1) / 2 * (high - low)
            allowed = TOLERANCE * (high - low) / 2 + (0 if np.dtype(action.dtype).kind == "f" else 0.5 + TOLERANCE)
            differ = np.abs(taken - expected) > allowed + 1e-6 * np.abs(expected)
            return np.asarray(differ.any(1))
        close = TOLERANCE * (1 + np.abs(z).max(1, keepdims=True))
        if isinstance(action, MultiBinary):
            return np.asarray(((np.abs(z) > close) & ((z > 0) != taken.astype(bool))).any(1))
        z = z if mask is None else np.where(mask > 0, z, -np.inf)
        chosen = taken.astype(np.int64) - first_values(action)
        wrong, start = np.zeros(len(z), bool), 0
        for i, values in enumerate(choices(action)):
            part = z[:, start : start + values]
            inside = (chosen[:, i] >= 0) & (chosen[:, i] < values)
            got = np.take_along_axis(part, np.clip(chosen[:, i : i + 1], 0, values - 1), 1)
            wrong |= ~inside | (got < part.max(1, keepdims=True) - close)[:, 0]
            start += values
        return wrong

    def remember(
        self, number: int, seen: NDArray[Any], begins: NDArray[np.bool_], state: NDArray[np.float32]
    ) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """The outputs of a policy with memory for what an agent saw one after another, and its state after that.

        Args:
            number: The agent's index in its group.
            seen: (R, *shape), what it saw.
            begins: (R,), before which of these the agent's life began, so that it remembers nothing.
            state: What it remembers before the first.
        """
        x, network = self._inputs(number, seen), self._spec.network
        outputs = np.zeros((len(x), network.outputs))
        state = state[None]
        for r in range(len(x)):
            if begins[r]:
                state = np.zeros_like(state)
            outputs[r : r + 1], state = network.step(NumpyOps(), self._params, x[r : r + 1], state)
        return outputs, state[0]

    def _outputs(self, number: int, seen: NDArray[Any]) -> NDArray[np.float64]:
        """The network's outputs for what an agent saw."""
        x = self._inputs(number, seen)
        z: NDArray[np.float64] = self._spec.network.apply(NumpyOps(), self._params, [x]).astype(np.float64)
        return z

    def _inputs(self, number: int, seen: NDArray[Any]) -> NDArray[np.float32]:
        """Encode an agent's observations as its policy's network reads them, with its one-hot index if wanted."""
        x = ObservationEncoding.of(self._group.stacked).encode(seen.reshape(len(seen), -1)).astype(np.float32)
        at = 0
        for first, end in self._spec.normalized:
            numbers = slice(at, at := at + end - first)
            mean, scale = self._params[MEAN][numbers], self._params[SCALE][numbers]
            x[:, first:end] = np.clip((x[:, first:end] - mean) * scale, -CLIP, CLIP)
        if self._spec.indicator:
            x = np.concatenate([x, np.tile(np.eye(self._spec.indicator, dtype=np.float32)[number], (len(x), 1))], 1)
        return x


def sample_policies(
    spaces: EnvironmentSpaces,
    *,
    plain: bool,
    seed: int,
    memory: bool = False,
    normalized_by: Mapping[str, NDArray[Any]] | None = None,
    weights: float = WEIGHTS,
) -> list[SamplePolicy]:
    """One policy for each group; returns that of each agent, in environment order.

    Arguments are those of `SamplePolicy`, `normalized_by` by group id.
    """
    by_agent: dict[int, SamplePolicy] = {}
    for i, group in enumerate(spaces.groups):
        seen = (normalized_by or {}).get(group.group_id)
        policy = SamplePolicy(group, plain=plain, seed=seed + i, memory=memory, normalized_by=seen, weights=weights)
        by_agent.update(dict.fromkeys(group.agents, policy))
    return [by_agent[i] for i in range(len(spaces.agents))]
