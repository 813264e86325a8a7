"""Model of the section `fitness:`, how returns become a member's fitness and who plays against it meanwhile."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from covey.config.section import Section

NAMED_OPPONENTS = ("random", "elite")
"""Opponents in evaluations that have a name; others are members, by id, or policies from elsewhere, by path."""


def is_path(opponent: int | str) -> bool:
    """Whether an opponent is named by a path: what has a slash in it is one."""
    return isinstance(opponent, str) and "/" in opponent


class Fitness(Section):
    """How the returns of evaluation episodes become the fitness of a member, by which members are selected."""

    agents: list[str] | None = Field(
        default=None,
        description="Ids of the agents whose returns count. null: all agents that no opponent plays.",
    )
    reduce: Literal["sum", "mean"] = Field(
        default="sum", description="How the returns of the agents that count become one number for an episode."
    )
    opponents: dict[str, int | str] | None = Field(
        default=None,
        description="Who plays an agent in evaluations, as agent id: `random`; `elite`, the fittest member of the "
        "generation before as it was then, or the evaluated member itself in the first generation; the id of a "
        "member of the first generation, which plays with its newest policy (after its death the best member of the "
        "generation before plays, or else the evaluated member itself); or a path with a slash in it: of another run "
        "(`runs/other`, its best policy; `runs/other:12`, its living member 12) or of a folder that `covey export` "
        "wrote, such as `./policies`. What it names is copied into the run as it begins. null: nobody, but where "
        "returns sum to zero each side is evaluated against `random` and against `elite`, so that fitnesses of "
        "different generations do not compare. `{}`: nobody. Training is not affected.",
    )
