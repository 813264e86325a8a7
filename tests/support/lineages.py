"""Members of lineages as `covey lineage --json` prints them."""

from __future__ import annotations

from typing import Any


def member(
    member_id: int,
    parent_id: int | None = None,
    generation: int = 0,
    mutation: str = "initial",
    change: str = "",
    first: float | None = None,
    parent: float | None = None,
    **others: Any,
) -> dict[str, Any]:
    """A dead member as `covey lineage --json` prints it, whose newest fitness is its first one unless given."""
    return {
        "member_id": member_id,
        "parent_id": parent_id,
        "generation": generation,
        "mutation": mutation,
        "change": change,
        "fitness": first,
        "first_fitness": first,
        "parent_fitness": parent,
        "died_generation": generation + 1,
    } | others
