"""The worker process that steps some copies of an environment in arrays shared with its parent process."""

from __future__ import annotations

import contextlib
import math
import mmap
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from covey.envs.arrays import SlotArrays
from covey.envs.loading import MakeEnv
from covey.envs.slots import Fault, describe
from covey.envs.sync_slots import SyncSlots
from covey.errors import EnvironmentLoadError
from covey.spaces import EnvironmentSpaces

if TYPE_CHECKING:
    from pettingzoo import ParallelEnv

BOOTSTRAP = (
    "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); import json, sys; "
    "path, connection, memory = sys.argv[1:]; sys.path[:] = json.loads(path); sys.argv[1:] = []; "
    "from covey.envs.worker import main; main(int(connection), int(memory))"
)
"""The code that a worker's interpreter runs; its arguments are the parent's `sys.path` and two file descriptors."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """Which copies of an environment a worker process steps: `first` to `end` - 1 of all `count`."""

    spaces: EnvironmentSpaces
    count: int
    first: int
    end: int


class Command(NamedTuple):
    """A parent process's command to a worker, about some of the environments that the worker steps.

    Attributes:
        number: Repeated in the answer.
        name: reset, step, apply or close.
        slots: Numbered as among all slots, not only the worker's.
        arguments: Of reset, the seeds and options; of apply, a function and its arguments for each slot.
    """

    number: int
    name: str
    slots: Sequence[int] = ()
    arguments: tuple[Any, ...] = ()


class Answer(NamedTuple):
    """A worker process's answer to a command of its parent.

    Attributes:
        number: Of the command.
        result: Faults of a reset or step; results of apply, one for each slot.
        refused: The text of an error that the caller is to raise; empty if there is none.
    """

    number: int
    result: list[Any]
    refused: str = ""


def memory_bytes(spaces: EnvironmentSpaces, count: int) -> int:
    """Return the bytes of the memory that worker processes share with their parent."""
    return SlotArrays.size_bytes(spaces, count) + sum(size for _, _, size in _actions(spaces, count))


def map_memory(memory: int, spaces: EnvironmentSpaces, count: int) -> tuple[SlotArrays, list[NDArray[Any]]]:
    """Map the shared memory: the environments' arrays, and actions per group (environments, agents, *shape)."""
    buffer = memoryview(mmap.mmap(memory, memory_bytes(spaces, count)))
    offset = SlotArrays.size_bytes(spaces, count)
    actions = []
    for dtype, shape, size in _actions(spaces, count):
        actions.append(np.frombuffer(buffer, dtype, math.prod(shape), offset).reshape(shape))
        offset += size
    return SlotArrays.within(spaces, count, buffer), actions


def apply(
    slots: SyncSlots, chosen: Sequence[int], function: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]
) -> list[Any]:
    """Call `function(environment, *arguments[i])` for each environment chosen; an error report where it raised."""
    results: list[Any] = []
    for s, given in zip(chosen, arguments, strict=True):
        try:
            results.append(function(slots.environment(s), *given))
        except Exception as exc:  # a user's function may raise anything
            results.append(Fault(s, describe(exc)))
    return results


def main(connection: int, memory: int) -> None:
    """Run the worker process: obey the parent's commands until it says close, or is gone.

    Args:
        connection: File descriptor of the pipe.
        memory: File descriptor of the shared memory.
    """
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with contextlib.suppress(EOFError, ConnectionError):
        _serve(Connection(connection), memory)


def _serve(connection: Connection[Any, Any], memory: int) -> None:
    """Receive the functions that build the worker's environments, then obey commands until "close"."""
    assigned: Assignment = connection.recv()
    arrays, actions = map_memory(memory, assigned.spaces, assigned.count)
    first, end = assigned.first, assigned.end
    slots = SyncSlots(
        _receive_factories(connection, end - first), assigned.spaces, end - first, arrays.rows(first, end)
    )
    given = [a[first:end] for a in actions]
    while True:
        command: Command = connection.recv()
        if command.name == "close":
            slots.close()
            return
        try:
            result = _obey(slots, [s - first for s in command.slots], command, given)
            result = [Fault(first + r.slot, r.message) if isinstance(r, Fault) else r for r in result]
            answer = Answer(command.number, result)
        except EnvironmentLoadError as exc:
            answer = Answer(command.number, [], refused=str(exc))
        try:
            connection.send(answer)
        except (EOFError, ConnectionError):
            raise
        except Exception as exc:  # a result that cannot be pickled
            connection.send(
                Answer(command.number, [], refused=f"environment: its answer cannot be sent: {describe(exc)}")
            )


def _obey(slots: SyncSlots, chosen: list[int], command: Command, given: list[NDArray[Any]]) -> list[Any]:
    """Carry out a reset, a step or a function call for the chosen environments; `given` are the actions."""
    match command.name:
        case "reset":
            return list(slots.reset(chosen, *command.arguments))
        case "step":
            # Copied: environments may keep what they are given, and the next actions overwrite the shared memory.
            return list(slots.step(chosen, [a.copy() for a in given]))
        case _:
            return apply(slots, chosen, *command.arguments[0].fn)


def _receive_factories(connection: Connection[Any, Any], count: int) -> Sequence[MakeEnv]:
    """Receive the functions that build environments; if they cannot be unpickled, return ones that raise why."""
    try:
        factories: Sequence[MakeEnv] = connection.recv().fn
    except (EOFError, ConnectionError):
        raise
    except Exception as exc:  # modules may not import here, or raise anything
        message = f"its factory cannot be loaded in a worker process: {describe(exc)}"

        def fail() -> ParallelEnv[str, Any, Any]:
            raise EnvironmentLoadError(message)

        return [fail] * count
    return factories


def _end_with_parent() -> None:
    """End this process when stdin ends, as only the parent process holds its other end."""
    while os.read(0, 1024):
        pass
    os._exit(0)


def _actions(spaces: EnvironmentSpaces, count: int) -> list[tuple[DTypeLike, tuple[int, ...], int]]:
    """Return dtype, shape and bytes (rounded up to a multiple of 8) of each group's array of actions."""
    fields: list[tuple[DTypeLike, tuple[int, ...], int]] = []
    for g in spaces.groups:
        shape = (count, len(g), *g.action.shape)
        size = math.prod(shape) * np.dtype(g.action.dtype).itemsize
        fields.append((g.action.dtype, shape, size + -size % 8))
    return fields
