"""Points of a run's curves, on their way from the threads where they arise to the one that writes them."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass


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


class Points:
    """Points that were given and not yet written, in the order in which they were given. For any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._points: list[Point] = []

    def add(self, wall_s: float, env_steps: int, values: Mapping[str, float], member_id: int | None = None) -> None:
        """Add the values of some curves at one moment; `member_id` is whose they are, if one member's."""
        points = [Point(wall_s, env_steps, name, float(value), member_id) for name, value in values.items()]
        with self._lock:
            self._points += points

    def take(self) -> list[Point]:
        """Take all points that were added since the last call."""
        with self._lock:
            points, self._points = self._points, []
        return points
