"""An environment that goes wrong in each of the ways that environments do.

Configurations name it `tests.support.hostile_environment:hostile`.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from tests.support.environments import CounterEnv, Step


class HostileEnv(CounterEnv):
    """A counter that goes wrong in step `at` of its episodes (from 1).

    Args:
        how: "raise", "nan" or "inf" (in caller 0's observation), "reward" (walker 1's is NaN), "hang" (for a minute).
        at: In which step.
        armed: A file: only while it exists does anything go wrong, and then it is removed. Without one: every time.
        length: Of an episode.
    """

    def __init__(self, how: str, at: int = 2, armed: str = "", length: int = 10) -> None:
        super().__init__(length=length)
        self.how, self.at, self.armed = how, at, Path(armed) if armed else None

    def step(self, actions: dict[str, Any]) -> Step:
        seen, rewards, terminated, truncated, infos = super().step(actions)
        if self.count != self.at or (self.armed and not self.armed.exists()):
            return seen, rewards, terminated, truncated, infos
        if self.armed:
            self.armed.unlink()
        match self.how:
            case "raise":
                raise RuntimeError("out of order")
            case "hang":
                time.sleep(60)
            case "reward":
                rewards["walker_1"] = float("nan")
            case number:
                seen["caller_0"] = np.full(3, float(number), np.float32)
        return seen, rewards, terminated, truncated, infos


def hostile(**kwargs: Any) -> HostileEnv:
    """A fresh one."""
    return HostileEnv(**kwargs)
