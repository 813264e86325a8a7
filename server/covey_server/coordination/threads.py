"""A watch over the threads and tasks that a run depends on: if one ends unexpectedly, the run ends with a fault."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from abc import abstractmethod
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

logger = logging.getLogger("covey.learner")

_P = ParamSpec("_P")
_T = TypeVar("_T")

Failed = Callable[[BaseException, str], None]
"""A callback that ends the run, given the exception that ended a thread or task and that thread's or task's name."""


@dataclass(frozen=True, slots=True)
class Watched:
    """One watched thread or task, as `covey status --debug` lists it.

    Attributes:
        name: The thread's own name, or what the task does.
        kind: "thread" or "task".
        alive: Returns whether it still runs.
    """

    name: str
    kind: str
    alive: Callable[[], bool]


class Threads:
    """The list of all watched threads and tasks of a learner, in the order in which they started.

    Args:
        failed: Called when one of them ends unexpectedly; ends the run.
    """

    def __init__(self, failed: Failed) -> None:
        self.failed = failed
        self._watched: list[Watched] = []
        self._mutex = threading.Lock()

    def __iter__(self) -> Iterator[Watched]:
        with self._mutex:
            return iter(list(self._watched))

    def add(self, name: str, kind: str, alive: Callable[[], bool]) -> None:
        """Put a thread or task on the list of watched ones.

        Args:
            name: Shown in the list.
            kind: "thread" or "task".
            alive: Returns whether it still runs.
        """
        with self._mutex:
            self._watched.append(Watched(name, kind, alive))

    def task(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start an endless task on the running event loop; unless it is cancelled, its end ends the run."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self.add(name, "task", lambda: not task.done())

        def ended(task: asyncio.Task[None]) -> None:
            """End the run, unless the task was cancelled on purpose."""
            if not task.cancelled():
                # A task that returns is a fault too: it was meant to work until cancelled.
                self.failed(task.exception() or RuntimeError("it returned"), name)

        task.add_done_callback(ended)
        return task


async def in_thread(name: str, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Run a blocking function in a new thread while the event loop goes on; returns its result or raises its exception.

    The loop's default executor is not used: its pool of threads would stay behind, and could die unnoticed.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[_T] = loop.create_future()

    def set_unless_done(set_outcome: Callable[[Any], None], outcome: Any) -> None:
        """Set the future's result or exception, unless whoever awaited it was cancelled meanwhile."""
        if not done.done():
            set_outcome(outcome)

    def work() -> None:
        """Call the function and hand its result or exception to the event loop."""
        try:
            result = function(*args, **kwargs)
        except BaseException as exc:
            # The future raises this again inside the event loop, which an exit or interrupt would end.
            fault = (
                exc if isinstance(exc, Exception) else RuntimeError(f"{name} was ended by {type(exc).__name__} {exc}")
            )
            outcome: tuple[Callable[[Any], None], Any] = done.set_exception, fault
        else:
            outcome = done.set_result, result
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile: nobody waits any more
            loop.call_soon_threadsafe(set_unless_done, *outcome)

    threading.Thread(target=work, name=name, daemon=True).start()
    return await done


class WatchedThread(threading.Thread):
    """A thread that the run depends on: any exception that `work` raises ends the run.

    Args:
        name: Name of the thread.
        threads: The list of watched threads that it joins when it starts.
    """

    def __init__(self, name: str, threads: Threads) -> None:
        super().__init__(name=name, daemon=True)
        self._threads = threads

    @abstractmethod
    def work(self) -> None:
        """The thread's work, which a subclass defines; returning from it ends the thread in good order."""

    def start(self) -> None:
        """Start the thread and put it on the list of watched ones."""
        self._threads.add(self.name, "thread", self.is_alive)
        super().start()

    def run(self) -> None:
        """Call `work`; an exception of any kind, `SystemExit` and `KeyboardInterrupt` included, ends the run."""
        try:
            self.work()
        except BaseException as exc:
            logger.debug("thread %s failed", self.name, exc_info=True)
            self._threads.failed(exc, self.name)
