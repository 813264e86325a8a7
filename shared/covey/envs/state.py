"""Reads the state of whole environments, what PettingZoo calls `state()`, for critics that see more than agents do."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from covey.envs.slots import describe
from covey.errors import EnvironmentLoadError, SpaceError
from covey.spaces import DTYPES, Box, from_gymnasium

KEY = "environment.state"


def state_space(env: Any) -> Box:
    """Return the space of an environment's state: its `state_space` if it has one, else as its first state is.

    Args:
        env: A parallel environment; it is reset, and of no further use.

    Raises:
        SpaceError: it has no state, or one that is no array of numbers.
        EnvironmentLoadError: its state cannot be read.
    """
    if hasattr(env, "attach"):
        raise SpaceError(
            f"{KEY}: true, but {env} is batched, expected an environment with a method state(); leave {KEY} out"
        )
    state = read_state(env, reset=True)
    if state.dtype.name not in DTYPES:
        raise SpaceError(f"{KEY}: state() of {env} gives {state.dtype}, expected an array of numbers; leave it out")
    declared = getattr(env, "state_space", None)
    if declared is not None:
        space = from_gymnasium(declared, "state_space")
        if not isinstance(space, Box) or (space.shape, space.dtype) != (state.shape, state.dtype.name):
            raise SpaceError(
                f"{KEY}: state() of {env} gives {state.dtype} of shape {state.shape}, expected its "
                f"state_space {space}; correct one of the two, or leave {KEY} out"
            )
        return space
    low, high = (float("-inf"), float("inf"))
    if state.dtype.kind in "iu":
        low, high = float(np.iinfo(state.dtype).min), float(np.iinfo(state.dtype).max)
    elif state.dtype.kind == "b":
        low, high = 0.0, 1.0
    # Numbers of 64 bits have no range that float64 holds exactly.
    bounds = (float("-inf"), float("inf")) if state.dtype.itemsize == 8 else (low, high)
    return Box(state.dtype.name, state.shape, (bounds[0],) * state.size, (bounds[1],) * state.size)


def read_state(env: Any, *, reset: bool = False) -> NDArray[Any]:
    """Return what an environment's `state()` gives now, or after a reset.

    Raises:
        SpaceError: it has no such method.
        EnvironmentLoadError: the method, or the reset, raises.
    """
    try:
        if reset:
            env.reset(seed=0)
        return np.asarray(env.state())
    except (AttributeError, NotImplementedError) as exc:
        raise SpaceError(
            f"{KEY}: true, but {env} has no state ({type(exc).__name__}: {exc}), expected an environment with a method "
            f"state(); leave {KEY} out"
        ) from exc
    except Exception as exc:
        raise EnvironmentLoadError(
            f"{KEY}: state() of {env} raised {describe(exc)}; repair it, or leave it out"
        ) from exc


def write_state(state: Any, target: NDArray[Any]) -> None:
    """Write an environment's state to the arrays of its slot.

    Raises:
        EnvironmentLoadError: it has another shape or dtype than it had at first.
    """
    state = np.asarray(state)
    if (state.shape, state.dtype) != (target.shape, target.dtype):
        raise EnvironmentLoadError(
            f"{KEY}: state() gives {state.dtype} of shape {state.shape}, expected {target.dtype} of shape "
            f"{target.shape} as at first; let it keep them, or leave {KEY} out"
        )
    target[...] = state
