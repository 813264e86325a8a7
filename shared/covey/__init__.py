"""covey: populations of multi-agent policies, trained over gRPC. What both sides agree on."""

from typing import TYPE_CHECKING

from covey.lazy import lazy_exports

if TYPE_CHECKING:
    from covey.config.hyperparameters import HyperparameterConfig as HyperparameterConfig
    from covey.config.hyperparameters import RLParameter as RLParameter
    from covey.envs.observed import Observations as Observations
    from covey.envs.vector import AsyncPettingZooVecEnv as AsyncPettingZooVecEnv
    from covey.envs.vector import PettingZooVecEnv as PettingZooVecEnv
    from covey.envs.vector import SyncPettingZooVecEnv as SyncPettingZooVecEnv
    from covey.envs.vector import make_multi_agent_vect_envs as make_multi_agent_vect_envs
    from covey.progress import default_progress_bar as default_progress_bar
    from covey.run.exported import Policy as Policy
    from covey.run.exported import load_policy as load_policy
    from covey.scripting.run import Run as Run
    from covey.scripting.run import runs as runs
    from covey.scripting.training import resume as resume
    from covey.scripting.training import train as train

__version__ = "0.1.0"

# The command line imports this package and must not wait for numpy and PettingZoo.
__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "covey.config.hyperparameters": ("HyperparameterConfig", "RLParameter"),
        "covey.envs.observed": ("Observations",),
        "covey.envs.vector": (
            "AsyncPettingZooVecEnv",
            "PettingZooVecEnv",
            "SyncPettingZooVecEnv",
            "make_multi_agent_vect_envs",
        ),
        "covey.progress": ("default_progress_bar",),
        "covey.run.exported": ("Policy", "load_policy"),
        "covey.scripting.run": ("Run", "runs"),
        "covey.scripting.training": ("resume", "train"),
    },
)
