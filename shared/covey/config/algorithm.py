"""The `algorithm:` sections of MADDPG, MATD3 and IPPO."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from covey.config.algorithm_settings import AlgorithmSettings
from covey.config.sections import Training
from covey.errors import ConfigError


class OffPolicyAlgorithm(AlgorithmSettings):
    """What MADDPG and MATD3 have in common: deterministic policies that learn from replay."""

    lr_actor: float = Field(default=0.001, gt=0, le=1)
    lr_critic: float = Field(default=0.01, gt=0, le=1)
    batch_size: int = Field(default=64, ge=1, le=65536)
    learn_step: int = Field(default=5, ge=1)
    gamma: float = Field(default=0.95, ge=0, le=1)
    tau: float = Field(default=0.01, gt=0, le=1)
    policy_freq: int = Field(default=2, ge=1)  # MATD3: critic updates per policy update
    O_U_noise: bool = True
    expl_noise: float = Field(default=0.1, ge=0)
    expl_noise_final: float | None = Field(default=None, ge=0)  # reached linearly at max_steps; unset: constant
    mean_noise: float = 0.0
    theta: float = Field(default=0.15, ge=0)
    dt: float = Field(default=0.01, gt=0)
    actor_loss: Literal["joint", "own"] = "joint"
    target_noise: float = Field(default=0.2, ge=0)  # MATD3: target-policy smoothing
    target_noise_clip: float = Field(default=0.5, ge=0)
    output_penalty: float = Field(default=0.0, ge=0)  # on squared outputs, in the policy loss
    max_grad_norm_actor: float | None = Field(default=None, gt=0)
    max_grad_norm_critic: float | None = Field(default=None, gt=0)
    share_parameters: bool = False  # one policy and critic per group of agents
    agent_indicator: bool = False  # shared policies read who in the group they play

    @model_validator(mode="after")
    def _noise(self) -> OffPolicyAlgorithm:
        if self.theta * self.dt > 2:
            raise ValueError(
                f"theta x dt is {self.theta * self.dt:g}, expected at most 2: the noise would grow without end"
            )
        return self

    @property
    def evolvable(self) -> tuple[str, ...]:
        """As `AlgorithmSettings.evolvable`."""
        return ("lr_actor", "lr_critic", "batch_size", "learn_step", "gamma", "tau", "expl_noise")


class MADDPGSettings(OffPolicyAlgorithm):
    """MADDPG: one critic per agent."""

    implementation: ClassVar[str] = "covey_server.algorithms.maddpg:MADDPG"

    name: Literal["MADDPG"]


class MATD3Settings(OffPolicyAlgorithm):
    """MATD3: twin critics, smoothed targets, delayed policies."""

    implementation: ClassVar[str] = "covey_server.algorithms.matd3:MATD3"

    name: Literal["MATD3"]

    @property
    def evolvable(self) -> tuple[str, ...]:
        """As `AlgorithmSettings.evolvable`."""
        return ("lr_actor", "lr_critic", "batch_size", "learn_step", "gamma", "tau", "policy_freq", "expl_noise")


class OnPolicyAlgorithm(AlgorithmSettings):
    """IPPO: stochastic policies that learn from rounds played by their newest weights."""

    implementation: ClassVar[str] = "covey_server.algorithms.ippo:IPPO"
    stochastic_policies: ClassVar[bool] = True
    training_function: ClassVar[str] = "train_multi_agent_on_policy"

    name: Literal["IPPO"]
    lr: float = Field(default=1e-4, gt=0, le=1)
    batch_size: int = Field(default=64, ge=1, le=1 << 20)  # decisions in a minibatch of a network
    learn_step: int = Field(default=4096, ge=1)  # env steps of a rollout
    gamma: float = Field(default=0.99, ge=0, le=1)
    gae_lambda: float = Field(default=0.95, ge=0, le=1)
    clip_coef: float = Field(default=0.2, gt=0)
    ent_coef: float = Field(default=0.01, ge=0)
    vf_coef: float = Field(default=0.5, gt=0)
    max_grad_norm: float | None = Field(default=0.5, gt=0)
    target_kl: float | None = Field(default=None, gt=0)
    update_epochs: int = Field(default=4, ge=1, le=1000)
    action_std_init: float = Field(default=0.6, ge=-20, le=10)  # logarithm, action range mapped to [-1, 1]
    output_gain: float = Field(default=1.0, gt=0, le=10)  # of a policy's last layer, at the start
    normalize_values: bool = False  # critics predict returns in units of their running mean and deviation
    share_parameters: bool = True
    agent_indicator: bool = False

    @property
    def evolvable(self) -> tuple[str, ...]:
        """As `AlgorithmSettings.evolvable`."""
        return (
            *("lr", "batch_size", "learn_step", "gamma", "gae_lambda", "clip_coef", "ent_coef", "vf_coef"),
            *(("max_grad_norm",) if self.max_grad_norm is not None else ()),
            "update_epochs",
        )

    def check_training(self, training: Training) -> None:
        """As `AlgorithmSettings.check_training`: rounds are played by the member's own policies alone."""
        if training.random_steps:
            raise ConfigError(
                f"training.random_steps: {training.random_steps}, expected 0 with {self.name}, which learns from "
                "nothing but what its own policy played"
            )
