"""Mutation of a member: draws the kind of mutation, and mutates policy weights or activation functions.

Kinds and probabilities are those of AgileRL's `Mutations`; the parameter mutation is that of its version 2.58 (5 % of
the chosen weights are reset, the others get noise in proportion to their size). Different here: activations mutate in
multi-agent members too, and every kind keeps Adam moments.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from covey.config import Mutation, RLParameter
from covey.networks import NetworkSpec
from covey.networks.resize import get_subnetwork, subnetwork_names, with_subnetwork
from covey_server.evolution.architecture import mutate_architecture
from covey_server.evolution.hyperparameters import mutate_hyperparameter
from covey_server.member import Member, Network

POLICY_ROLE = "actor/"
"""Beginning of the keys of policy networks in `Member.networks`."""

CHOSEN_SHARE = 0.1
"""Share of a chosen matrix's weights that a parameter mutation draws, with replacement."""

RESET_SHARE = 0.05
"""Probability with which a drawn weight is reset to a standard normal number; others get noise."""

LARGEST_WEIGHT = 1e6
"""Bound of a mutated weight's absolute value."""


class Mutations:
    """Mutates members in place; the kind of mutation is drawn by the configured relative probabilities.

    Args:
        settings: Section `mutation` of the configuration.
        ranges: Range by name of the hyperparameters that may mutate.
        rng: Random generator for all draws.
    """

    def __init__(self, settings: Mutation, ranges: Mapping[str, RLParameter], rng: np.random.Generator) -> None:
        self._settings = settings
        self._ranges = dict(ranges)
        self._rng = rng

    def mutate(self, member: Member) -> None:
        """Mutate a child by a kind that may be "none", and record it in the child's `mutation` and `change`."""
        odds = self._settings.probabilities
        self._mutate(member, {"none": odds.no_mut, **self._kinds_but_none()})

    def pre_train(self, member: Member) -> None:
        """Mutate a member before training, by a kind other than "none"; without any such kind it stays as it is."""
        kinds = self._kinds_but_none()
        if any(kinds.values()):
            self._mutate(member, kinds)

    def _kinds_but_none(self) -> dict[str, float]:
        """Return the relative probabilities of the kinds of mutation that change something."""
        odds = self._settings.probabilities
        return {
            "architecture": odds.arch_mut,
            "parameters": odds.params_mut,
            "activation": odds.act_mut,
            "rl_hp": odds.rl_hp_mut,
        }

    def _mutate(self, member: Member, odds: Mapping[str, float]) -> None:
        """Draw a kind of mutation by relative probabilities, and apply it."""
        weights = np.array(list(odds.values()))
        kind = list(odds)[self._rng.choice(len(weights), p=weights / weights.sum())]
        match kind:
            case "architecture":
                done = mutate_architecture(member, self._settings.probabilities.new_layer, self._rng)
            case "parameters":
                done = mutate_parameters(member, self._settings.mutation_sd, self._rng)
            case "activation":
                done = mutate_activation(member, self._settings.activation_selection, self._rng)
            case "rl_hp":
                done = mutate_hyperparameter(member, self._ranges, self._rng)
            case _:
                done = "none", ""
        member.mutation, member.change = done


def mutate_parameters(member: Member, sd: float, rng: np.random.Generator) -> tuple[str, str]:
    """Perturb a tenth of the weights in some weight matrices of every policy, in place.

    For each policy, the number of matrices is uniform from 1 to all. Of the weights drawn in them (with replacement),
    5 % are set to a standard normal number and the others get normal noise of `sd` times their own size. Biases, gates,
    normalisation and critics stay. Target networks take the new policy weights at the same positions.

    Args:
        member: Member to mutate.
        sd: Standard deviation of the noise, relative to each weight.
        rng: Random generator for all draws.

    Returns:
        ("parameters", what changed).
    """
    total = 0
    for name, network in member.networks.items():
        if name.startswith(POLICY_ROLE):
            total += _disturb(network, sd, rng)
    return "parameters", f"noise added to {total} policy weights"


def _disturb(network: Network, sd: float, rng: np.random.Generator) -> int:
    """Perturb weights of one policy and its target in place; returns the number of different weights drawn."""
    # Only matrices whose axes are inputs and units: no biases, gates or parameters of normalisation.
    matrices = [p for p in network.spec.parameters if p.inputs and len(p.axes) == 2]
    chosen = rng.choice(len(matrices), size=rng.integers(1, len(matrices) + 1), replace=False)
    count = 0
    for p in (matrices[i] for i in chosen):
        drawn = np.unique(rng.integers(p.size, size=math.ceil(CHOSEN_SHARE * p.size)))
        # The target network gets the same values: its policy is to differ from the new one no more than before.
        new = disturbed(network.params[p.name].flat[drawn], sd, rng)
        network.params[p.name].flat[drawn] = new
        if network.target is not None:
            network.target[p.name].flat[drawn] = new
        count += len(drawn)
    return count


def disturbed(weights: NDArray[np.float32], sd: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return weights (n,) with 5 % drawn anew from N(0, 1), and noise N(0, (sd |w|)^2) added to the others.

    Results are clipped to +-1e6.
    """
    reset = rng.random(len(weights)) < RESET_SHARE
    normal = rng.standard_normal(len(weights))
    new = np.where(reset, normal, weights + normal * sd * np.abs(weights))
    return np.clip(new, -LARGEST_WEIGHT, LARGEST_WEIGHT).astype(np.float32)


def mutate_activation(member: Member, selection: Sequence[str], rng: np.random.Generator) -> tuple[str, str]:
    """Give all networks of a member another activation function, in place.

    Weights stay as they are, so outputs change. Gated layers (see `covey.networks.resize`) stay gated, because the
    values of their gates affect outputs under any activation.

    Args:
        member: Member to mutate.
        selection: Names of the activation functions to draw from.
        rng: Random generator for the draw.

    Returns:
        ("activation", old and new activation), or ("none", why nothing changed).
    """
    # An activation may be drawn unless all networks have exactly that one already.
    in_use = {a for network in member.networks.values() for a in activations(network.spec)}
    others = [a for a in selection if in_use != {a}]
    if not others:
        return "none", f"activation: every network has {selection[0]}, and nothing else is selected"
    chosen = others[rng.integers(len(others))]
    for network in member.networks.values():
        network.spec = with_activation(network.spec, chosen)
    return "activation", f"{', '.join(sorted(in_use))} -> {chosen}"


def activations(spec: NetworkSpec) -> tuple[str, ...]:
    """Return the names of the activation functions of a network's encoders and head."""
    return tuple(get_subnetwork(spec, part).activation for part in subnetwork_names(spec))


def with_activation(spec: NetworkSpec, activation: str) -> NetworkSpec:
    """Return the architecture with this activation function in all encoders and the head."""
    for part in subnetwork_names(spec):
        spec = with_subnetwork(spec, part, replace(get_subnetwork(spec, part), activation=activation))
    return spec
