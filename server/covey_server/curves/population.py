"""Curves of a population: what evaluations found, and what evolution made of it.

Members come and go, so curves are named by places in the population: a few names, however long a run is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Sequence

import numpy as np

from covey_server.evolution.fitness import Score
from covey_server.member import LineageEntry, Member


def evaluation(place: int, score: Score) -> dict[str, float]:
    """Curves of one member's evaluation."""
    return {f"place_{place}/fitness": score.fitness, f"place_{place}/fitness_stderr": score.stderr}


def comparison(fitnesses: Iterable[float], best: float) -> dict[str, float]:
    """Curves of members that are compared: the best of them, and how they are spread."""
    finite = [fitness for fitness in fitnesses if np.isfinite(fitness)]
    if not finite:
        return {}
    spread = {"mean": np.mean(finite), "min": np.min(finite), "std": np.std(finite)}
    return {"fitness/best": best} | {f"fitness/{name}": float(value) for name, value in spread.items()}


def score_of(curve: str, score: Score) -> dict[str, float]:
    """A curve of one score, such as "fitness/confirmed", with its standard error and what lies behind it."""
    values = {curve: score.fitness, f"{curve}/stderr": score.stderr}
    values |= {f"{curve}/{agent}": mean for agent, mean in score.per_agent.items()}
    return values | {f"{curve}/against/{who}": mean for who, mean in score.against.items()}


def gains(born: Sequence[LineageEntry]) -> dict[str, float]:
    """What mutations gained: fitness of children less that of their unchanged parents in the same evaluation, mean.

    Args:
        born: Records of the members that began the generation that was just compared.
    """
    by_kind: dict[str, list[float]] = {}
    for entry in born:
        if entry.first_fitness is not None and entry.parent_fitness is not None:
            by_kind.setdefault(entry.mutation, []).append(entry.first_fitness - entry.parent_fitness)
    return {f"evolution/gain/{kind}": float(np.mean(found)) for kind, found in by_kind.items()}


def births(born: Iterable[Member]) -> dict[str, float]:
    """How many members a selection made, by the kind of their mutation."""
    return {f"evolution/born/{kind}": float(n) for kind, n in Counter(m.mutation for m in born).items()}


def settings(place: int, member: Member, evolving: Container[str]) -> dict[str, float]:
    """A member's hyperparameters, those that are `evolving`, and the sizes of its networks by role, in parameters."""
    numbers = {name: value for name, value in member.hyperparameters.numbers().items() if name in evolving}
    sizes: Counter[str] = Counter()
    for key, network in member.networks.items():
        sizes[key.partition("/")[0]] += network.spec.numbers
    return {f"hp/{name}/place_{place}": float(value) for name, value in numbers.items()} | {
        f"size/{role}/place_{place}": float(count) for role, count in sizes.items()
    }
