"""A watch over the threads and tasks that a run lives by: none of them ends unseen."""

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
"""Called with what ended a thread or task, and its name: ends the run."""


@dataclass(frozen=True, slots=True)
class Watched:
    """One thread or task.

    Attributes:
        name: The thread's own name, or what the task does.
        kind: "thread" or "task".
        alive: Whether it still runs.
    """

    name: str
    kind: str
    alive: Callable[[], bool]


class Threads:
    """All threads and tasks of a run's learner, in the order in which they started.

    Args:
        failed: Ends the run.
    """

    def __init__(self, failed: Failed) -> None:
        self.failed = failed
        self._watched: list[Watched] = []
        self._mutex = threading.Lock()

    def __iter__(self) -> Iterator[Watched]:
        with self._mutex:
            return iter(list(self._watched))

    def add(self, name: str, kind: str, alive: Callable[[], bool]) -> None:
        """Show a thread or task among the watched ones."""
        with self._mutex:
            self._watched.append(Watched(name, kind, alive))

    def task(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start a task on the running loop that is to work until it is cancelled; any other end of it ends the run."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self.add(name, "task", lambda: not task.done())

        def ended(task: asyncio.Task[None]) -> None:
            if not task.cancelled():
                self.failed(task.exception() or RuntimeError("it returned"), name)

        task.add_done_callback(ended)
        return task


async def in_thread(name: str, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Run a function in a thread of its own while the loop goes on; returns or raises what it does.

    Unlike the loop's default executor, no pool is left behind whose threads could be gone unseen.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[_T] = loop.create_future()

    def settle(set_outcome: Callable[[Any], None], outcome: Any) -> None:
        if not done.done():  # whoever awaited it may have been cancelled
            set_outcome(outcome)

    def work() -> None:
        try:
            result = function(*args, **kwargs)
        except BaseException as exc:
            # An exit or interrupt would end the loop that re-raises it.
            fault = exc if isinstance(exc, Exception) else RuntimeError(f"{name}: ended by {type(exc).__name__} {exc}")
            outcome: tuple[Callable[[Any], None], Any] = done.set_exception, fault
        else:
            outcome = done.set_result, result
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile: nobody waits any more
            loop.call_soon_threadsafe(settle, *outcome)

    threading.Thread(target=work, name=name, daemon=True).start()
    return await done


class WatchedThread(threading.Thread):
    """A thread that the run lives by: whatever `work` raises ends the run.

    Args:
        name: Of the thread.
        threads: Where it is watched.
    """

    def __init__(self, name: str, threads: Threads) -> None:
        super().__init__(name=name, daemon=True)
        self._threads = threads

    @abstractmethod
    def work(self) -> None:
        """What the thread does."""

    def start(self) -> None:
        """Start the thread, and show it among the watched ones."""
        self._threads.add(self.name, "thread", self.is_alive)
        super().start()

    def run(self) -> None:
        """Work; an exception of any kind, an exit included, ends the run."""
        try:
            self.work()
        except BaseException as exc:
            logger.debug("thread %s failed", self.name, exc_info=True)
            self._threads.failed(exc, self.name)
