"""Mutations of policies' memory: more or fewer units of the GRU, in the policy and in what reads its state.

A new unit has fresh weights into it and weights of zero out of it, to the other units too, so that growth changes no
output. Fewer units change the outputs: those of least contribution in the policy go, and the same ones from every
network that reads the policy's state.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from covey.networks.recurrent import MEMORY
from covey.networks.resize import contribution, grow, keep
from covey_server.evolution.resized import resized, servable
from covey_server.member import Network

MEMORY_METHODS = ("memory.add_node", "memory.remove_node")
"""Further changes of units, of members whose policies have memory."""


def has_memory(networks: Mapping[str, Network]) -> bool:
    """Whether any of a member's policies has memory."""
    return any(network.spec.state_size for network in networks.values())


def change_memory(
    networks: Mapping[str, Network], adds: bool, units: int, rng: np.random.Generator
) -> dict[str, tuple[Network, str]]:
    """Add units to the memory of all policies of a member, or remove some, as far as their bounds allow.

    Args:
        networks: The member's networks by "<role>/<network id>"; they stay as they are.
        adds: Whether units are added.
        units: How many.
        rng: Random generator for new weights.

    Returns:
        By the same keys the new networks and what was done to each in words; the given network and "" where nothing
        was, as for networks that have nothing to do with memory.
    """
    changed = {key: (network, "") for key, network in networks.items()}
    for key, network in networks.items():
        spec, size = network.spec, network.spec.state_size
        if not size:
            continue
        smallest, largest = spec.inputs[0].encoder.unit_bounds
        by = min(units, largest - size) if adds else -min(units, size - smallest)
        if (by <= 0) if adds else (by >= 0):
            continue
        # The policy first, then all networks of the same id that read its state.
        network_id = key.partition("/")[2]
        its = {key: network} | {
            k: n for k, n in networks.items() if k.partition("/")[2] == network_id and n.spec.reads_memory
        }
        if not all(servable(n.spec.resized({MEMORY: size + by})) for n in its.values()):
            continue
        strongest = np.argsort(-contribution(spec, network.params, MEMORY), kind="stable")
        staying = np.sort(strongest[: size + by])
        for k, n in its.items():
            resize = grow(n.spec, MEMORY, by, rng) if adds else keep(n.spec, MEMORY, staying)
            changed[k] = resized(n, resize), f"{MEMORY_METHODS[not adds]} {by:+d}"
    return changed
