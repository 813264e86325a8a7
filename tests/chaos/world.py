"""A run that is in trouble: its learner, its actors behind proxies, what is due when, and what was seen."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import math
import os
import random
import signal
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.history import History, Issued, Revoked, Taken
from tests.support.processes import Process, free_port, newest_run, write_config
from tests.support.proxy import FaultProxy, proxies

HEARTBEAT_S = 1.0
STEP_TIMEOUT_S = 10.0
STANDSTILL_S = 60.0
"""A learner that has taken in nothing for so long stands still."""

LEAVING_CODES = {0, 5, 6, -signal.SIGTERM, -signal.SIGKILL, 128 + signal.SIGTERM}
"""How an actor may end: told to, learner unreachable, sent away, by our signals; at once if it is told twice."""


def write_chaos_config(path: Path) -> Path:
    """Short generations, frequent checkpoints, segments as small as they come, a ring that turns over."""
    return write_config(
        path,
        algorithm={"name": "MADDPG"},
        actors={"step_timeout_s": STEP_TIMEOUT_S},
        environment={"name": "mpe2.simple_speaker_listener_v4", "num_envs": 4, "config": {"continuous_actions": True}},
        replay_buffer={"max_size": 6000, "max_bytes": 1 << 24},
        training={"max_steps": 1000 * 100_000, "evo_steps": 1000, "pop_size": 4, "confirm_episodes": 4},
        learner={"heartbeat_interval_s": HEARTBEAT_S},
        checkpoint={"every_s": 2.0, "journal_sync_s": 0.1, "journal_segment_bytes": 1 << 16},
    )


@dataclass
class ActorPlace:
    """A name under which actor processes come and go, one at a time or, for a moment, two."""

    name: str
    proxy: FaultProxy
    trouble: Path
    processes: list[Process] = field(default_factory=list)
    restart_at: float = 0.0
    faulty: bool = False  # something is being done to it that is to be undone

    @property
    def process(self) -> Process:
        """The newest."""
        return self.processes[-1]

    @property
    def is_running(self) -> bool:
        """Whether there is a process."""
        return bool(self.processes) and self.process.popen.poll() is None


class World:
    """All processes of one run. `step` once and again: it reads the journal, restarts what ended, does what is due."""

    def __init__(
        self, directory: Path, rng: random.Random, make_proxy: Callable[[str], FaultProxy], actors: int
    ) -> None:
        self.directory, self.rng = directory, rng
        self.notes = directory / "notes"
        self.notes.mkdir(parents=True)
        self.config = write_chaos_config(directory / "chaos.yaml")
        self._address = f"127.0.0.1:{free_port()}"
        self._numbers = itertools.count(1)
        self._agenda: list[tuple[float, int, Callable[[], object]]] = []
        self.places = [
            ActorPlace(f"a{i}", make_proxy(self._address), directory / f"a{i}.trouble") for i in range(actors)
        ]
        self.history: History | None = None
        self.learner: Process | None = None
        self.learner_started = 0.0
        self.learner_frozen = False
        self.ends_early = False  # this life of the learner may end before it is at work
        self.expect_end = False  # the learner's, without our signal
        self.first_taken_at = math.inf  # of this life of the learner
        self.last_taken_at = time.monotonic()
        self.longest_still_s = 0.0
        self.longest_wait_s = 0.0  # of these, while the learner was at work: for actors
        self.faults_in_longest_wait: list[str] = []  # each with how long it happened before the wait's end
        self._learner_away_at = time.monotonic()  # when it was not at work last
        self.restart_s: list[float] = []
        self.noticed_s: list[float] = []
        self.quick_ends = 0
        self.faults: Counter[str] = Counter()
        self._recent_faults: deque[tuple[float, str]] = deque(maxlen=20)
        self.unexpected: list[str] = []
        self._bad: Process | None = None
        self._black_holes: dict[str, float] = {}  # since when, by actor

    # -- the learner --------------------------------------------------------------------------------------------------

    @property
    def run(self) -> Path:
        """The run's directory."""
        return newest_run(self.directory / "runs")

    @property
    def serves(self) -> bool:
        """Whether the learner of this life has taken something in."""
        return self.learner is not None and self.first_taken_at < math.inf and not self.learner_frozen

    def note_fault(self, kind: str) -> None:
        """Count a fault of this kind, which has just been made to happen."""
        self.faults[kind] += 1
        self._recent_faults.append((time.monotonic(), kind))

    def start_learner(self) -> None:
        """A new run, or the next life of it."""
        notes = self.notes / "journal.synced"
        resume = ["--resume", self.run] if (self.directory / "runs").exists() else [self.config]
        where = ["--bind", self._address, *([] if len(resume) == 2 else ["--runs", self.directory / "runs"])]
        self.learner = Process(
            self.directory / "learner.log", notes, "learner", *resume, *where, module="tests.chaos.learner"
        )
        self.learner_started, self.first_taken_at = time.monotonic(), math.inf
        self.ends_early = self.rng.random() < 0.1

    def end_learner(self, how: signal.Signals = signal.SIGKILL) -> None:
        """End this life; everything that it wrote is in the history after."""
        assert self.learner is not None
        if how == signal.SIGKILL:
            self.learner.kill()
        else:
            self.learner.terminate()
            with contextlib.suppress(AssertionError):
                code = self.learner.wait(45.0)
                if code not in (0, 128 + how) and (
                    self.serves or code != -how
                ):  # one that still starts has no handler yet
                    self.unexpected.append(f"learner: ended with code {code} after SIGTERM\n{self.learner_says()}")
            if self.learner.popen.poll() is None:
                self.unexpected.append(f"learner: still there 45 s after SIGTERM\n{self.learner_says()}")
                self.learner.kill()
        self.learner, self.learner_frozen, self.expect_end = None, False, False
        self.black_holes_do_not_count()
        self._read_journal()

    def _watch_learner(self) -> None:
        if self.learner is None or (code := self.learner.popen.poll()) is None:
            return
        if not self.expect_end:
            self.unexpected.append(f"learner: ended by itself with code {code}\n{self.learner_says()}")
        self.quick_ends = self.quick_ends + 1 if self.first_taken_at == math.inf else 0
        if self.quick_ends >= 3:
            raise RuntimeError(f"the learner cannot be started again\n{self.learner_says()}")
        self.learner, self.expect_end = None, False
        self._read_journal()
        self.after(0.5, self.start_learner)

    def learner_says(self) -> str:
        """The last lines of its log."""
        return "\n".join((self.directory / "learner.log").read_text().splitlines()[-25:])

    # -- actors -------------------------------------------------------------------------------------------------------

    def start_actor(self, place: ActorPlace) -> None:
        """Another process under this name."""
        number = next(self._numbers)
        place.processes.append(
            Process(
                self.directory / f"{place.name}.log",
                self.notes / f"{place.name}-{number}.notes",
                *("--learner", place.proxy.address, "--name", place.name),
                *("--env", "tests.chaos.environment:troubled"),
                module="tests.chaos.actor",
                environ={"COVEY_CHAOS_TROUBLE": str(place.trouble)},
            )
        )

    def start_bad_actor(self, kind: str, seconds: float) -> bool:
        """An actor that does not do what it is told, for so long; False if there is one already."""
        if self._bad is not None:
            return False
        notes = self.notes / f"bad-{next(self._numbers)}.notes"
        self._bad = Process(self.directory / "bad.log", notes, self._address, kind, module="tests.chaos.bad_actor")
        self.after(seconds, self.end_bad_actor)
        return True

    def end_bad_actor(self) -> None:
        """Kill it, if there is one; it may have ended by itself."""
        bad, self._bad = self._bad, None
        if bad is None:
            return
        if bad.popen.poll() not in (None, 0):
            self.unexpected.append(f"bad actor: ended with code {bad.popen.poll()}\n{bad.output()[-2000:]}")
        bad.kill()

    def signal_actor(self, place: ActorPlace, number: signal.Signals) -> None:
        """To the newest process of this name, if it is there."""
        if place.is_running:
            os.killpg(place.process.popen.pid, number)

    def _watch_actors(self) -> None:
        for place in self.places:
            for process in place.processes[:]:
                code = process.popen.poll()
                if code is None:
                    continue
                if code not in LEAVING_CODES:
                    tail = "\n".join(process.output().splitlines()[-15:])
                    self.unexpected.append(f"actor {place.name}: ended with code {code}\n{tail}")
                place.processes.remove(process)
                place.restart_at = time.monotonic() + self.rng.uniform(0.0, 1.5)
            if not place.processes and time.monotonic() >= place.restart_at:
                self.start_actor(place)

    # -- time ---------------------------------------------------------------------------------------------------------

    def after(self, seconds: float, what: Callable[[], object]) -> None:
        """Do this later."""
        heapq.heappush(self._agenda, (time.monotonic() + seconds, next(self._numbers), what))

    def step(self) -> None:
        """Look around, and do what is due."""
        if not self.serves or self.expect_end:
            self._learner_away_at = time.monotonic()
        self._read_journal()
        self._watch_learner()
        self._watch_actors()
        while self._agenda and self._agenda[0][0] <= time.monotonic():
            heapq.heappop(self._agenda)[2]()
        time.sleep(0.03)

    def step_until(self, condition: Callable[[], object], timeout_s: float) -> bool:
        """Steps until something is true; whether it became so in time."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                return False
            self.step()
        return True

    def step_for(self, seconds: float) -> None:
        """Steps for so long."""
        self.step_until(lambda: False, seconds)

    def settle(self) -> None:
        """Do all that is still due, at once: nothing is wrong any more."""
        while self._agenda:
            heapq.heappop(self._agenda)[2]()

    def recovers(self) -> bool:
        """Whether, left alone, the learner soon takes in a fragment of an actor of every name."""
        self.step_until(lambda: self.serves, STANDSTILL_S)
        assert self.history is not None
        known = len(self.history.entries)

        def missing() -> set[str]:
            assert self.history is not None
            heard = {e.key[0] for e in self.history.entries[known:] if isinstance(e, Taken) and not e.refused}
            return {place.name for place in self.places} - heard

        if self.step_until(lambda: not missing(), STANDSTILL_S):
            return True
        self.unexpected += [f"actor {name}: nothing of it was taken in for {STANDSTILL_S} s" for name in missing()]
        return False

    # -- what is seen -------------------------------------------------------------------------------------------------

    def black_hole_opens(self, place: ActorPlace) -> None:
        """From now on the learner hears nothing of this actor."""
        if self.serves and self.history is not None and self._holds_orders(place.name):
            self._black_holes[place.name] = time.monotonic()

    def _holds_orders(self, name: str) -> bool:
        """Whether an order of this actor's newest process was neither answered nor taken back."""
        assert self.history is not None
        recent = self.history.entries[-400:]
        over = {e.order_id for e in recent if isinstance(e, Taken)}
        over |= {i for e in recent if isinstance(e, Revoked) for i in e.order_ids}
        return any(isinstance(e, Issued) and e.key[0] == name and e.order_id not in over for e in recent)

    def _read_journal(self) -> None:
        if self.history is None:
            if not (self.directory / "runs").exists() or not any((self.directory / "runs").iterdir()):
                return
            self.history = History(self.run / "journal")
        now = time.monotonic()
        owners: dict[int, str] = {}
        for entry in self.history.follow():
            if isinstance(entry, Taken) and not entry.refused:
                if self.first_taken_at == math.inf and self.learner is not None:
                    self.first_taken_at = now
                    self.restart_s.append(now - self.learner_started)
                self.longest_still_s = max(self.longest_still_s, now - self.last_taken_at)
                waited_s = now - max(self.last_taken_at, self._learner_away_at)
                if waited_s > self.longest_wait_s:
                    self.longest_wait_s = waited_s
                    self.faults_in_longest_wait = [
                        f"{kind} {now - at:.1f} s before its end"
                        for at, kind in self._recent_faults
                        if now - at < waited_s + STEP_TIMEOUT_S
                    ]
                self.last_taken_at = now
            elif isinstance(entry, Revoked) and self._black_holes:
                owners = owners or {i.order_id: i.key[0] for i in self.history.entries if isinstance(i, Issued)}
                for name in {owners[i] for i in entry.order_ids if i in owners}:
                    if name in self._black_holes:
                        self.noticed_s.append(now - self._black_holes.pop(name))

    def black_holes_do_not_count(self) -> None:
        """Nobody is there to notice them."""
        self._black_holes.clear()

    def black_hole_ends(self, place: ActorPlace) -> None:
        """The learner may hear of it again."""
        self._black_holes.pop(place.name, None)


def quantiles(values: Sequence[float]) -> dict[str, float | int | None]:
    """Number, median, 99th percentile and largest."""
    ordered = sorted(values)
    if not ordered:
        return {"n": 0, "p50": None, "p99": None, "max": None}
    at = [ordered[min(len(ordered) - 1, int(q * len(ordered)))] for q in (0.5, 0.99)]
    return {"n": len(ordered), "p50": round(at[0], 2), "p99": round(at[1], 2), "max": round(ordered[-1], 2)}


@contextlib.contextmanager
def world(directory: Path, seed: int, actors: int = 4) -> Iterator[World]:
    """A world whose processes are gone when the block is left."""
    with proxies() as make:
        made = World(directory, random.Random(f"chaos {seed}"), make, actors)
        try:
            yield made
        finally:
            made.end_bad_actor()
            for process in [p for place in made.places for p in place.processes] + [made.learner]:
                if process is not None:
                    process.kill()
