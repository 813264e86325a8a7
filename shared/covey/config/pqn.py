"""The `algorithm:` section of PQN."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from covey.config.algorithm_settings import Hyperparameters
from covey.config.schedule import Schedulable
from covey.config.sections import Training
from covey.config.value_decomposition import DiscreteTeamAlgorithm
from covey.errors import ConfigError


class PQNHyperparameters(Hyperparameters):
    """PQN's hyperparameters: every member of a population has its own values, which evolution may change."""

    lr: Schedulable = Field(default=0.0005, gt=0, le=1, description="Learning rate of the utilities (Adam).")
    batch_size: int = Field(default=256, ge=1, le=1 << 20, description="Most env steps in a minibatch.")
    learn_step: int = Field(
        default=4096,
        ge=1,
        description="Env steps of a rollout, which a member plays with one policy and then learns from.",
    )
    gamma: float = Field(default=0.95, ge=0, le=1, description="Discount factor of rewards, per env step.")
    q_lambda: float = Field(
        default=0.65,
        ge=0,
        le=1,
        description="Lambda of the returns that are learned: with 0, they rest on the best value of the next env step, "
        "with 1 on all later rewards of the rollout.",
    )
    update_epochs: int = Field(default=4, ge=1, le=1000, description="Passes over each rollout.")


class PQNSettings(PQNHyperparameters, DiscreteTeamAlgorithm):
    """PQN: cooperative Q-learning from rollouts, without replay and without target networks.

    The team's value is the sum of the agents' utilities, as in VDN; what it learns are lambda returns. Hidden layers
    are always normalised (LayerNorm). Actions are Discrete, and all agents act in every env step. The reward is the sum
    of the agents' rewards.
    """

    hyperparameters: ClassVar[type[Hyperparameters]] = PQNHyperparameters
    implementation: ClassVar[str] = "covey_server.algorithms.pqn:PQN"
    training_function: ClassVar[str] = "train_multi_agent_on_policy"
    learns_from: ClassVar[Literal["replay", "rounds"]] = "rounds"

    name: Literal["PQN"] = Field(description="Name of the algorithm.")

    def check_training(self, training: Training) -> None:
        """Refuse training settings that do not fit: what is drawn uniformly at first, `epsilon_start` says."""
        if training.random_steps:
            raise ConfigError(
                f"training.random_steps: {training.random_steps}, expected 0 with {self.name}; set "
                "algorithm.epsilon_start to 1 for uniform actions at first"
            )
