"""Reading what an environment's reset and step returned, with a sentence for everything that PettingZoo does not allow.

Both the watching before training and the slots that collect read by these functions, so they take and refuse the same.
A wrong name or shape is never passed over: an agent whose key is misspelt would never act, and nobody would notice.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covey.errors import EnvironmentLoadError
from covey.spaces import MASK_KEY, SEEN_KEYS, Discrete, Leaf, MultiDiscrete, Space, at_path, leaves, part_of

RESET_PARTS = ("observations", "infos")
STEP_PARTS = ("observations", "rewards", "terminations", "truncations", "infos")


def reset_parts(returned: Any) -> Any:
    """Observations and infos by agent, as `reset` returned them.

    Raises:
        EnvironmentLoadError: it returned something else, such as observations alone.
    """
    return _parts("reset", returned, RESET_PARTS)


def step_parts(returned: Any) -> Any:
    """Observations, rewards, terminations, truncations and infos by agent, as `step` returned them.

    Raises:
        EnvironmentLoadError: it returned something else, such as one reward for the whole team.
    """
    return _parts("step", returned, STEP_PARTS)


def check_names(known: Collection[str], agents: Iterable[Any], **parts: Iterable[Any]) -> None:
    """Refuse names that are not among the environment's agents.

    Args:
        known: All agent ids.
        agents: The environment's attribute `agents`.
        parts: What reset or step returned, by the part's name; its keys are looked at.

    Raises:
        EnvironmentLoadError: a name that no agent has.
    """
    for part, names in (("agents", agents), *parts.items()):
        for name in names:
            if name not in known:
                listed = ", ".join(map(repr, list(known)[:4])) + ", ..." * (len(known) > 4)
                raise EnvironmentLoadError(
                    f"environment: {part} {'has' if part == 'agents' else 'have'} {name!r}, expected names from "
                    f"possible_agents ({listed}); use the same names everywhere"
                )


def check_somebody(agents: Collection[Any]) -> None:
    """Refuse an episode that begins without agents: it would never have a step.

    Args:
        agents: The environment's attribute `agents` after reset.

    Raises:
        EnvironmentLoadError: no agent is there.
    """
    if not agents:
        raise EnvironmentLoadError(
            "environment: agents is empty after reset, expected the agents of the episode; set self.agents in reset"
        )


def reward_number(value: Any, agent: str) -> float:
    """A reward as a number; an array of one number is one.

    Raises:
        EnvironmentLoadError: it is no number, or several.
    """
    if isinstance(value, float | int):  # the usual case, numpy's float64 included
        return value
    array = _array(value)
    if array is None or array.size != 1:
        raise EnvironmentLoadError(
            f"environment: reward of agent {agent!r} is {_kind(value, array)}, expected one number; return a single "
            "number for each agent, such as the weighted sum of several"
        )
    return float(array.reshape(())[()])


def observation_array(value: Any, shape: tuple[int, ...], dtype: np.dtype[Any], agent: str, leaf: str = "") -> Any:
    """An observation in the shape of its space; one that differs by axes of length 1 alone is reshaped.

    It may have another dtype than its space, as long as that one holds its numbers; a floating-point one rounds them.

    Raises:
        EnvironmentLoadError: it has another shape, holds no numbers, or numbers that would change in the space's dtype:
            0.4 would become 0, and 300 be 44 in uint8.
    """
    if isinstance(value, np.ndarray) and value.shape == shape and (value.dtype == dtype or dtype.kind == "f"):
        return value  # the usual case
    what = f"observation {leaf}" if leaf else "observation"
    array = _array(value)
    if array is None or _without_ones(array.shape) != _without_ones(shape):
        raise EnvironmentLoadError(
            f"environment: {what} of agent {agent!r} is {_kind(value, array)}, expected an array of shape {shape} "
            "as in its observation space; correct one of the two"
        )
    array = array.reshape(shape)
    if dtype.kind != "f" and array.dtype != dtype:
        with np.errstate(invalid="ignore"):  # NaN and infinities are no integers
            changed = array.astype(dtype) != array
        if changed.any():
            raise EnvironmentLoadError(
                f"environment: {what} of agent {agent!r} holds {array[changed].flat[0]:g}, which {dtype} of its "
                "observation space does not; give it observations of that dtype, or its space another dtype"
            )
    return array


def write_observation(value: Any, targets: Sequence[tuple[Leaf, NDArray[Any]]], agent: str) -> None:
    """Write an observation to arrays, one for each leaf of its space; see `observation_array` for what is refused."""
    for leaf, target in targets:
        seen = value
        if leaf.path:
            seen = part_of(value, leaf, f"environment: observation of agent {agent!r}", EnvironmentLoadError)
        shape, dtype = target.shape, target.dtype
        if not (isinstance(seen, np.ndarray) and seen.shape == shape and (seen.dtype == dtype or dtype.kind == "f")):
            seen = observation_array(seen, shape, dtype, agent, leaf.name)
        target[...] = seen


def split_mask(seen: Any) -> tuple[Any, Any]:
    """Split an observation into what is seen and its action mask, None if it carries none.

    As for its space, the dictionary without the mask is what is seen, or its only other entry `observation` or `obs`.
    """
    if not isinstance(seen, Mapping) or MASK_KEY not in seen:
        return seen, None
    if len(seen) == 2:
        for key in SEEN_KEYS:
            if key in seen:
                return seen[key], seen[MASK_KEY]
    return seen, seen[MASK_KEY]


def flat_mask(mask: Any, action: Space) -> Any:
    """An action mask in one piece, leaf after leaf and choice after choice; one that has one piece as it is.

    Args:
        mask: Numbers for all choices one after another; or dictionaries and tuples like actions, with the numbers of
            each Discrete or MultiDiscrete leaf; or a tuple with an array for each choice of a MultiDiscrete. Arrays may
            have further axes in front, such as one of environments.
        action: The action space.

    Raises:
        LookupError, TypeError, ValueError: a part is missing.
    """
    if not isinstance(mask, Mapping | tuple):
        return mask
    pieces: list[Any] = []
    for leaf in leaves(action):
        if isinstance(leaf.space, Discrete | MultiDiscrete):
            part = at_path(mask, leaf.path)
            pieces += part if isinstance(part, tuple) else [part]
    return np.concatenate(pieces, axis=-1)


def mask_array(mask: Any, width: int, agent: str, action: Space) -> NDArray[Any]:
    """An action mask as a flat array of `width` numbers; see `flat_mask` for what it may be.

    Raises:
        EnvironmentLoadError: it has another number of entries.
    """
    try:
        array = _array(flat_mask(mask, action))
    except (LookupError, TypeError, ValueError):
        array = None
    if array is None or array.size != width:
        raise EnvironmentLoadError(
            f"environment: action mask of agent {agent!r} is {_kind(mask, array)}, expected {width} numbers, one for "
            "each value of its actions; correct the mask"
        )
    return array.reshape(width)


def _parts(method: str, returned: Any, names: tuple[str, ...]) -> Any:
    """The dictionaries by agent that a method returned, as many as there are names."""
    if not isinstance(returned, tuple) or len(returned) != len(names):
        got = f"{len(returned)} values" if isinstance(returned, tuple) else f"one {type(returned).__name__}"
        raise EnvironmentLoadError(
            f"environment: {method} gave {got}, expected {len(names)} dictionaries by agent: {', '.join(names)}; "
            "return them as PettingZoo's parallel environments do"
        )
    for name, part in zip(names, returned, strict=True):
        if not isinstance(part, dict | Mapping):
            raise EnvironmentLoadError(
                f"environment: {method} gave {name} as {type(part).__name__}, expected a dictionary by agent; give "
                "each agent its own"
            )
    return returned


def _array(value: Any) -> NDArray[Any] | None:
    """A value as an array of numbers; None if it is none."""
    try:
        array = np.asarray(value)
    except (ValueError, TypeError):  # lists of unequal lengths, objects that cannot be arrays
        return None
    return array if array.dtype.kind in "biuf" else None


def _kind(value: Any, array: NDArray[Any] | None) -> str:
    """Describe a value that an environment should not have returned, for an error: its type, or its array's shape."""
    return f"of type {type(value).__name__}" if array is None else f"an array of shape {array.shape}"


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape without its axes of length 1."""
    return tuple(n for n in shape if n != 1)
