"""One YAML file configures a run: its sections as models, AgileRL's manifests, and sentences for errors in them."""

from covey.config.algorithm import (
    IPPOSettings,
    JointCriticAlgorithm,
    JointCriticHyperparameters,
    MADDPGSettings,
    MAPPOSettings,
    MATD3Hyperparameters,
    MATD3Settings,
    OffPolicyAlgorithm,
    OffPolicyHyperparameters,
    OnPolicyAlgorithm,
    OnPolicyHyperparameters,
)
from covey.config.algorithm_settings import AlgorithmSettings, Hyperparameters
from covey.config.config import Config, apply_override, load_config, parse_config
from covey.config.evolution import Evolution, Mutation, Probabilities, RLParameter, Selection
from covey.config.fitness import Fitness
from covey.config.masac import MASACHyperparameters, MASACSettings
from covey.config.network import MLPConfig, NetConfig
from covey.config.pqn import PQNHyperparameters, PQNSettings
from covey.config.sections import (
    EVAL_STEPS_CAP,
    TLS,
    Actors,
    Checkpoint,
    Environment,
    Learner,
    Logging,
    ReplayBuffer,
    Training,
    Updates,
)
from covey.config.value_decomposition import (
    DiscreteTeamAlgorithm,
    QMIXSettings,
    ValueDecompositionAlgorithm,
    ValueDecompositionHyperparameters,
)

__all__ = [
    "EVAL_STEPS_CAP",
    "TLS",
    "Actors",
    "AlgorithmSettings",
    "Checkpoint",
    "Config",
    "DiscreteTeamAlgorithm",
    "Environment",
    "Evolution",
    "Fitness",
    "Hyperparameters",
    "IPPOSettings",
    "JointCriticAlgorithm",
    "JointCriticHyperparameters",
    "Learner",
    "Logging",
    "MADDPGSettings",
    "MAPPOSettings",
    "MASACHyperparameters",
    "MASACSettings",
    "MATD3Hyperparameters",
    "MATD3Settings",
    "MLPConfig",
    "Mutation",
    "NetConfig",
    "OffPolicyAlgorithm",
    "OffPolicyHyperparameters",
    "OnPolicyAlgorithm",
    "OnPolicyHyperparameters",
    "PQNHyperparameters",
    "PQNSettings",
    "Probabilities",
    "QMIXSettings",
    "RLParameter",
    "ReplayBuffer",
    "Selection",
    "Training",
    "Updates",
    "ValueDecompositionAlgorithm",
    "ValueDecompositionHyperparameters",
    "apply_override",
    "load_config",
    "parse_config",
]
