"""The `algorithm:` sections of VDN and QMIX, and what PQN has in common with them."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from covey.config.algorithm_settings import AlgorithmSettings, Hyperparameters
from covey.config.schedule import Schedulable
from covey.config.section import OnResume
from covey.wire.limits import EPSILON_GREEDY_SINCE


class ValueDecompositionHyperparameters(Hyperparameters):
    """Hyperparameters of VDN and QMIX: every member of a population has its own values, which evolution may change."""

    lr: Schedulable = Field(default=0.001, gt=0, le=1, description="Learning rate of utilities and mixer (Adam).")
    batch_size: int = Field(
        default=128, ge=1, le=65536, description="Env steps in the batch of one update, drawn from replay."
    )
    learn_step: int = Field(
        default=16, ge=1, description="A member is updated once for every `learn_step` env steps of its own."
    )
    gamma: float = Field(default=0.95, ge=0, le=1, description="Discount factor of rewards, per env step.")
    tau: float = Field(
        default=0.01,
        gt=0,
        le=1,
        description="Soft update of the target networks: they become `tau` x the current weights + (1 - `tau`) x their "
        "own.",
    )


class DiscreteTeamAlgorithm(AlgorithmSettings):
    """What the `algorithm:` sections of VDN, QMIX and PQN have in common: a team of agents that explore by epsilon.

    Actions are Discrete, and all agents act in every env step. The reward is the sum of the agents' rewards.
    """

    team_reward: ClassVar[bool] = True
    oldest_protocol_version: ClassVar[int] = EPSILON_GREEDY_SINCE

    epsilon_start: float = Field(
        default=1.0, ge=0, le=1, description="Probability, at first, with which an agent's action is drawn uniformly."
    )
    epsilon_end: float = Field(
        default=0.05, ge=0, le=1, description="Probability of a uniform action from `epsilon_steps` on."
    )
    epsilon_steps: int = Field(
        default=50_000,
        ge=1,
        description="Env steps of a member in which the probability goes linearly from `epsilon_start` to "
        "`epsilon_end`.",
    )
    reward_scale: float = Field(
        default=1.0,
        gt=0,
        description="Factor of the team's reward in learning. Team values far from the range of -10 to 10 are learned "
        "slowly: scale them down.",
    )
    max_grad_norm: float | None = Field(
        default=10.0, gt=0, description="Norm to which larger gradients of a network are scaled down. null: never."
    )
    normalize_observations: Annotated[bool, OnResume.FIXED] = Field(
        default=False,
        description="Whether networks read observations relative to their running mean, in running standard deviations "
        "and at most 10 of them, and the environment's state likewise. Each utility has statistics of its own, of what "
        "its agents saw in training, in its file. Images and choices stay as they are.",
    )
    share_parameters: Annotated[bool, OnResume.FIXED] = Field(
        default=True,
        description="Whether the agents of a group share one utility network; false: each agent has its own.",
    )
    agent_indicator: Annotated[bool, OnResume.FIXED] = Field(
        default=True,
        description="Whether shared utilities also read which agent of the group they act for, as a one-hot vector.",
    )


class ValueDecompositionAlgorithm(ValueDecompositionHyperparameters, DiscreteTeamAlgorithm):
    """VDN and QMIX: cooperative Q-learning whose team value is mixed from a utility of each agent's own action.

    Actions are Discrete, and all agents act in every env step. The reward is the sum of the agents' rewards.
    """

    hyperparameters: ClassVar[type[Hyperparameters]] = ValueDecompositionHyperparameters


class VDNSettings(ValueDecompositionAlgorithm):
    """VDN: cooperative Q-learning whose team value is the sum of the agents' utilities.

    Actions are Discrete, and all agents act in every env step. The reward is the sum of the agents' rewards.
    """

    implementation: ClassVar[str] = "covey_server.algorithms.vdn:VDN"

    name: Literal["VDN"] = Field(description="Name of the algorithm.")


class QMIXSettings(ValueDecompositionAlgorithm):
    """QMIX: cooperative Q-learning whose team value is a monotonic network of the agents' utilities.

    The network's weights depend on the state (`environment.state`), or on what all agents observe. Actions are
    Discrete, and all agents act in every env step. The reward is the sum of the agents' rewards.
    """

    implementation: ClassVar[str] = "covey_server.algorithms.qmix:QMIX"

    name: Literal["QMIX"] = Field(description="Name of the algorithm.")
    mixing_units: Annotated[int, OnResume.FIXED] = Field(
        default=32, ge=1, le=1024, description="Units of the mixing network's hidden layer."
    )
