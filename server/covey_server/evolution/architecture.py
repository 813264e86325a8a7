"""Architecture mutation: adds or removes layers or units, in the same way in all networks of a member.

Methods, sizes and probabilities are those of AgileRL's evolvable networks. Different here: actor encoders are mutated
too; a change is shortened to what a network's bounds allow, and a network that allows none stays as it is instead of
ending the run; growth leaves outputs unchanged and keeps Adam moments (`covey.networks.resize`).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from covey.networks import CNN, NetworkSpec, Params, ResNet, SimBa
from covey.networks.network import LATENT
from covey.networks.resize import (
    HEAD,
    Resize,
    change_kernel,
    get_subnetwork,
    grow,
    insert_layer,
    remove_layer,
    shrink,
    subnetwork_names,
)
from covey_server.evolution.memory import MEMORY_METHODS, change_memory, has_memory
from covey_server.evolution.resized import resized, servable
from covey_server.member import Member, Network

LAYER_METHODS = ("head.add_layer", "head.remove_layer")
ENCODER_LAYER_METHODS = ("encoder.add_layer", "encoder.remove_layer")
"""Further changes of layers, of members with convolutions or residual blocks: of encoders of these alone."""

DEEPENED = CNN | SimBa | ResNet
"""Kinds of encoders whose layers mutations add and remove."""

NODE_METHODS = (
    "encoder.add_node",
    "encoder.remove_node",
    "head.add_node",
    "head.remove_node",
    "latent.add_node",
    "latent.remove_node",
)
KERNEL_METHOD = "encoder.change_kernel"
"""A further change of units, of members with convolutions."""

LARGEST_KERNEL = 9
"""Rows and columns of a convolution's window up to which mutations enlarge it."""

MLP_NODES = (16, 32, 64)
"""Numbers of units that a mutation may add to, or remove from, a hidden layer; of channels half as many."""

LATENT_NODES = (8, 16, 32)
"""Numbers of units that a mutation may add to, or remove from, the latent vector between encoders and head."""


@dataclass(frozen=True, slots=True)
class ArchitectureChange:
    """An architecture mutation, drawn once and applied to all networks of a member.

    Attributes:
        method: One of `LAYER_METHODS` or `NODE_METHODS`, or one that only convolutions have.
        layer: Index of the hidden layer whose units change; a network with fewer hidden layers uses its last one.
        units: Number of units to add or remove; of convolutions, half as many channels.
        wider: Whether windows of convolutions are enlarged rather than reduced, where their size changes.
    """

    method: str
    layer: int
    units: int
    wider: bool = True


def mutate_architecture(member: Member, new_layer_prob: float, rng: np.random.Generator) -> tuple[str, str]:
    """Draw one architecture mutation, and apply it to all networks of a member in place.

    Args:
        member: Member to mutate; each of its networks stays within the bounds of its own spec.
        new_layer_prob: Probability of a change of layers; otherwise units change.
        rng: Random generator for the draws and for new weights.

    Returns:
        ("architecture", what changed in which networks), or ("none", why nothing could change).
    """
    change = draw_change(member, new_layer_prob, rng)
    outcomes: Counter[str] = Counter()
    if change.method in MEMORY_METHODS:
        changed = change_memory(member.networks, change.method == MEMORY_METHODS[0], change.units, rng)
    else:
        changed = {name: apply_change(network, change, rng) for name, network in member.networks.items()}
    for name, (network, done) in changed.items():
        member.networks[name] = network
        outcomes[done] += 1
    unchanged = outcomes.pop("", 0)
    if not outcomes:
        return "none", f"{change.method}: no network has room for it within its bounds"
    if len(outcomes) == 1 and not unchanged:
        return "architecture", next(iter(outcomes))
    total = len(member.networks)
    return "architecture", "; ".join(f"{done} in {count} of {total} networks" for done, count in outcomes.items())


def draw_change(member: Member, new_layer_prob: float, rng: np.random.Generator) -> ArchitectureChange:
    """Draw method, layer and number of units of an architecture mutation.

    Args:
        member: Member to mutate; its deepest network bounds the layer's index.
        new_layer_prob: Probability of a change of layers; otherwise units change.
        rng: Random generator for the draws.
    """
    methods: tuple[str, ...] = LAYER_METHODS if rng.random() < new_layer_prob else NODE_METHODS
    specs = [network.spec for network in member.networks.values()]
    if methods is LAYER_METHODS:
        methods += ENCODER_LAYER_METHODS if any(_encoders(spec, DEEPENED) for spec in specs) else ()
    else:
        methods += (KERNEL_METHOD,) if any(_encoders(spec, CNN) for spec in specs) else ()
        methods += MEMORY_METHODS if has_memory(member.networks) else ()
    method = methods[rng.integers(len(methods))]
    sizes = LATENT_NODES if method.startswith(LATENT) else MLP_NODES
    depths = [
        get_subnetwork(network.spec, part).layers
        for network in member.networks.values()
        for part in _mutated_parts(network.spec, method)
    ]
    layer = int(rng.integers(max(1, *depths))) if depths else 0
    units = sizes[rng.integers(len(sizes))]
    return ArchitectureChange(method, layer, units, method != KERNEL_METHOD or bool(rng.integers(2)))


def apply_change(network: Network, change: ArchitectureChange, rng: np.random.Generator) -> tuple[Network, str]:
    """Apply an architecture mutation to one network, within the bounds of its spec.

    If no layer can be added or removed within the bounds, units are added instead.

    Args:
        network: Network to mutate; it stays as it is.
        change: The mutation.
        rng: Random generator for new weights.

    Returns:
        The new network and what was done to it in words; the given network and "" if the bounds allow nothing.
    """
    where, method = change.method.split(".")
    if where == LATENT:
        spec = network.spec
        bounds = spec.min_latent_dim, spec.max_latent_dim
        resize, by = _resize_layer(spec, network.params, LATENT, method, change.units, bounds, rng)
        return (network, "") if resize is None else (resized(network, resize), f"{change.method} {by:+d}")
    # Descriptions without repetition, in the order of the encoders (a dictionary keeps it).
    done: dict[str, None] = {}
    for part in _mutated_parts(network.spec, change.method):
        resize, words = _resize_part(network, part, method, change, rng)
        if resize is not None:
            network = resized(network, resize)
            done[f"{where}.{words}"] = None
    return network, ", ".join(done)


def _encoders(spec: NetworkSpec, kinds: Any) -> tuple[str, ...]:
    """Return the names of a network's encoders of certain kinds."""
    return tuple(part for part in subnetwork_names(spec) if isinstance(get_subnetwork(spec, part), kinds))


def _mutated_parts(spec: NetworkSpec, method: str) -> tuple[str, ...]:
    """Return the parts of a network that a mutation changes: the head, encoders, or none for the latent vector.

    Layers of encoders change where they are convolutions or residual blocks, windows in CNNs alone.
    """
    if method in ENCODER_LAYER_METHODS:
        return _encoders(spec, DEEPENED)
    if method == KERNEL_METHOD:
        return _encoders(spec, CNN)
    match method.partition(".")[0]:
        case "head":
            return (HEAD,)
        case "encoder":
            return tuple(part for part in subnetwork_names(spec) if part != HEAD)
    return ()


def _resize_part(
    network: Network, part: str, method: str, change: ArchitectureChange, rng: np.random.Generator
) -> tuple[Resize | None, str]:
    """Work out how a mutation changes one part of a network, its head or an encoder, within the part's bounds.

    Returns:
        The change, and a description of it; None instead of the change if the bounds allow nothing.
    """
    own = get_subnetwork(network.spec, part)
    layers = own.layers
    if not layers:
        return None, ""
    layer = min(change.layer, layers - 1)
    if method == "change_kernel":
        return _resize_kernel(network.spec, part, layer, change.wider)
    # The last hidden layer always stays: without one there would be no width for a layer that is added later.
    if method == "remove_layer" and layers > max(1, own.min_hidden_layers):
        resize = remove_layer(network.spec, part)
        if servable(resize.spec):  # behind fewer convolutions, more pixels are left
            return resize, method
    if method == "add_layer" and layers < own.max_hidden_layers:
        resize = insert_layer(network.spec, part, rng)
        if servable(resize.spec):
            return resize, method
    if method != "remove_node":
        method = "add_node"
    units = change.units // 2 if own.units == "channel" else change.units
    label = f"{part}.{layer}.units"
    resize_units, by = _resize_layer(network.spec, network.params, label, method, units, own.unit_bounds, rng)
    return resize_units, f"{method.replace('node', own.units)} {by:+d} at layer {layer}"


def _resize_kernel(spec: NetworkSpec, part: str, layer: int, wider: bool) -> tuple[Resize | None, str]:
    """Enlarge or reduce a convolution's windows by a pixel on each side, or the other way where there is no room.

    Returns:
        The change, and a description of it; None instead of the change if neither is possible.
    """
    own = get_subnetwork(spec, part)
    kernel, window = own.kernel_size[layer], own.windows[layer]
    for by in (1, -1) if wider else (-1, 1):
        size = kernel + 2 * by
        if 1 <= size <= max(kernel, min(LARGEST_KERNEL, window.height, window.width)):
            resize = change_kernel(spec, part, layer, by)
            if servable(resize.spec):
                return resize, f"change_kernel {kernel} -> {size} at layer {layer}"
    return None, ""


def _resize_layer(
    spec: NetworkSpec,
    params: Params,
    label: str,
    method: str,
    units: int,
    bounds: tuple[int, int],
    rng: np.random.Generator,
) -> tuple[Resize | None, int]:
    """Add units to a layer, or remove some, as far as its bounds allow.

    Args:
        spec: The network's architecture.
        params: The network's weights, which decide which units matter least and are removed.
        label: Name of the layer's size in `spec.sizes`.
        method: "add_node" or "remove_node".
        units: Number of units to add or remove.
        bounds: Smallest and largest number of units that the layer may have.
        rng: Random generator for new weights.

    Returns:
        The change and the number of units added (negative: removed); None and 0 if nothing is possible.
    """
    size = spec.sizes[label]
    smallest, largest = bounds
    by = min(units, largest - size) if method == "add_node" else -min(units, size - smallest)
    if method == "add_node" and by > 0 and servable(spec.resized({label: size + by})):
        return grow(spec, label, by, rng), by
    if method == "remove_node" and by < 0:
        return shrink(spec, label, -by, params), by
    return None, 0
