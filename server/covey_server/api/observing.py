"""Counts what agents see as they act in training loops, for policies that read normalised observations."""

from __future__ import annotations

from covey.config import AlgorithmSettings
from covey.envs.arrays import SlotArrays
from covey.networks.normalisation import Moments
from covey.networks.resolve import network_ids
from covey.spaces import EnvironmentSpaces, leaf_arrays
from covey_server.algorithms.statistics import OBSERVED, kept_statistics
from covey_server.api.acting import columns
from covey_server.experience.observed import NormalisedNumbers
from covey_server.member import Member


class Observing:
    """Counts observations in the statistics of a member's policies, where these normalise.

    Only for algorithms that learn from samples of a replay memory: loops of one's own do not say whose steps they save
    there. Where rows say it, as in the training functions, rows are counted.

    Args:
        algorithm: Says whether policies normalise.
        spaces: Spaces of the environments.
    """

    def __init__(self, algorithm: AlgorithmSettings, spaces: EnvironmentSpaces) -> None:
        replays = algorithm.training_function == AlgorithmSettings.training_function
        on = replays and OBSERVED in kept_statistics(algorithm)
        shared = network_ids(spaces, algorithm.share_parameters)
        owner = {spaces.agent_ids[agent]: f"actor/{i}" for i, agents in shared.items() for agent in agents}
        # Of each agent: its place among all, its group and its place in it, its policy, and its numbers.
        self._agents = [
            (p, g, n, owner[agent], numbers)
            for p, g, n, agent in columns(spaces)
            if on and (numbers := NormalisedNumbers(spaces.groups[g].observation)).any
        ]
        self._groups = spaces.groups

    def count(self, member: Member, seen: SlotArrays) -> None:
        """Count what the agents that are to act see now."""
        for p, g, n, key, numbers in self._agents:
            acting = seen.present[:, p] > 0
            network = member.networks[key]
            if network.observed is not None and acting.any():
                leaves = leaf_arrays(self._groups[g].observation, seen.observation[g][:, n])
                network.observed = network.observed.joined(Moments.of(numbers([leaf[acting] for leaf in leaves])))
