"""The jobs of docs/results.md: what is trained, with how many seeds, and when it is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

FIRST_SEED = 100
"""Seeds that are reported begin here; examples were tuned with lower ones."""


@dataclass(frozen=True)
class Job:
    """What is trained and how it is judged.

    Attributes:
        config: Of the examples.
        settings: What differs from the example, by dotted key.
        runs: Seeds.
        read_at: Env steps of each member after which scores are told, besides those at the end.
        game: Whether it is a game, in which policies are judged against scripted players as well.
    """

    config: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    runs: int = 10
    read_at: tuple[int, ...] = ()
    game: bool = False

    @property
    def seeds(self) -> range:
        """Its seeds."""
        return range(FIRST_SEED, FIRST_SEED + self.runs)


def _alone(max_steps: int, **more: Any) -> dict[str, Any]:
    """A population of one: the algorithm without evolution, with a policy kept of each generation."""
    told = {"training.pop_size": 1, "training.max_steps": max_steps, "checkpoint.keep_elites": 100}
    return told | {key.replace("__", "."): value for key, value in more.items()}


SPEAKER, REFERENCE = "mappo_speaker_listener.yaml", "covey.envs.mpe.simple_reference_v3"

JOBS: dict[str, Job] = {
    "matd3_speaker_listener": Job("speaker_listener.yaml"),
    "mappo_speaker_listener": Job(SPEAKER, _alone(500_000)),
    "mappo_speaker_listener_discrete": Job("mappo_speaker_listener_discrete.yaml", _alone(500_000)),
    "maddpg_speaker_listener": Job("maddpg_speaker_listener.yaml", runs=5),
    "ippo_speaker_listener": Job("ippo_speaker_listener.yaml", runs=5),
    "mappo_spread": Job("mappo_spread.yaml", _alone(4_000_000), 5, (400_000, 1_000_000, 2_000_000)),
    "ippo_spread": Job("ippo_spread.yaml", _alone(1_000_000), read_at=(400_000,)),
    "qmix_spread": Job("qmix_spread.yaml", _alone(2_000_000), 5, (1_000_000,)),
    "maddpg_spread": Job("maddpg_spread.yaml", _alone(1_000_000), 5, (400_000,)),
    "mappo_reference": Job(SPEAKER, _alone(2_000_000, environment__name=REFERENCE), 5, (500_000, 1_000_000)),
    "tictactoe": Job("tictactoe.yaml", runs=3, game=True),
    "connect_four": Job("connect_four.yaml", runs=3, game=True),
}
"""All jobs by name; a job's sweep and its section of docs/results.md have that name too."""
