"""Speaker and listener in an environment that gets into trouble when the file `COVEY_CHAOS_TROUBLE` says so."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from mpe2 import simple_speaker_listener_v4
from pettingzoo.utils import BaseParallelWrapper


class Troubled(BaseParallelWrapper):  # type: ignore[misc]
    """Once for each time that the file appears: raises, hangs for some seconds, or says NaN."""

    def __init__(self, env: Any, trouble: Path) -> None:
        super().__init__(env)
        self._trouble = trouble

    def step(self, actions: dict[str, Any]) -> Any:
        what = self._take()
        if what.startswith("hang"):
            time.sleep(float(what.split()[1]))
        elif what == "raise":
            raise RuntimeError("the environment is in trouble")
        seen, *rest = super().step(actions)
        if what == "nan":
            seen = {agent: np.full_like(value, np.nan) for agent, value in seen.items()}
        return seen, *rest

    def _take(self) -> str:
        if not os.path.exists(self._trouble):
            return ""
        text = self._trouble.read_text()
        self._trouble.unlink()
        return text


def troubled(**kwargs: Any) -> Troubled:
    """The environment, with the arguments of the one in it."""
    env = simple_speaker_listener_v4.parallel_env(**kwargs)
    return Troubled(env, Path(os.environ["COVEY_CHAOS_TROUBLE"]))
