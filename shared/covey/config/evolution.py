"""Models of the sections `mutation:`, `selection_strategy:` and `evolution:`: how one population follows another."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from covey.config.network import Activation
from covey.config.section import OnResume, Section


class RLParameter(Section):
    """Range within which one hyperparameter evolves, and the factors by which a mutation changes it."""

    min: float = Field(description="Smallest value that mutations give the hyperparameter.")
    max: float = Field(description="Largest value that mutations give the hyperparameter.")
    grow_factor: float = Field(default=1.2, gt=1, description="Factor by which a mutation raises the hyperparameter.")
    shrink_factor: float = Field(
        default=0.8, gt=0, lt=1, description="Factor by which a mutation lowers the hyperparameter."
    )
    dtype: Literal["float", "int"] | None = Field(
        default=None,
        description="Type of the hyperparameter as AgileRL's manifests give it. null: not given. Either way, a "
        "hyperparameter whose configured value is an integer stays one, and others do not become one.",
    )

    @model_validator(mode="after")
    def _ordered(self) -> RLParameter:
        if self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}")
        return self


class Probabilities(Section):
    """Which mutation a child gets: one kind, drawn by these relative weights."""

    no_mut: float = Field(default=0.4, ge=0, description="Relative weight of no mutation.")
    arch_mut: float = Field(
        default=0.2,
        ge=0,
        description="Relative weight of an architecture mutation, which adds or removes units or layers.",
    )
    new_layer: float = Field(
        default=0.2,
        ge=0,
        le=1,
        description="Share of the architecture mutations that add or remove a layer; the others add or remove units.",
    )
    params_mut: float = Field(
        default=0.2, ge=0, description="Relative weight of a parameter mutation: noise on some weights of every policy."
    )
    act_mut: float = Field(
        default=0.0, ge=0, description="Relative weight of an activation mutation: another activation function."
    )
    rl_hp_mut: float = Field(
        default=0.2,
        ge=0,
        description="Relative weight of a hyperparameter mutation, which raises or lowers one of them.",
    )

    @model_validator(mode="after")
    def _some(self) -> Probabilities:
        if self.no_mut + self.arch_mut + self.params_mut + self.act_mut + self.rl_hp_mut <= 0:
            raise ValueError("all mutation kinds have weight 0, expected at least one above 0 (no_mut: 1 switches off)")
        return self


class Mutation(Section):
    """How children differ from their parents: each gets one mutation, or none."""

    probabilities: Probabilities = Field(default_factory=Probabilities)
    rl_hp_selection: dict[str, RLParameter] = Field(
        default_factory=dict,
        description="Hyperparameters that may mutate, each with its range. `{}`: learning rates, `batch_size` and "
        "`learn_step`, in ranges around their configured values.",
    )
    mutation_sd: float = Field(
        default=0.1,
        ge=0,
        description="Standard deviation of the noise of a parameter mutation, as a multiple of each weight's size.",
    )
    activation_selection: list[Activation] = Field(
        default=["ReLU", "ELU", "GELU"],
        min_length=1,
        description="Activation functions from which an activation mutation draws.",
    )
    mutate_elite: bool = Field(
        default=False,
        description="Whether the best member, which `selection_strategy.elitism` keeps, is mutated too.",
    )
    pre_training: Annotated[bool, OnResume.FIXED] = Field(
        default=True, description="Whether every member of the first population is mutated once before it trains."
    )


class Selection(Section):
    """Which members become the parents of the next ones."""

    strategy: Literal["tournament"] = Field(
        default="tournament",
        description="How each child's parent is chosen: `tournament`, the fittest of some members drawn at random.",
    )
    tournament_size: int = Field(
        default=2,
        ge=1,
        description="Members in each tournament. With `evolution.mode: steady_state` the member that has just been "
        "evaluated is one of them.",
    )
    elitism: bool = Field(
        default=True,
        description="Whether the fittest member lives on as it is. With `evolution.mode: steady_state`: whether a "
        "member that wins its own tournament does.",
    )


class Evolution(Section):
    """Whether members wait for each other before they are compared."""

    mode: Annotated[Literal["generational", "steady_state"], OnResume.FIXED] = Field(
        default="generational",
        description="When members are compared. `generational`: when all of them have made `training.evo_steps` and "
        "been evaluated; `steady_state`: each by itself as soon as it has been evaluated, by a tournament of its own, "
        "while the others go on.",
    )
