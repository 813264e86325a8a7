"""Architecture mutation: one method, applied to every network of a member wherever its bounds leave room.

Source of the methods, their sizes and their odds: AgileRL's evolvable networks. Different here: actor encoders evolve
too, a network that cannot follow is left as it is instead of ending the run, a step is shortened to what the bounds
leave, and all that grows leaves outputs unchanged and keeps its Adam moments (`covey.networks.resize`).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from covey.networks import NetworkSpec, Params
from covey.networks.network import LATENT, MAX_PARAMETERS
from covey.networks.resize import (
    HEAD,
    Resize,
    get_subnetwork,
    grow,
    insert_layer,
    remove_layer,
    shrink,
    subnetwork_names,
)
from covey_server.member import Member, Network

LAYER_METHODS = ("head.add_layer", "head.remove_layer")
NODE_METHODS = (
    "encoder.add_node",
    "encoder.remove_node",
    "head.add_node",
    "head.remove_node",
    "latent.add_node",
    "latent.remove_node",
)
MLP_NODES = (16, 32, 64)
LATENT_NODES = (8, 16, 32)


@dataclass(frozen=True, slots=True)
class Draw:
    """One mutation, the same for all networks of a member."""

    method: str
    layer: int  # hidden layer of a node method; a network with fewer uses its last
    units: int  # by which a node method grows or shrinks


def mutate_architecture(member: Member, new_layer_prob: float, rng: np.random.Generator) -> tuple[str, str]:
    """Change the architecture of all networks of `member` in place, by one method.

    Args:
        member: Whose networks change; each within the bounds of its own spec.
        new_layer_prob: Share of the layer methods; node methods have the rest.
        rng: Stream of the draws and of fresh weights.

    Returns:
        ("architecture", what changed where), or ("none", why nothing could).
    """
    draw = draw_method(member, new_layer_prob, rng)
    outcomes: Counter[str] = Counter()
    for name, network in member.networks.items():
        member.networks[name], done = apply_method(network, draw, rng)
        outcomes[done] += 1
    unchanged = outcomes.pop("", 0)
    if not outcomes:
        return "none", f"{draw.method}: no network has room for it within its bounds"
    if len(outcomes) == 1 and not unchanged:
        return "architecture", next(iter(outcomes))
    total = len(member.networks)
    return "architecture", "; ".join(f"{done} in {count} of {total} networks" for done, count in outcomes.items())


def draw_method(member: Member, new_layer_prob: float, rng: np.random.Generator) -> Draw:
    """Method, layer and size of one architecture mutation."""
    methods = LAYER_METHODS if rng.random() < new_layer_prob else NODE_METHODS
    method = methods[rng.integers(len(methods))]
    sizes = LATENT_NODES if method.startswith(LATENT) else MLP_NODES
    depths = [
        len(get_subnetwork(network.spec, part).hidden_size)
        for network in member.networks.values()
        for part in _addressed(network.spec, method)
    ]
    layer = int(rng.integers(max(1, *depths))) if depths else 0
    return Draw(method, layer, sizes[rng.integers(len(sizes))])


def apply_method(network: Network, draw: Draw, rng: np.random.Generator) -> tuple[Network, str]:
    """The network after the method or what it falls back to, and that in words; "" and the same network if nothing is.

    Adding a layer at the limit, or removing one at the minimum, adds nodes instead.
    """
    where, method = draw.method.split(".")
    if where == LATENT:
        spec = network.spec
        bounds = spec.min_latent_dim, spec.max_latent_dim
        resize, by = _resize_label(spec, network.params, LATENT, method, draw.units, bounds, rng)
        return (network, "") if resize is None else (carried(network, resize), f"{draw.method} {by:+d}")
    done: dict[str, None] = {}
    for part in _addressed(network.spec, draw.method):
        resize, words = _resize_part(network, part, method, draw, rng)
        if resize is not None:
            network = carried(network, resize)
            done[f"{where}.{words}"] = None
    return network, ", ".join(done)


def carried(network: Network, resize: Resize) -> Network:
    """The network in its new architecture: parameters, target and both moments moved by the same object."""
    return Network(
        spec=resize.spec,
        params=resize.weights(network.params),
        target=None if network.target is None else resize.weights(network.target),
        first_moment=resize.moments(network.first_moment),
        second_moment=resize.moments(network.second_moment),
        adam_steps=network.adam_steps,
        scale=network.scale,
    )


def _addressed(spec: NetworkSpec, method: str) -> tuple[str, ...]:
    """Parts of a network that a method means: its head, all its encoders, or none for the latent space."""
    match method.partition(".")[0]:
        case "head":
            return (HEAD,)
        case "encoder":
            return tuple(part for part in subnetwork_names(spec) if part != HEAD)
    return ()


def _resize_part(
    network: Network, part: str, method: str, draw: Draw, rng: np.random.Generator
) -> tuple[Resize | None, str]:
    """What a method does to one head or encoder, in words; None where it does nothing."""
    mlp = get_subnetwork(network.spec, part)
    layers = len(mlp.hidden_size)
    if not layers:
        return None, ""
    # The last hidden layer stays whatever the minimum: without one there is no width that a new layer could take.
    if method == "remove_layer" and layers > max(1, mlp.min_hidden_layers):
        return remove_layer(network.spec, part), method
    if method == "add_layer" and layers < mlp.max_hidden_layers:
        resize = insert_layer(network.spec, part)
        if _servable(resize.spec):
            return resize, method
    if method != "remove_node":
        method = "add_node"
    layer = min(draw.layer, layers - 1)
    bounds = mlp.min_mlp_nodes, mlp.max_mlp_nodes
    label = f"{part}.{layer}.units"
    resized, by = _resize_label(network.spec, network.params, label, method, draw.units, bounds, rng)
    return resized, f"{method} {by:+d} at layer {layer}"


def _resize_label(
    spec: NetworkSpec,
    params: Params,
    label: str,
    method: str,
    units: int,
    bounds: tuple[int, int],
    rng: np.random.Generator,
) -> tuple[Resize | None, int]:
    """Add or remove up to `units` of a label, as far as its bounds leave room, and by how many it was."""
    size = spec.sizes[label]
    smallest, largest = bounds
    by = min(units, largest - size) if method == "add_node" else -min(units, size - smallest)
    if method == "add_node" and by > 0 and _servable(spec.resized({label: size + by})):
        return grow(spec, label, by, rng), by
    if method == "remove_node" and by < 0:
        return shrink(spec, label, -by, params), by
    return None, 0


def _servable(spec: NetworkSpec) -> bool:
    """Whether actors accept a network of this size."""
    return sum(p.size for p in spec.parameters) <= MAX_PARAMETERS
