"""Models of the sections `mutation:`, `selection_strategy:` and `evolution:`: how one population follows another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from covey.config.network import Activation
from covey.config.section import OnResume, Section
from covey.errors import ConfigError


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

    @field_validator("dtype", mode="before")
    @classmethod
    def _type_name(cls, dtype: Any) -> Any:
        return dtype.__name__ if dtype in (float, int) else dtype

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
    draw_initial_rl_hp: Annotated[bool, OnResume.FIXED] = Field(
        default=False,
        description="Whether members of the first population begin with hyperparameters of their own, each drawn from "
        "its range in `rl_hp_selection` (log-uniformly, if `min` is above 0), instead of the configured ones.",
    )


@dataclass(frozen=True, slots=True)
class Brackets:
    """How multi-frequency selection divides a population.

    Attributes:
        size: Members of a sub-population.
        ratios: For each sub-population, in every how many generations it is compared.
        winners, survivors, open_for_migration, losers: How many members of a sub-population are in each bracket.
    """

    size: int
    ratios: tuple[int, ...]
    winners: int
    survivors: int
    open_for_migration: int
    losers: int


class Selection(Section):
    """Which members become the parents of the next ones."""

    strategy: Literal["tournament", "multi_frequency"] = Field(
        default="tournament",
        description="How parents are chosen: `tournament`, the fittest of some members drawn at random; "
        "`multi_frequency`, by sub-populations that are compared at different rates (MF-PBT).",
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
    n_subpopulations: int | None = Field(
        default=None,
        ge=2,
        description="Sub-populations of `multi_frequency`: `training.pop_size` is divided among them, at least three "
        "members each. null: 2.",
    )
    evolution_frequency_ratios: list[Annotated[int, Field(ge=1)]] | None = Field(
        default=None,
        description="For each sub-population, in every how many generations it is compared; rising. null: 1, 5, 10 "
        "and so on.",
    )
    n_winners: int | None = Field(
        default=None,
        ge=1,
        description="Best members of a sub-population, which stay and have children. null: a quarter of it.",
    )
    n_survivors: int | None = Field(
        default=None, ge=0, description="Members after them, which stay without children. null: 0."
    )
    n_open_for_migration: int | None = Field(
        default=None,
        ge=0,
        description="Members after them, which give way to better ones of other sub-populations. null: a quarter.",
    )
    n_losers: int | None = Field(
        default=None,
        ge=1,
        description="Worst members of a sub-population, which give way to mutated children. null: the rest.",
    )

    @model_validator(mode="after")
    def _of_one_strategy(self) -> Selection:
        if self.strategy == "tournament":
            given = [key for key in _FREQUENCY_KEYS if getattr(self, key) is not None]
        else:
            fields = type(self).model_fields
            given = [k for k in ("tournament_size", "elitism") if getattr(self, k) != fields[k].default]
        if given:
            other = "multi_frequency" if self.strategy == "tournament" else "tournament"
            raise ValueError(
                f"strategy {self.strategy!r} beside {', '.join(given)}, which belong to {other!r}; leave them out, or "
                "choose that strategy"
            )
        return self

    def brackets(self, members: int) -> Brackets:
        """Divide a population of so many members for multi-frequency selection.

        Raises:
            ConfigError: it cannot be divided so.
        """
        count = self.n_subpopulations or 2
        size = members // count
        where = f"selection_strategy: {count} sub-populations of training.pop_size {members}"
        if members % count or size < 3:
            raise ConfigError(f"{where}, expected equal ones of at least three members; choose another pop_size")
        ratios = self.evolution_frequency_ratios or [1, *range(5, 5 * count, 5)]
        if len(ratios) != count or sorted(set(ratios)) != ratios:
            raise ConfigError(
                f"selection_strategy.evolution_frequency_ratios: {ratios}, expected {count} rising numbers, one for "
                "each sub-population"
            )
        winners = self.n_winners or max(1, size // 4)
        survivors = self.n_survivors or 0
        migrants = size // 4 if self.n_open_for_migration is None else self.n_open_for_migration
        losers = size - winners - survivors - migrants
        if losers < 1 or self.n_losers not in (None, losers):
            raise ConfigError(
                f"selection_strategy: {winners} winners, {survivors} survivors, {migrants} open for migration and "
                f"{losers if self.n_losers is None else self.n_losers} losers, expected {size} together, the members "
                "of a sub-population, with at least one loser"
            )
        return Brackets(size, tuple(ratios), winners, survivors, migrants, losers)


_FREQUENCY_KEYS = (
    *("n_subpopulations", "evolution_frequency_ratios"),
    *("n_winners", "n_survivors", "n_open_for_migration", "n_losers"),
)


class Evolution(Section):
    """Whether members wait for each other before they are compared."""

    mode: Annotated[Literal["generational", "steady_state"], OnResume.FIXED] = Field(
        default="generational",
        description="When members are compared. `generational`: when all of them have made `training.evo_steps` and "
        "been evaluated; `steady_state`: each by itself as soon as it has been evaluated, by a tournament of its own, "
        "while the others go on.",
    )
