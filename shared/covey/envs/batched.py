"""An environment that steps all its copies itself, as slots: attached to arrays, its exceptions turned into reports."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covey.envs.arrays import SlotArrays
from covey.envs.slots import BatchedEnvironment, Fault, batch_reset, describe
from covey.errors import EnvironmentLoadError
from covey.spaces import EnvironmentSpaces


def attach(
    env: BatchedEnvironment, spaces: EnvironmentSpaces, count: int, arrays: SlotArrays | None = None
) -> SlotArrays:
    """Give an environment the arrays to which its `count` copies write, new ones if None; returns them.

    Raises:
        EnvironmentLoadError: it fails, takes other arrays than these, or has another number of copies.
    """
    arrays = SlotArrays.zeros(spaces, count) if arrays is None else arrays
    try:
        env.attach(spaces, arrays)
    except Exception as exc:
        raise EnvironmentLoadError(f"environment: attach raised {describe(exc)}; repair it") from exc
    copies = getattr(env, "count", None)
    if copies != count:
        raise EnvironmentLoadError(
            f"environment: count is {copies} after attach, expected {count}, the num_envs that it was built with; set "
            "self.count = num_envs"
        )
    check_arrays(env, arrays, "attach")
    return arrays


def check_arrays(env: BatchedEnvironment, arrays: SlotArrays, method: str) -> None:
    """Refuse an environment whose attribute `arrays` is no longer what `attach` gave it, as `method` has returned.

    Raises:
        EnvironmentLoadError: it is another object.
    """
    own = getattr(env, "arrays", None)
    if own is arrays:
        return
    got = f"of type {type(own).__name__}"
    if isinstance(own, SlotArrays):
        changed = next(filter(None, map(_changed, _named(own), _named(arrays))), "")
        got = f"another object ({changed})" if changed else "another object"
    raise EnvironmentLoadError(
        f"environment: self.arrays is {got} after {method}, expected what attach was given; set self.arrays = arrays "
        "in attach, and write into them in place, such as arrays.reward[slots] = ..."
    )


def _named(arrays: SlotArrays) -> list[tuple[str, Any]]:
    """Every array with its name."""
    found: list[tuple[str, Any]] = []
    for f in dataclasses.fields(arrays):
        value = getattr(arrays, f.name)
        many = value if isinstance(value, tuple) else (value,)
        found += [(f.name + (f"[{g}]" if isinstance(value, tuple) else ""), a) for g, a in enumerate(many)]
    return found


def _changed(own: tuple[str, Any], given: tuple[str, Any]) -> str:
    """What distinguishes an array from the one that was given, in words; "" if that is neither dtype nor shape."""
    (name, ours), (_, theirs) = own, given
    if not isinstance(ours, np.ndarray) or not isinstance(theirs, np.ndarray):
        return ""
    if (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape):
        return ""
    return f"{name} is {ours.dtype} {ours.shape}, expected {theirs.dtype} {theirs.shape}"


def fault_list(returned: Any, slots: Sequence[int], method: str) -> list[Fault]:
    """What a method of an environment returned, if it is a list of reports about the slots that it was given.

    Raises:
        EnvironmentLoadError: it is something else.
    """
    if type(returned) is list and not returned:  # the usual case
        return returned
    wanted = "expected a list with a covey.envs.Fault for each slot that raised"
    if not isinstance(returned, list):
        kind = "None" if returned is None else f"something of type {type(returned).__name__}"
        raise EnvironmentLoadError(f"environment: {method} returned {kind}, {wanted}; end it with return []")
    for fault in returned:
        if not isinstance(fault, Fault):
            raise EnvironmentLoadError(
                f"environment: {method} returned a list with {str(fault)[:80]!r} in it, {wanted}; return [] if none did"
            )
        if fault.slot not in slots:
            raise EnvironmentLoadError(
                f"environment: {method} reported slot {fault.slot}, expected one that it was given "
                f"({', '.join(map(str, slots))}); number slots as they are given"
            )
    return returned


class BatchedSlots:
    """The copies of an environment that steps them all itself, as arrays.

    An exception of the environment is reported for every slot that it was to reset or step.

    Args:
        env: The environment, to which arrays are attached here.
        spaces: Its spaces.
        count: How many copies it was built with.
        arrays: The arrays of these copies; new ones if None.

    Attributes:
        reset_batch: Begins an episode in each slot given, all drawn from one seed; None if the environment does not.

    Raises:
        EnvironmentLoadError: it does not take the arrays; in `reset` and `step`, what it returns is no list of reports.
    """

    def __init__(
        self, env: BatchedEnvironment, spaces: EnvironmentSpaces, count: int, arrays: SlotArrays | None = None
    ) -> None:
        self.count = count
        self.arrays = attach(env, spaces, count, arrays)
        self._env = env
        self.reset_batch = self._reset_batch if batch_reset(env) else None

    def reset(self, slots: Sequence[int], seeds: Sequence[int]) -> list[Fault]:
        """Begin an episode in each slot given, with its seed; returns a report for each that raised."""
        return _reported(self._env.reset, slots, seeds, "reset")

    def step(self, slots: Sequence[int], actions: Sequence[NDArray[Any]]) -> list[Fault]:
        """Make one env step of each slot given; returns a report for each that raised."""
        return _reported(self._env.step, slots, actions, "step")

    def close(self) -> None:
        """Close the environment."""
        self._env.close()

    def _reset_batch(self, slots: Sequence[int], seed: int) -> list[Fault]:
        method = batch_reset(self._env)
        assert method is not None  # this one is offered only where there is that one
        return _reported(method, slots, seed, "reset_batch")


def _reported(method: Callable[[Any, Any], Any], slots: Sequence[int], argument: Any, name: str) -> list[Fault]:
    """Call a method of an environment; an exception becomes a report for every slot given."""
    try:
        returned = method(slots, argument)
    except Exception as exc:  # the environment's own code may raise anything
        return [Fault(slot, describe(exc)) for slot in slots]
    return fault_list(returned, slots, name)
