"""The learner of covey: replay memory, population, updates, evolution and the gRPC server that actors connect to.

The names exported here train from Python in one process; `covey_server.api` defines them.
"""

import os
from typing import TYPE_CHECKING

from covey.lazy import lazy_exports

if TYPE_CHECKING:
    from covey.config.hyperparameters import HyperparameterConfig as HyperparameterConfig
    from covey.config.hyperparameters import RLParameter as RLParameter
    from covey.progress import default_progress_bar as default_progress_bar
    from covey_server.api.agents import Agent as Agent
    from covey_server.api.agents import AsyncAgentsWrapper as AsyncAgentsWrapper
    from covey_server.api.evolution import Mutations as Mutations
    from covey_server.api.evolution import TournamentSelection as TournamentSelection
    from covey_server.api.memory import MultiAgentReplayBuffer as MultiAgentReplayBuffer
    from covey_server.api.population import create_population as create_population
    from covey_server.api.training import train_multi_agent_off_policy as train_multi_agent_off_policy
    from covey_server.api.training import train_multi_agent_on_policy as train_multi_agent_on_policy

# Threads of one update that wait for each other would spin by default, on cores that actors need: an update with two
# threads beside busy processes then takes many times as long. OpenMP reads this once, when torch is first imported.
if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"} & os.environ.keys():
    os.environ["OMP_WAIT_POLICY"] = "passive"

# `covey learner --help` must not wait for torch.
__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "covey.config.hyperparameters": ("HyperparameterConfig", "RLParameter"),
        "covey.progress": ("default_progress_bar",),
        "covey_server.api.agents": ("Agent", "AsyncAgentsWrapper"),
        "covey_server.api.evolution": ("Mutations", "TournamentSelection"),
        "covey_server.api.memory": ("MultiAgentReplayBuffer",),
        "covey_server.api.population": ("create_population",),
        "covey_server.api.training": ("train_multi_agent_off_policy", "train_multi_agent_on_policy"),
    },
)
