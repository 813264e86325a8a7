"""covey: populations of multi-agent policies, trained over gRPC. What both sides agree on."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from covey.config.hyperparameters import HyperparameterConfig, RLParameter
    from covey.envs.vector import (
        AsyncPettingZooVecEnv,
        Observations,
        PettingZooVecEnv,
        SyncPettingZooVecEnv,
        make_multi_agent_vect_envs,
    )
    from covey.progress import default_progress_bar
    from covey.run.exported import Policy, load_policy

__version__ = "0.1.0"

__all__ = [
    "AsyncPettingZooVecEnv",
    "HyperparameterConfig",
    "Observations",
    "PettingZooVecEnv",
    "Policy",
    "RLParameter",
    "SyncPettingZooVecEnv",
    "__version__",
    "default_progress_bar",
    "load_policy",
    "make_multi_agent_vect_envs",
]

# Loaded when they are asked for: the command line imports this package and must not wait for numpy and PettingZoo.
_MODULES = {
    "AsyncPettingZooVecEnv": "covey.envs.vector",
    "HyperparameterConfig": "covey.config.hyperparameters",
    "Observations": "covey.envs.vector",
    "PettingZooVecEnv": "covey.envs.vector",
    "Policy": "covey.run.exported",
    "RLParameter": "covey.config.hyperparameters",
    "SyncPettingZooVecEnv": "covey.envs.vector",
    "default_progress_bar": "covey.progress",
    "load_policy": "covey.run.exported",
    "make_multi_agent_vect_envs": "covey.envs.vector",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'covey' has no attribute {name!r}")
