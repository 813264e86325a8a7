"""An environment of which every step also costs a fixed amount of computation; break_even.py trains in it."""

from __future__ import annotations

import time
from typing import Any

from mpe2 import simple_speaker_listener_v4


def parallel_env(cost_s: float, **arguments: Any) -> Any:
    """simple_speaker_listener_v4, of which every step keeps a core busy for `cost_s` seconds more."""
    env = simple_speaker_listener_v4.parallel_env(**arguments)
    inner = env.step

    def step(actions: dict[str, Any]) -> Any:
        result = inner(actions)
        end = time.thread_time() + cost_s  # of this thread: waiting for a core does not count as computing
        while time.thread_time() < end:
            pass
        return result

    env.step = step
    return env
