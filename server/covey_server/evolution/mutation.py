"""Mutation of one member: which kind, and the kinds that touch weights and activations.

Source of the kinds and their odds: AgileRL's `Mutations`; of the parameter mutation its version 2.58 (5 % of the chosen
weights are reset, the others get noise in proportion to themselves). Different here: activations mutate in multi-agent
members too, and Adam moments are kept by every kind.
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

CHOSEN_SHARE = 0.1  # of a chosen tensor's weights
RESET_SHARE = 0.05  # of the chosen weights
LARGEST_WEIGHT = 1e6


class Mutations:
    """Mutates members in place, by a kind drawn from the configured relative weights.

    Args:
        settings: The `mutation` section.
        ranges: Of the hyperparameters that may mutate.
        rng: Stream of every draw.
    """

    def __init__(self, settings: Mutation, ranges: Mapping[str, RLParameter], rng: np.random.Generator) -> None:
        self._settings = settings
        self._ranges = dict(ranges)
        self._rng = rng

    def mutate(self, member: Member) -> None:
        """Mutate a child, perhaps not at all; sets its `mutation` and `change`."""
        odds = self._settings.probabilities
        self._mutate(member, {"none": odds.no_mut, **self._real_kinds()})

    def pre_train(self, member: Member) -> None:
        """Mutate a member of the first population: like `mutate`, but never "none", if any other kind has weight."""
        kinds = self._real_kinds()
        if any(kinds.values()):
            self._mutate(member, kinds)

    def _real_kinds(self) -> dict[str, float]:
        odds = self._settings.probabilities
        return {
            "architecture": odds.arch_mut,
            "parameters": odds.params_mut,
            "activation": odds.act_mut,
            "rl_hp": odds.rl_hp_mut,
        }

    def _mutate(self, member: Member, odds: Mapping[str, float]) -> None:
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
    """Disturb a tenth of the weights in some weight matrices of every policy, in place.

    Per policy, the number of matrices is uniform from 1 to all. Of the weights drawn in them (with replacement), 5 %
    are set to a standard normal number and the others get normal noise of `sd` times their own size. Biases, gates,
    normalisation and critics stay. Targets take the new policy weights at the same positions; moments are kept.

    Returns:
        ("parameters", what changed).
    """
    total = 0
    for name, network in member.networks.items():
        if name.startswith(POLICY_ROLE):
            total += _disturb(network, sd, rng)
    return "parameters", f"{total} policy weights disturbed"


def _disturb(network: Network, sd: float, rng: np.random.Generator) -> int:
    """Disturb one policy; the number of weights that were drawn."""
    matrices = [p for p in network.spec.parameters if p.inputs and len(p.axes) == 2]
    chosen = rng.choice(len(matrices), size=rng.integers(1, len(matrices) + 1), replace=False)
    count = 0
    for p in (matrices[i] for i in chosen):
        drawn = np.unique(rng.integers(p.size, size=math.ceil(CHOSEN_SHARE * p.size)))
        new = disturbed(network.params[p.name].flat[drawn], sd, rng)
        network.params[p.name].flat[drawn] = new
        if network.target is not None:
            network.target[p.name].flat[drawn] = new
        count += len(drawn)
    return count


def disturbed(weights: NDArray[np.float32], sd: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """`weights` (n,) with 5 % reset to N(0, 1) and noise N(0, (sd |w|)^2) on the others, clipped to +-1e6."""
    reset = rng.random(len(weights)) < RESET_SHARE
    normal = rng.standard_normal(len(weights))
    new = np.where(reset, normal, weights + normal * sd * np.abs(weights))
    return np.clip(new, -LARGEST_WEIGHT, LARGEST_WEIGHT).astype(np.float32)


def mutate_activation(member: Member, selection: Sequence[str], rng: np.random.Generator) -> tuple[str, str]:
    """Give all networks of the member another activation of `selection`, in place.

    Weights stay as they are, so outputs change. Gated layers stay gated, whatever the new activation: their gates have
    values that count.

    Returns:
        ("activation", the new one), or ("none", why nothing changed).
    """
    in_use = {a for network in member.networks.values() for a in activations(network.spec)}
    others = [a for a in selection if in_use != {a}]
    if not others:
        return "none", f"activation: every network has {selection[0]}, and nothing else is selected"
    chosen = others[rng.integers(len(others))]
    for network in member.networks.values():
        network.spec = with_activation(network.spec, chosen)
    return "activation", f"{', '.join(sorted(in_use))} -> {chosen}"


def activations(spec: NetworkSpec) -> tuple[str, ...]:
    """Activation of every encoder and of the head."""
    return tuple(get_subnetwork(spec, part).activation for part in subnetwork_names(spec))


def with_activation(spec: NetworkSpec, activation: str) -> NetworkSpec:
    """The same architecture with one activation everywhere."""
    for part in subnetwork_names(spec):
        spec = with_subnetwork(spec, part, replace(get_subnetwork(spec, part), activation=activation))
    return spec
