"""What policies score that were not learned: the lines that docs/results.md is read against."""

from __future__ import annotations

from dataclasses import dataclass


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

TASKS: dict[tuple[str, bool], Task] = {
    ("mpe2.simple_speaker_listener_v4", True): Task(
        "simple_speaker_listener_v4, continuous actions",
        "return of an episode, sum of both agents",
        SOURCE,
        (
            Level("random", -73.0, 1.0, "random actions"),
            Level("no-op", -67.2, 0.9, "no agent does anything"),
            Level("no communication", -29.3, 0.3, "the listener goes to the centroid of the landmarks"),
            Level("scripted", -12.2, 0.2, "the listener knows the goal after its first step and is steered there"),
            Level("bound", -11.8, 0.2, "the best that any controller can do after that first step"),
        ),
    ),
    ("mpe2.simple_spread_v3", False): Task(
        "simple_spread_v3, discrete actions",
        "return of an episode, sum of three agents",
        SOURCE,
        (
            Level("random", -79.8, 0.5, "random actions"),
            Level("no-op", -73.0, 0.5, "no agent does anything"),
            Level("scripted", -27.5, 0.2, "each agent is told its landmark and steered there"),
            Level("planned", -22.5, 0.5, "a search through the environment's own dynamics, landmarks assigned anew"),
        ),
    ),
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
