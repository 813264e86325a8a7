"""The algorithms by name, as `algorithm.name` of a configuration gives it."""

from covey_server.algorithms.algorithm import Algorithm
from covey_server.algorithms.ippo import IPPO
from covey_server.algorithms.maddpg import MADDPG
from covey_server.algorithms.matd3 import MATD3
from covey_server.algorithms.off_policy import OffPolicy
from covey_server.algorithms.roles import build_networks, initial_hyperparameters

ALGORITHMS: dict[str, type[Algorithm]] = {"MADDPG": MADDPG, "MATD3": MATD3, "IPPO": IPPO}

__all__ = [
    "ALGORITHMS",
    "IPPO",
    "MADDPG",
    "MATD3",
    "Algorithm",
    "OffPolicy",
    "build_networks",
    "initial_hyperparameters",
]
