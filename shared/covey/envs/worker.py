"""A worker process of `AsyncSlots`: steps a range of slots, in arrays that lie in memory it shares with its parent."""

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
from numpy.typing import NDArray

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
"""What the worker's interpreter runs; its arguments are the parent's `sys.path` and two file descriptors."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """The slots `first` to `end` - 1, of `count`, are the worker's."""

    spaces: EnvironmentSpaces
    count: int
    first: int
    end: int


class Command(NamedTuple):
    """What a worker is to do with some of its slots.

    Attributes:
        number: Comes back with the answer.
        name: reset, step, apply or close.
        slots: Numbered as in the whole.
        arguments: reset: seeds and options; apply: a function and, per slot, what it gets besides the environment.
    """

    number: int
    name: str
    slots: Sequence[int] = ()
    arguments: tuple[Any, ...] = ()


class Answer(NamedTuple):
    """What came of a command: faults (reset, step) or results (apply); `refused` is an error for the caller."""

    number: int
    result: list[Any]
    refused: str = ""


def memory_bytes(spaces: EnvironmentSpaces, count: int) -> int:
    """Size of the memory that parent and workers share."""
    return SlotArrays.size_bytes(spaces, count) + sum(size for _, _, size in _actions(spaces, count))


def map_memory(memory: int, spaces: EnvironmentSpaces, count: int) -> tuple[SlotArrays, list[NDArray[Any]]]:
    """Views of the shared memory (a file descriptor): what the slots show, and per group the actions they are given."""
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
    """`function(environment, *arguments[i])` for each slot chosen; a `Fault` where it raised."""
    results: list[Any] = []
    for s, given in zip(chosen, arguments, strict=True):
        try:
            results.append(function(slots.environment(s), *given))
        except Exception as exc:  # foreign code
            results.append(Fault(s, describe(exc)))
    return results


def main(connection: int, memory: int) -> None:
    """Serve until told to close, or until the parent is gone."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with contextlib.suppress(EOFError, ConnectionError):
        _serve(Connection(connection), memory)


def _serve(connection: Connection[Any, Any], memory: int) -> None:
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
    match command.name:
        case "reset":
            return list(slots.reset(chosen, *command.arguments))
        case "step":
            # Environments may keep what they are given, and the next actions come to the same place.
            return list(slots.step(chosen, [a.copy() for a in given]))
        case _:
            return apply(slots, chosen, *command.arguments[0].fn)


def _receive_factories(connection: Connection[Any, Any], count: int) -> Sequence[MakeEnv]:
    """What builds the worker's environments; each fails with the reason where it could not be unpacked here."""
    try:
        factories: Sequence[MakeEnv] = connection.recv().fn
    except (EOFError, ConnectionError):
        raise
    except Exception as exc:  # modules that do not import here, or anything that they raise
        message = f"its factory cannot be loaded in a worker process: {describe(exc)}"

        def fail() -> ParallelEnv[str, Any, Any]:
            raise EnvironmentLoadError(message)

        return [fail] * count
    return factories


def _end_with_parent() -> None:
    """Stdin is a pipe whose other end only the parent holds; even an environment that hangs ends with it."""
    while os.read(0, 1024):
        pass
    os._exit(0)


def _actions(spaces: EnvironmentSpaces, count: int) -> list[tuple[str, tuple[int, ...], int]]:
    """Dtype, shape and bytes (a multiple of 8) of each group's actions."""
    parts = []
    for g in spaces.groups:
        shape = (count, len(g), *g.action.shape)
        size = math.prod(shape) * np.dtype(g.action.dtype).itemsize
        parts.append((g.action.dtype, shape, size + -size % 8))
    return parts
