"""covey_server: the learner. Owns replay, the population, its evolution and the orders that actors work on.

The names here are for training from Python, in one process: `covey_server.library`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from covey.hyperparameters import HyperparameterConfig, RLParameter
    from covey.progress import default_progress_bar
    from covey_server.library.agents import Agent, AsyncAgentsWrapper
    from covey_server.library.evolution import Mutations, TournamentSelection
    from covey_server.library.memory import MultiAgentReplayBuffer
    from covey_server.library.population import create_population
    from covey_server.library.training import train_multi_agent_off_policy, train_multi_agent_on_policy

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

# Loaded when they are asked for: `covey learner --help` must not wait for torch.
_MODULES = {
    "Agent": "covey_server.library.agents",
    "AsyncAgentsWrapper": "covey_server.library.agents",
    "HyperparameterConfig": "covey.hyperparameters",
    "MultiAgentReplayBuffer": "covey_server.library.memory",
    "Mutations": "covey_server.library.evolution",
    "RLParameter": "covey.hyperparameters",
    "TournamentSelection": "covey_server.library.evolution",
    "create_population": "covey_server.library.population",
    "default_progress_bar": "covey.progress",
    "train_multi_agent_off_policy": "covey_server.library.training",
    "train_multi_agent_on_policy": "covey_server.library.training",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'covey_server' has no attribute {name!r}")
