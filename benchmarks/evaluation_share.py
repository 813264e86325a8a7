"""What halved evaluations cost, and how good the choice is that they make: simulated, with the code that halves.

    python benchmarks/evaluation_share.py [--runs 2000]

A member's return in an episode is its own value, plus what the episode's seed is worth to everybody, plus noise of its
own. The three standard deviations are those of `examples/speaker_listener.yaml` with members of 2,000 env steps each
("apart") and, of 32 members, of 6,000 ("close"), from 400 episodes of each. Members are evaluated after 2,000 env steps
in three ways: halved, in full, and by equally many episodes of every member, of as many in all as the halved one. A
generation plays 32 episodes, the last one 100, and 100 fresh ones of its best member.

Prints a line of JSON for each case, size of the population and number of episodes: the share of all env steps that the
evaluation takes; `below_best`, by how much the chosen member is worse than the best one, in standard errors of 100
episodes (mean over the runs, and the 95th percentile); `within_1`, the share of runs in which the chosen one is within
a standard error of the one that an evaluation in full chooses, in the same fresh episodes; `too_high`, the mean excess
of the score in these over the true one, in standard errors; and `parents`, by how much worse the parents are which
tournaments of two draw than if these knew the true values, in standard deviations of the values.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covey.config import Fitness
from covey_server.evolution.fitness import Score, fitness_of
from covey_server.evolution.halving import Halving
from covey_server.evolution.tournament import worst_to_best

GENERATION, LAST, CONFIRM = 32, 100, 100
"""Most episodes of a member in a generation and in the last one, and fresh ones of the best member of that."""

LENGTH, EVO_STEPS = 25, 2000
"""Env steps of an episode, and of a member in a generation."""


@dataclass(frozen=True)
class Case:
    """Standard deviations of a return: between members, between seeds, and what is left."""

    members: float
    seeds: float
    rest: float


CASES = {"apart": Case(66.0, 66.0, 59.0), "close": Case(12.0, 52.0, 29.0)}
SIZES = (4, 8, 32)


def score(member: int, returns: Sequence[Sequence[float]]) -> Score:
    """The mean of a single agent's returns."""
    del member
    return fitness_of(returns, ("agent",), Fitness())


def halved(table: NDArray[np.float64]) -> tuple[list[float], int]:
    """Each member's fitness, and how many episodes were played of this (members, seeds) table of returns."""
    members = len(table)
    halving = Halving(range(members), table.shape[1], members * EVO_STEPS, score)
    part: range | None = range(halving.played)
    count = 0
    while part is not None:
        count += len(part) * len(halving.playing)
        for member in halving.playing:
            halving.enter(member, {k: [float(table[member, k])] for k in part}, LENGTH * len(part))
        part = halving.advance()
    scores = halving.scores()
    return [scores[m].fitness for m in range(members)], count


def parents(fitness: Sequence[float], values: NDArray[np.float64]) -> float:
    """Expected true value of the winner of a tournament of two."""
    size = len(values)
    rank = np.arange(size)
    return float(((2 * rank + 1) / size**2) @ values[worst_to_best(list(fitness))])


def simulate(size: int, case: Case, episodes: int, runs: int) -> dict[str, object]:
    """So many generations of a population of this size."""
    rng = np.random.default_rng(size)
    stderr = math.hypot(case.seeds, case.rest) / math.sqrt(CONFIRM)
    ways = ("halved", "full", "equally_many")
    below: dict[str, list[float]] = {way: [] for way in ways}
    lost: dict[str, list[float]] = {way: [] for way in ways}
    apart, excess, played = [], [], []
    for _ in range(runs):
        values = rng.normal(0.0, case.members, size)
        table = values[:, None] + rng.normal(0.0, case.seeds, episodes) + rng.normal(0.0, case.rest, (size, episodes))
        fitness, count = halved(table)
        by_way = {
            "halved": fitness,
            "full": table.mean(1).tolist(),
            "equally_many": table[:, : max(1, round(count / size))].mean(1).tolist(),
        }
        fresh = rng.normal(0.0, case.seeds, CONFIRM) + rng.normal(0.0, case.rest, (size, CONFIRM))
        confirmed = {}
        for way, found in by_way.items():
            chosen = int(np.argmax(found))
            below[way].append((values.max() - values[chosen]) / stderr)
            lost[way].append((parents(values.tolist(), values) - parents(found, values)) / case.members)
            confirmed[way] = float(values[chosen] + fresh[chosen].mean())
            if way == "halved":
                excess.append((confirmed[way] - values[chosen]) / stderr)
        apart.append(abs(confirmed["halved"] - confirmed["full"]) / stderr)
        played.append(count)
    trained, fresh_episodes = size * EVO_STEPS, CONFIRM if episodes == LAST else 0
    counts = {"halved": round(float(np.mean(played))), "full": size * episodes}
    steps = {way: LENGTH * (count + fresh_episodes) for way, count in counts.items()}
    return {
        "members": size,
        "most_episodes": episodes,
        "episodes": counts,
        "share": {way: round(n / (trained + n), 3) for way, n in steps.items()},
        "below_best": {way: [rounded(np.mean(b)), rounded(np.quantile(b, 0.95))] for way, b in below.items()},
        "within_1": rounded(np.mean(np.array(apart) <= 1.0)),
        "too_high": rounded(np.mean(excess)),
        "parents": {way: rounded(np.mean(values)) for way, values in lost.items()},
    }


def rounded(value: np.floating[Any]) -> float:
    """Round a figure to three decimals, which is what a simulation of a few hundred runs can tell."""
    return round(float(value), 3)


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2000)
    args = parser.parse_args()
    for name, case in CASES.items():
        for size in SIZES:
            for episodes in (GENERATION, LAST):
                line = {"benchmark": "evaluation_share", "case": name, **simulate(size, case, episodes, args.runs)}
                print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
