"""Points of a run's curves, on their way from the threads where they arise to the one that writes them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass

from covey_server.curves import population
from covey_server.curves.recent_losses import RecentLosses
from covey_server.curves.training_episodes import TrainingEpisodes
from covey_server.member import Member


@dataclass(frozen=True, slots=True)
class Point:
    """One value of one curve.

    Attributes:
        wall_s: Seconds of training until then, restarts left out.
        env_steps: Env steps of the whole population until then.
        name: The curve, such as "fitness/best" or "place_0/fitness".
        value: The value.
        member_id: Whose it is, where it is one member's: curves are named by places, which members take in turn.
    """

    wall_s: float
    env_steps: int
    name: str
    value: float
    member_id: int | None = None


class Curves:
    """What a run gives to its curves, until it is taken to be written. Any thread may call any method.

    Args:
        evolving: Names of the hyperparameters that evolution may change.
        now: Returns the seconds of training and the population's env steps until now.

    Attributes:
        losses: Members' losses, on their way from the trainer.
        episodes: How training episodes go, on its way from the gRPC loop.
    """

    def __init__(self, evolving: Container[str], now: Callable[[], tuple[float, int]]) -> None:
        self.losses = RecentLosses()
        self.episodes = TrainingEpisodes()
        self._evolving = evolving
        self._now = now
        self._lock = threading.Lock()
        self._points: list[Point] = []
        self._settings_of: dict[int, int] = {}  # by place: the member whose settings were given last

    def give(self, values: Mapping[str, float], member_id: int | None = None) -> None:
        """Give some curves their values of this moment; `member_id` is whose they are, if one member's."""
        wall_s, env_steps = self._now()
        points = [Point(wall_s, env_steps, name, float(value), member_id) for name, value in values.items()]
        with self._lock:
            self._points += points

    def enter(self, before: Sequence[Member], members: Sequence[Member]) -> None:
        """Give what members take a place in the population, how they were made, and their settings.

        Args:
            before: The population until now.
            members: The population from now on.
        """
        known = {m.member_id for m in before}
        self.give(population.births(m for m in members if m.member_id not in known))
        for place, member in enumerate(members):
            if self._settings_of.get(place) != member.member_id:
                self._settings_of[place] = member.member_id
                self.give(population.settings(place, member, self._evolving), member.member_id)

    def take(self) -> list[Point]:
        """Take all points that were given since the last call, in their order."""
        with self._lock:
            points, self._points = self._points, []
        return points
