"""Calls of gymnasium's interface, and of gym's before it: what reset and step return is brought into one form."""

from __future__ import annotations

import inspect
from typing import Any

from covey.errors import EnvironmentLoadError

OLD_STEP = ("observation", "reward", "done", "info")
STEP = ("observation", "reward", "terminated", "truncated", "info")


def begin(env: Any, seed: int | None, options: dict[str, Any] | None) -> tuple[Any, dict[str, Any]]:
    """Begin an episode; returns the observation and the info, {} where the environment gives none.

    Environments of the old gym are seeded by their method `seed` instead.
    """
    if takes_seed := _takes_seed(env):
        returned = env.reset(seed=seed) if options is None else env.reset(seed=seed, options=options)
    else:
        if hasattr(env, "seed"):
            env.seed(seed)
        returned = env.reset()
    # The old gym's reset, which took no seed, gave the observation alone: two values are then two agents'.
    if takes_seed and isinstance(returned, tuple) and len(returned) == 2 and isinstance(returned[1], dict):
        return returned[0], returned[1]
    return returned, {}


def advance(env: Any, action: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
    """Make an env step; returns observation, reward, terminated, truncated and info, by the old interface too.

    Raises:
        EnvironmentLoadError: step returned neither five values nor the old gym's four.
    """
    returned = env.step(action)
    if isinstance(returned, tuple) and len(returned) == len(STEP):
        return returned
    if isinstance(returned, tuple) and len(returned) == len(OLD_STEP):
        seen, reward, done, info = returned
        cut = bool(info.get("TimeLimit.truncated", False)) if isinstance(info, dict) else False
        return seen, reward, done if not cut else False, cut, info if isinstance(info, dict) else {}
    got = f"{len(returned)} values" if isinstance(returned, tuple) else f"one {type(returned).__name__}"
    raise EnvironmentLoadError(
        f"environment: step gave {got}, expected {', '.join(STEP)}; return them as gymnasium's environments do"
    )


def _takes_seed(env: Any) -> bool:
    """Whether `reset` takes a seed, as gymnasium's does."""
    try:
        parameters = inspect.signature(env.reset).parameters.values()
    except (TypeError, ValueError):
        return True
    return any(p.name == "seed" or p.kind is p.VAR_KEYWORD for p in parameters)
