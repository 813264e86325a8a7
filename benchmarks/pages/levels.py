"""What policies score that were not learned: the lines that docs/results.md is read against."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from covey.experiments.levels import read_levels, task_of


@dataclass(frozen=True)
class Level:
    """What a policy that was not learned scores.

    Attributes:
        name: Of the line in plots.
        score: Mean return of an episode.
        stderr: Its standard error; 0: exact.
        how: The policy.
    """

    name: str
    score: float
    stderr: float
    how: str


@dataclass(frozen=True)
class Task:
    """An environment with one kind of action.

    Attributes:
        title: For readers.
        unit: What a score is.
        source: Where the levels come from.
        levels: From worst to best; the first is random play, the last the bound.
    """

    title: str
    unit: str
    source: str
    levels: tuple[Level, ...]


SOURCE = "Computed with scripted controllers in mpe2 1.1.1 with its default arguments (25 steps an episode)."


def _task(environment: str, config: dict[str, Any]) -> Task:
    """A task of which `covey table` knows the levels."""
    found = task_of(read_levels(), environment, config)
    assert found is not None, environment
    return Task(
        found.title, found.unit, SOURCE, tuple(Level(x.name, x.score, x.stderr or 0.0, x.how) for x in found.levels)
    )


TASKS: dict[tuple[str, bool], Task] = {
    ("mpe2.simple_speaker_listener_v4", True): _task("mpe2.simple_speaker_listener_v4", {"continuous_actions": True}),
    ("mpe2.simple_spread_v3", False): _task("mpe2.simple_spread_v3", {}),
    ("pettingzoo.classic.tictactoe_v3", False): Task(
        "tictactoe_v3",
        "wins less losses as player_2, against random moves",
        "Exact: all games counted.",
        (
            Level("random", -0.297, 0.0, "random against random: player_1 loses 28.8%, player_2 58.5%"),
            Level("never loses", 0.916, 0.0, "the surest of what never loses, as player_2"),
            Level("bound", 0.925, 0.0, "the best answer to random moves, as player_2: it loses 0.7%"),
        ),
    ),
}
"""By the environment's name and whether its actions are continuous."""
