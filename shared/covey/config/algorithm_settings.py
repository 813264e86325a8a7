"""What an algorithm says of itself without torch: the base of every `algorithm:` section.

A plug-in derives its settings from `AlgorithmSettings` and names the class by an entry point in the group
`covey.algorithms`, under the name that `algorithm.name` has in a configuration. Actors and query commands know no more
of an algorithm than this; the learner alone imports `implementation`.
"""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from covey.config.section import Section
from covey.config.sections import Training


class AlgorithmSettings(Section):
    """Base of an algorithm's configuration section.

    A subclass adds its keys, and `name: Literal["..."]` with the entry point's name. Every member has values of its own
    for `learn_step` and `batch_size`, and for what else `evolvable` names.

    Attributes:
        implementation: "module:Class" of the `covey_server.algorithms.Algorithm`; only the learner imports it.
        stochastic_policies: Whether policies are distributions that actors sample from. Then Box actions are stored as
            they were sampled, before they are clipped to their bounds.
        training_function: The function of the library that trains it.
    """

    implementation: ClassVar[str]
    stochastic_policies: ClassVar[bool] = False
    training_function: ClassVar[str] = "train_multi_agent_off_policy"

    # In subclasses `Literal["..."]`, which is no `str` to type checkers, as they take fields for writable.
    name: Any = Field(description="Name of the algorithm.")
    batch_size: int = Field(default=64, ge=1, le=1 << 20, description="Samples in the batch of one update.")
    learn_step: int = Field(default=5, ge=1, description="Env steps of a member's own for which it is updated once.")
    share_parameters: bool = Field(
        default=False, description="Whether the agents of a group share their networks; false: each agent has its own."
    )
    agent_indicator: bool = Field(
        default=False,
        description="Whether shared policies also read which agent of the group they act for, as a one-hot vector.",
    )

    @property
    def evolvable(self) -> tuple[str, ...]:
        """Names of the hyperparameters that a member has a value of its own for."""
        return ("batch_size", "learn_step")

    def initial_hyperparameters(self) -> dict[str, float | int]:
        """The evolvable values as configured: those of a fresh member."""
        return {name: getattr(self, name) for name in self.evolvable}

    def check_training(self, training: Training) -> None:
        """Hold the `training:` section against the algorithm.

        Raises:
            ConfigError: something that the algorithm cannot do.
        """
