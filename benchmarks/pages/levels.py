"""What docs/results.md is read against: what policies score that were not learned, and what others have published."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from covey.experiments.levels import Level, read_levels, task_of


@dataclass(frozen=True)
class Published:
    """A score that others have published.

    Attributes:
        algorithm: With the library.
        env_steps: Of training, in words.
        score: In today's units.
    """

    algorithm: str
    env_steps: str
    score: float


@dataclass(frozen=True)
class Task:
    """An environment with its arguments.

    Attributes:
        title: For readers.
        unit: What a score is.
        source: Where the levels come from.
        levels: From worst to best; the first is random play, the last the bound.
        published: Best first.
    """

    title: str
    unit: str
    source: str
    levels: tuple[Level, ...]
    published: tuple[Published, ...] = ()

    @property
    def picture(self) -> str:
        """Name of the file with its curves."""
        return f"results_{self.title.replace(', ', '_').replace(' ', '_')}.png"


SOURCE = "Computed with scripted controllers in mpe2 1.1.1 with its default arguments (25 steps an episode)."

PUBLISHED = {
    "simple_speaker_listener_v4, continuous actions": (
        Published("MAPPO, HAPPO (HARL)", "8 to 10 M", -11.7),
        Published("MATD3, HATD3, MADDPG (HARL)", "0.5 M", -12.7),
        Published("MAPPO (EPyMARL)", "20 M", -13.4),
    ),
    "simple_speaker_listener_v4, discrete actions": (
        Published("HAPPO (HARL)", "10 M", -14.7),
        Published("MAPPO (HARL)", "10 M", -17.7),
    ),
    "simple_spread_v3, discrete actions": (
        Published("MAPPO (HARL)", "10 M", -24.4),
        Published("MAPPO (its paper)", "20 M", -25.4),
        Published("QMIX (EPyMARL)", "2 M", -28.7),
        Published("HAPPO, HATRPO (HARL)", "10 M", -28.9),
        Published("VDN (EPyMARL)", "2 M", -30.9),
        Published("IPPO (EPyMARL)", "20 M", -32.4),
        Published("MADDPG (EPyMARL)", "2 M", -36.3),
    ),
    "simple_spread_v3, continuous actions": (
        Published("MATD3, HATD3 (HARL)", "5 M", -28.9),
        Published("MADDPG (HARL)", "5 M", -29.9),
        Published("HAPPO (HARL)", "10 M", -31.4),
        Published("MAPPO (HARL)", "10 M", -35.4),
    ),
    "simple_reference_v3, continuous actions": (
        Published("MAPPO, HAPPO (HARL)", "10 M", -12.7),
        Published("MATD3, HATD3 (HARL)", "5 M", -14.2),
        Published("MADDPG (HARL)", "5 M", -17.2),
    ),
}
"""Scores by the title of the task, in units of today's environments, from which those of older versions of MPE differ
by constants. HARL's are read off its curves."""

TICTACTOE = Task(
    "tictactoe_v3",
    "wins less losses as player_2, against random moves",
    "Exact: all games counted.",
    (
        Level("random", -0.297, 0.0, "random against random: player_1 loses 28.8%, player_2 58.5%"),
        Level("never loses", 0.916, 0.0, "the surest of what never loses, as player_2"),
        Level("bound", 0.925, 0.0, "the best answer to random moves, as player_2: it loses 0.7%"),
    ),
)

CONNECT_FOUR = Task(
    "connect_four_v3",
    "wins less losses as player_1, against random moves",
    "Counted over 2,500 games.",
    (
        Level("random", -0.109, 0.02, "random against random: player_0 loses 43.5%, player_1 55.2%"),
        Level(
            "one ply",
            0.908,
            0.01,
            "wins where that can be done at once, else prevents it: it loses 4.4%, 2.8% as player_0",
        ),
    ),
)
GAMES = {"pettingzoo.classic.tictactoe_v3": TICTACTOE, "pettingzoo.classic.connect_four_v3": CONNECT_FOUR}


def task(environment: str, config: Mapping[str, Any]) -> Task:
    """The task that an environment with these arguments is.

    Raises:
        KeyError: no levels are known for it.
    """
    if environment in GAMES:
        return GAMES[environment]
    found = task_of(read_levels(), environment, config)
    if found is None:
        raise KeyError(environment)
    return Task(found.title, found.unit, SOURCE, found.levels, PUBLISHED.get(found.title, ()))
