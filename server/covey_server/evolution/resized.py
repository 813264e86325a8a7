"""Moves a member's network, with targets and optimiser moments, into another architecture."""

from __future__ import annotations

from covey.networks import NetworkSpec
from covey.networks.network import MAX_PARAMETERS, MAX_PRODUCTS
from covey.networks.resize import Resize
from covey_server.member import Network


def resized(network: Network, resize: Resize) -> Network:
    """Move a network into a new architecture; weights, target weights and both Adam moments are moved alike."""
    return Network(
        spec=resize.spec,
        params=resize.weights(network.params),
        target=None if network.target is None else resize.weights(network.target),
        first_moment=resize.moments(network.first_moment),
        second_moment=resize.moments(network.second_moment),
        adam_steps=network.adam_steps,
        scale=network.scale,
        observed=network.observed,
        earned=network.earned,
        temperature=network.temperature,
    )


def servable(spec: NetworkSpec) -> bool:
    """Whether a network has so few parameters, and takes so few multiplications, that actors accept it."""
    return spec.numbers <= MAX_PARAMETERS and spec.products <= MAX_PRODUCTS
