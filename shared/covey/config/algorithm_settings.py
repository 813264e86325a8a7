"""What an algorithm says of itself without torch: the base of every `algorithm:` section.

A plug-in derives its settings from `AlgorithmSettings` and names the class by an entry point in the group
`covey.algorithms`, under the name that `algorithm.name` has in a configuration. Actors and query commands know no more
of an algorithm than this; the learner alone imports `implementation`.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field

from covey.config.schedule import Scheduled
from covey.config.section import OnResume, Section
from covey.config.sections import Training
from covey.wire.limits import OLDEST_PROTOCOL_VERSION


def _plain(value: Any) -> Any:
    return float(value) if isinstance(value, Scheduled) else value


class Hyperparameters(Section):
    """The settings of which every member of a population has values of its own, which evolution may change.

    An algorithm derives a record of its own from this one. All values are numbers, or None for a limit that is off.
    """

    batch_size: int = Field(default=64, ge=1, le=1 << 20, description="Samples in the batch of one update.")
    learn_step: int = Field(default=5, ge=1, description="Env steps of a member's own for which it is updated once.")

    def numbers(self) -> dict[str, float | int]:
        """The values by name, without limits that are off: those never change."""
        return {name: getattr(self, name) for name in type(self).model_fields if getattr(self, name) is not None}

    def changed(self, **values: float | int | None) -> Self:
        """Copy the record with other values for some of its fields.

        Raises:
            pydantic.ValidationError: no such field, or not a value that it may have.
        """
        return type(self).model_validate({**self.model_dump(), **values})


class AlgorithmSettings(Hyperparameters):
    """Base of an algorithm's configuration section.

    A subclass adds its keys, and `name: Literal["..."]` with the entry point's name. It derives from the algorithm's
    record of hyperparameters too, whose values here are those of a fresh member.

    Attributes:
        hyperparameters: The record of what each member has values of its own for.
        implementation: "module:Class" of the `covey_server.algorithms.Algorithm`; only the learner imports it.
        stochastic_policies: Whether policies are distributions that actors sample from. Then Box actions are stored as
            they were sampled, before they are clipped to their bounds.
        squashed_policies: Whether policies of Box actions are Gaussians squashed to the bounds by tanh, whose outputs
            are means and, behind them, log standard deviations.
        recurrent_policies: Whether policies may have memory, `network.encoder_config.recurrent`.
        training_function: The function of the library that trains it.
        learns_from: What takes most memory besides networks: `replay`, of `replay_buffer`, or `rounds`, of `learn_step`
            env steps a member.
        team_reward: Whether all agents are one team, which learns the sum of their rewards.
        oldest_protocol_version: Actors that speak an older version of the protocol are refused, as they do not know
            what the algorithm asks of them.
    """

    hyperparameters: ClassVar[type[Hyperparameters]] = Hyperparameters
    implementation: ClassVar[str]
    stochastic_policies: ClassVar[bool] = False
    squashed_policies: ClassVar[bool] = False
    recurrent_policies: ClassVar[bool] = False
    training_function: ClassVar[str] = "train_multi_agent_off_policy"
    learns_from: ClassVar[Literal["replay", "rounds"]] = "replay"
    team_reward: ClassVar[bool] = False
    oldest_protocol_version: ClassVar[int] = OLDEST_PROTOCOL_VERSION

    # In subclasses `Literal["..."]`, which is no `str` to type checkers, as they take fields for writable.
    name: Any = Field(description="Name of the algorithm.")
    share_parameters: Annotated[bool, OnResume.FIXED] = Field(
        default=False, description="Whether the agents of a group share their networks; false: each agent has its own."
    )
    agent_indicator: Annotated[bool, OnResume.FIXED] = Field(
        default=False,
        description="Whether shared policies also read which agent of the group they act for, as a one-hot vector.",
    )
    orthogonal_init: Annotated[bool, OnResume.FIXED] = Field(
        default=False,
        description="Whether weights start as orthogonal matrices, times the square root of 2 in all layers but the "
        "last, and biases as 0. false: uniform in +-1 / sqrt(inputs), as PyTorch's layers start.",
    )

    @property
    def evolvable(self) -> tuple[str, ...]:
        """Names of the hyperparameters that a member has a value of its own for."""
        return tuple(self.initial_hyperparameters().numbers())

    @property
    def policy_head(self) -> str:
        """How policies' outputs become actions, as `covey.wire.policy_file.PolicySpec.head` says it."""
        if self.squashed_policies:
            return "squashed"
        return "stochastic" if self.stochastic_policies else "deterministic"

    def initial_hyperparameters(self) -> Hyperparameters:
        """The record of a fresh member: the values that are configured."""
        return self.hyperparameters.model_validate(
            {name: _plain(getattr(self, name)) for name in self.hyperparameters.model_fields}
        )

    def shares(self, progress: float) -> dict[str, float]:
        """By what members' own values of scheduled hyperparameters are multiplied when a share of the run is done.

        Args:
            progress: The share, 0 to 1: a member's env steps of `training.max_steps`.

        Returns:
            Factors by name; empty where nothing is scheduled.
        """
        values = ((name, getattr(self, name)) for name in self.hyperparameters.model_fields)
        return {name: value.share(progress) for name, value in values if isinstance(value, Scheduled)}

    def check_training(self, training: Training) -> None:
        """Hold the `training:` section against the algorithm.

        Raises:
            ConfigError: something that the algorithm cannot do.
        """
