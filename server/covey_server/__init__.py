"""The learner of covey: replay memory, population, updates, evolution and the gRPC server that actors connect to.

The names exported here train from Python in one process; `covey_server.api` defines them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from covey.config.hyperparameters import HyperparameterConfig, RLParameter
    from covey.progress import default_progress_bar
    from covey_server.api.agents import Agent, AsyncAgentsWrapper
    from covey_server.api.evolution import Mutations, TournamentSelection
    from covey_server.api.memory import MultiAgentReplayBuffer
    from covey_server.api.population import create_population
    from covey_server.api.training import train_multi_agent_off_policy, train_multi_agent_on_policy

__all__ = [
    "Agent",
    "AsyncAgentsWrapper",
    "HyperparameterConfig",
    "MultiAgentReplayBuffer",
    "Mutations",
    "RLParameter",
    "TournamentSelection",
    "create_population",
    "default_progress_bar",
    "train_multi_agent_off_policy",
    "train_multi_agent_on_policy",
]

# Exported names are imported when they are first used, so that `covey learner --help` does not wait for torch.
_MODULES = {
    "Agent": "covey_server.api.agents",
    "AsyncAgentsWrapper": "covey_server.api.agents",
    "HyperparameterConfig": "covey.config.hyperparameters",
    "MultiAgentReplayBuffer": "covey_server.api.memory",
    "Mutations": "covey_server.api.evolution",
    "RLParameter": "covey.config.hyperparameters",
    "TournamentSelection": "covey_server.api.evolution",
    "create_population": "covey_server.api.population",
    "default_progress_bar": "covey.progress",
    "train_multi_agent_off_policy": "covey_server.api.training",
    "train_multi_agent_on_policy": "covey_server.api.training",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'covey_server' has no attribute {name!r}")
