"""The `algorithm:` section of MASAC."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from covey.config.algorithm import JointCriticAlgorithm, JointCriticHyperparameters
from covey.config.algorithm_settings import Hyperparameters
from covey.config.schedule import Schedulable
from covey.wire.limits import SQUASHED_SINCE


class MASACHyperparameters(JointCriticHyperparameters):
    """MASAC's hyperparameters: every member of a population has its own values, which evolution may change."""

    lr_actor: Schedulable = Field(
        default=0.001, gt=0, le=1, description="Learning rate of the policies, and of their temperatures (Adam)."
    )
    lr_critic: Schedulable = Field(default=0.001, gt=0, le=1, description="Learning rate of the critics (Adam).")
    batch_size: int = Field(
        default=256, ge=1, le=65536, description="Env steps in the batch of one update, drawn from replay."
    )


class MASACSettings(MASACHyperparameters, JointCriticAlgorithm):
    """MASAC: soft actor-critic with twin critics for each agent, which see what all agents see and do.

    Actions are floating-point Boxes, or a Dict or Tuple of these. Actors explore by sampling the policies; evaluation
    takes their means.
    """

    hyperparameters: ClassVar[type[Hyperparameters]] = MASACHyperparameters
    implementation: ClassVar[str] = "covey_server.algorithms.masac:MASAC"
    squashed_policies: ClassVar[bool] = True
    oldest_protocol_version: ClassVar[int] = SQUASHED_SINCE

    name: Literal["MASAC"] = Field(description="Name of the algorithm.")
    ent_coef: Literal["auto"] | Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        default="auto",
        description="Temperature: what a nat of a policy's entropy is worth, in units of the reward. `auto`: each "
        "policy's is learned, from 1, so that its entropy is `target_entropy`; a number: it stays that.",
    )
    target_entropy: Literal["auto"] | Annotated[float, Field(allow_inf_nan=False)] = Field(
        default="auto",
        description="Entropy to which learned temperatures lead a policy, in nats, with the action range mapped to "
        "[-1, 1]. `auto`: minus the numbers of its action. Left out where `ent_coef` is a number.",
    )

    @model_validator(mode="after")
    def _target_of_what_is_learned(self) -> MASACSettings:
        if self.ent_coef != "auto" and self.target_entropy != "auto":
            raise ValueError(
                f"target_entropy: {self.target_entropy:g}, expected it left out where ent_coef is a number "
                f"({self.ent_coef:g}), as nothing leads the policy's entropy there; leave one of both out"
            )
        return self
