"""The `algorithm:` sections of MADDPG, MATD3, IPPO and MAPPO."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from covey.config.algorithm_settings import AlgorithmSettings, Hyperparameters
from covey.config.schedule import Schedulable
from covey.config.section import OnResume
from covey.config.sections import Training
from covey.errors import ConfigError


class JointCriticHyperparameters(Hyperparameters):
    """Hyperparameters of actor-critic algorithms on replay: every member has its own values, which may evolve."""

    lr_actor: Schedulable = Field(default=0.001, gt=0, le=1, description="Learning rate of the policies (Adam).")
    lr_critic: Schedulable = Field(default=0.01, gt=0, le=1, description="Learning rate of the critics (Adam).")
    batch_size: int = Field(
        default=64, ge=1, le=65536, description="Env steps in the batch of one update, drawn from replay."
    )
    learn_step: int = Field(
        default=5, ge=1, description="A member is updated once for every `learn_step` env steps of its own."
    )
    gamma: float = Field(default=0.95, ge=0, le=1, description="Discount factor of rewards, per env step.")
    tau: float = Field(
        default=0.01,
        gt=0,
        le=1,
        description="Soft update of the target networks: they become `tau` x the current weights + (1 - `tau`) x their "
        "own.",
    )


class OffPolicyHyperparameters(JointCriticHyperparameters):
    """MADDPG's hyperparameters: every member of a population has its own values, which evolution may change."""

    expl_noise: float = Field(
        default=0.1,
        ge=0,
        description="How much members explore. Box actions: standard deviation (Gaussian noise) or volatility "
        "(Ornstein-Uhlenbeck), with the action range mapped to [-1, 1]; discrete ones: probability of drawing a "
        "choice uniformly, each choice by itself.",
    )


class MATD3Hyperparameters(OffPolicyHyperparameters):
    """MATD3's hyperparameters: every member of a population has its own values, which evolution may change."""

    policy_freq: int = Field(
        default=2,
        ge=1,
        description="Updates of the critics for each update of policies and target networks.",
    )


class JointCriticAlgorithm(AlgorithmSettings):
    """Settings of actor-critic algorithms on replay whose critics see what all agents see and do."""

    actor_loss: Literal["joint", "own"] = Field(
        default="joint",
        description="Actions that a critic sees when a policy is updated. `joint`: those of all agents' current "
        "policies; `own`: the other agents' are those of the batch.",
    )
    max_grad_norm_actor: float | None = Field(
        default=None, gt=0, description="Norm to which larger gradients of a policy are scaled down. null: never."
    )
    max_grad_norm_critic: float | None = Field(
        default=None, gt=0, description="Norm to which larger gradients of a critic are scaled down. null: never."
    )
    normalize_observations: Annotated[bool, OnResume.FIXED] = Field(
        default=False,
        description="Whether networks read observations relative to their running mean, in running standard deviations "
        "and at most 10 of them. Each policy has statistics of its own, of what its agents saw in training, in its "
        "file. Images and choices stay as they are.",
    )
    share_parameters: Annotated[bool, OnResume.FIXED] = Field(
        default=False,
        description="Whether the agents of a group share one policy and one critic; false: each agent has its own.",
    )
    agent_indicator: Annotated[bool, OnResume.FIXED] = Field(
        default=False,
        description="Whether shared policies also read which agent of the group they act for, as a one-hot vector.",
    )

    @model_validator(mode="before")
    @classmethod
    def _no_scaled_rewards(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and data.get("scale_rewards") is not None:
            raise ValueError(
                f"scale_rewards: expected it left out with {data.get('name')}, whose replay has no returns to scale "
                "by; scale rewards in the environment, or choose IPPO"
            )
        return data


class OffPolicyAlgorithm(OffPolicyHyperparameters, JointCriticAlgorithm):
    """MADDPG and MATD3: off-policy actor-critic algorithms whose critics see what all agents see and do.

    Actions are Box, Discrete, MultiDiscrete, MultiBinary, or a Dict or Tuple of these.
    """

    O_U_noise: bool = Field(
        default=True,
        description="Whether exploration noise on Box actions is an Ornstein-Uhlenbeck process; false: Gaussian noise.",
    )
    expl_noise_final: float | None = Field(
        default=None,
        ge=0,
        description="Value that `expl_noise` reaches, linearly, at `training.max_steps`. null: it stays as it is.",
    )
    mean_noise: float = Field(
        default=0.0, description="Mean of the exploration noise, with the action range mapped to [-1, 1]."
    )
    theta: float = Field(
        default=0.15, ge=0, description="Ornstein-Uhlenbeck noise: rate at which it returns to its mean."
    )
    dt: float = Field(
        default=0.01,
        gt=0,
        description="Ornstein-Uhlenbeck noise: time that passes in an env step; `theta` x `dt` may be at most 2.",
    )
    output_penalty: float = Field(
        default=0.0,
        ge=0,
        description="Weight, in a policy's loss, of the mean square of its outputs before they become actions; 0: "
        "none, as published. Where policies saturate, as they do with discrete actions or high learning rates, try "
        "0.001 to 0.01.",
    )

    @model_validator(mode="after")
    def _noise(self) -> OffPolicyAlgorithm:
        if self.theta * self.dt > 2:
            raise ValueError(
                f"theta x dt is {self.theta * self.dt:g}, expected at most 2: the noise would grow without end"
            )
        return self


class MADDPGSettings(OffPolicyAlgorithm):
    """MADDPG: one critic for each agent, which sees what all agents see and do.

    Actions are Box, Discrete, MultiDiscrete, MultiBinary, or a Dict or Tuple of these.
    """

    hyperparameters: ClassVar[type[Hyperparameters]] = OffPolicyHyperparameters
    implementation: ClassVar[str] = "covey_server.algorithms.maddpg:MADDPG"

    name: Literal["MADDPG"] = Field(description="Name of the algorithm.")


class MATD3Settings(MATD3Hyperparameters, OffPolicyAlgorithm):
    """MATD3: MADDPG with twin critics, delayed policies and target smoothing.

    Actions are Box, Discrete, MultiDiscrete, MultiBinary, or a Dict or Tuple of these.
    """

    hyperparameters: ClassVar[type[Hyperparameters]] = MATD3Hyperparameters
    implementation: ClassVar[str] = "covey_server.algorithms.matd3:MATD3"

    name: Literal["MATD3"] = Field(description="Name of the algorithm.")
    target_noise: float = Field(
        default=0.2,
        ge=0,
        description="Standard deviation of the noise on the target policies' actions, with the action "
        "range mapped to [-1, 1].",
    )
    target_noise_clip: float = Field(
        default=0.5, ge=0, description="Bound of the noise on the target policies' actions, either way."
    )


class OnPolicyHyperparameters(Hyperparameters):
    """IPPO's hyperparameters: every member of a population has its own values, which evolution may change."""

    lr: Schedulable = Field(
        default=1e-4, gt=0, le=1, description="Learning rate of policies and value networks (Adam)."
    )
    batch_size: int = Field(
        default=64,
        ge=1,
        le=1 << 20,
        description="Most decisions in a minibatch of a network, from all agents that share it.",
    )
    learn_step: int = Field(
        default=4096,
        ge=1,
        description="Env steps of a rollout, which a member plays with one policy and then learns from.",
    )
    gamma: float = Field(default=0.99, ge=0, le=1, description="Discount factor of rewards, per env step.")
    gae_lambda: float = Field(
        default=0.95,
        ge=0,
        le=1,
        description="Lambda of generalised advantage estimation: with 0, advantages rest on the value of the next "
        "decision, with 1 on all later rewards of the rollout.",
    )
    clip_coef: Schedulable = Field(
        default=0.2,
        gt=0,
        description="PPO's clip range: how far the probability ratio of a decision may move from 1, and a value from "
        "what it was, before the loss is clipped.",
    )
    ent_coef: Schedulable = Field(default=0.01, ge=0, description="Weight of the policy's entropy in its loss.")
    vf_coef: float = Field(default=0.5, gt=0, description="Weight of the value networks' loss.")
    max_grad_norm: float | None = Field(
        default=0.5, gt=0, description="Norm to which larger gradients of a network are scaled down. null: never."
    )
    update_epochs: int = Field(default=4, ge=1, le=1000, description="Passes over each rollout.")


class OnPolicyAlgorithm(OnPolicyHyperparameters, AlgorithmSettings):
    """What PPO's `algorithm:` sections have in common: a policy and a value network for each agent or group."""

    hyperparameters: ClassVar[type[Hyperparameters]] = OnPolicyHyperparameters
    stochastic_policies: ClassVar[bool] = True
    recurrent_policies: ClassVar[bool] = True
    training_function: ClassVar[str] = "train_multi_agent_on_policy"
    learns_from: ClassVar[Literal["replay", "rounds"]] = "rounds"

    target_kl: float | None = Field(
        default=None,
        gt=0,
        description="Largest KL divergence from the policy that played the rollout: a policy that has moved further "
        "learns no more from it. null: no limit.",
    )
    action_std_init: Annotated[float, OnResume.FIXED] = Field(
        default=0.6,
        ge=-20,
        le=10,
        description="Logarithm of the initial standard deviation of Box actions, with the action range mapped to "
        "[-1, 1].",
    )
    output_gain: Annotated[float, OnResume.FIXED] = Field(
        default=1.0,
        gt=0,
        le=10,
        description="Factor on the initial weights of a policy's last layer; a small one makes first choices nearly "
        "uniform.",
    )
    clip_values: bool = Field(
        default=True,
        description="Whether the loss of values is clipped by `clip_coef` too; false: it is half the squared error.",
    )
    huber_delta: float | None = Field(
        default=None,
        gt=0,
        description="Error of a value from which on its loss grows with the error instead of its square (Huber). "
        "null: nowhere.",
    )
    normalize_values: Annotated[bool, OnResume.FIXED] = Field(
        default=False,
        description="Whether value networks predict returns in units of the returns' running mean and deviation.",
    )
    bptt_steps: int = Field(
        default=16,
        ge=1,
        le=1024,
        description="Decisions of an agent through which gradients flow back in policies with memory: trajectories are "
        "cut into sequences of so many, and a minibatch is whole sequences, at least one.",
    )
    normalize_observations: Annotated[bool, OnResume.FIXED] = Field(
        default=False,
        description="Whether networks read observations relative to their running mean, in running standard deviations "
        "and at most 10 of them. Each policy has statistics of its own, of what its agents saw in training, in its "
        "file. Images and choices stay as they are.",
    )
    scale_rewards: Annotated[bool, OnResume.FIXED] = Field(
        default=False,
        description="Whether rewards are divided, before they are learned from, by the running standard deviation of "
        "discounted returns. Reported returns stay in the environment's units.",
    )
    share_parameters: Annotated[bool, OnResume.FIXED] = Field(
        default=True,
        description="Whether the agents of a group share one policy and one value network; false: each agent has its "
        "own.",
    )
    agent_indicator: Annotated[bool, OnResume.FIXED] = Field(
        default=False,
        description="Whether shared networks also read which agent of the group they act for, as a one-hot vector.",
    )

    def check_training(self, training: Training) -> None:
        """Refuse training settings that do not fit: rounds are played by the member's own policies alone."""
        if training.random_steps:
            raise ConfigError(
                f"training.random_steps: {training.random_steps}, expected 0 with {self.name}, which learns from "
                "nothing but what its own policy played"
            )


class IPPOSettings(OnPolicyAlgorithm):
    """IPPO: PPO with a policy and a value network for each agent or group, which see nothing of other agents.

    Actions are Box, Discrete, MultiDiscrete, MultiBinary, or a Dict or Tuple of these.
    """

    implementation: ClassVar[str] = "covey_server.algorithms.ippo:IPPO"

    name: Literal["IPPO"] = Field(description="Name of the algorithm.")


class MAPPOSettings(OnPolicyAlgorithm):
    """MAPPO: IPPO whose value networks see the state (`environment.state`), or what all agents see.

    Actions are Box, Discrete, MultiDiscrete, MultiBinary, or a Dict or Tuple of these.
    """

    implementation: ClassVar[str] = "covey_server.algorithms.mappo:MAPPO"

    name: Literal["MAPPO"] = Field(description="Name of the algorithm.")
    normalize_values: Annotated[bool, OnResume.FIXED] = Field(
        default=True,
        description="Whether value networks predict returns in units of the returns' running mean and deviation.",
    )
    sequential: bool = Field(
        default=False,
        description="Whether agents learn one after another in random order, each weighing decisions by what those "
        "before it have changed (HAPPO); agents that share a network learn together.",
    )
