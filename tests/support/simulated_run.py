"""A learner whose actors and clock a test drives, tick by tick: the real parts, with nothing between them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.processes import write_config
from tests.support.scripted_play import ScriptedPlay

from covey.config import load_config
from covey.run.new_run import new_run
from covey.v1.actor_service_pb2 import DescribeRequest
from covey.v1.fragment_pb2 import Fragment
from covey.v1.order_pb2 import Order
from covey_server.attendance import Attendance
from covey_server.build import PopulationFactory
from covey_server.durability.checkpointer import Checkpointer
from covey_server.ingest.intake import Intake
from covey_server.learner import Learner
from covey_server.serving.standstill import Standstill
from covey_server.storage.journal import Journal
from covey_server.training.generational import Generational
from covey_server.training.trainer import Trainer

HEARTBEAT_S = 5.0


class SimulatedActor:
    """An actor at work.

    Args:
        run: The learner.
        name: The actor's name.
        answer: Makes its answer to an order; None for no answer, ever.
        ticks: Ticks that it takes for an order.
        silent_after: Ticks after which it is heard no more; None for never.
    """

    def __init__(
        self,
        run: SimulatedRun,
        name: str,
        answer: Callable[[ScriptedPlay, Order], Fragment | None],
        ticks: int = 1,
        silent_after: int | None = None,
    ) -> None:
        self._run, self._answer, self._ticks, self._silent_after = run, answer, ticks, silent_after
        self.play = ScriptedPlay(
            run.attendance.describe(DescribeRequest(protocol_version=1)).environment, run.policy, name
        )
        self.session = run.attendance.session(run.attendance.join(self.play.request()).session)
        self.orders: list[Order] = []
        self._age = self._at_order = 0

    def tick(self) -> None:
        """Be heard, and answer an order if its time has come."""
        self._age += 1
        assert self.session is not None
        if self._silent_after is not None and self._age > self._silent_after:
            return
        self._run.attendance.heard(self.session)
        if not self.orders or not self.session.at_work:
            return
        self._at_order += 1
        if self._at_order < self._ticks:
            return
        fragment = self._answer(self.play, self.orders[0])
        if fragment is None:
            return
        del self.orders[0]
        self._at_order = 0
        self._run.intake.receive(self.session, fragment)
        self._run.attendance.quarantine_if_due(self.session)


class SimulatedRun:
    """The parts of a learner process, without its threads and its port.

    Args:
        folder: Where the run's directory is made.
        sections: Of the configuration, merged into that of a small run.
    """

    def __init__(self, folder: Path, **sections: dict[str, Any]) -> None:
        sections["learner"] = {"heartbeat_interval_s": HEARTBEAT_S, "updates": "eager"}
        config = load_config(write_config(folder / "simulated.yaml", **sections))
        run = new_run(config, folder)
        factory = PopulationFactory(config)
        self.now = 0.0
        journal = Journal.open(run.journal, 1 << 24, 1 << 24)
        self.learner = Learner(config, run, journal, 0, factory.fresh, lambda: self.now)
        self.attendance = Attendance(self.learner)
        self.intake = Intake(self.learner)
        self.trainer = Trainer(self.learner, Checkpointer(self.learner), Generational(self.learner, factory))
        self.standstill = Standstill(self.learner, self.trainer, self.attendance)
        self.trainer._disk.start()
        self.actors: list[SimulatedActor] = []

    def close(self) -> None:
        """End the thread that writes checkpoints."""
        self.trainer._disk.stop()
        self.learner.journal.close()

    def policy(self, sha256: bytes) -> bytes:
        """A policy file by its SHA-256."""
        data = self.learner.policy(sha256)
        assert data is not None
        return data

    def train(self) -> None:
        """Let the trainer do all that there is to do."""
        while True:
            with self.learner.lock:
                action = self.trainer._choose(self.learner.population)
                written = all(ledger.durable for ledger in self.learner.scheduler.ledgers)
            if action is not None:
                self.trainer._do(action)
            elif written:
                return

    def tick(self, seconds: float, *, trains: bool = True) -> None:
        """So many seconds pass: actors answer and are looked after, the trainer works, orders leave."""
        self.now += seconds
        for actor in self.actors:
            actor.tick()
        self.attendance.give_up_silent()
        self.attendance.take_back_overdue()
        if trains:
            self.train()
        waiting = [a for a in self.actors if a.session is not None and a.session.at_work]
        while waiting:
            waiting = [a for a in waiting if self._order(a)]
        self.standstill.look()

    def _order(self, actor: SimulatedActor) -> bool:
        """Give an actor its next order, if there is one."""
        assert actor.session is not None
        order = self.learner.next_order(actor.session.key)
        if order is not None:
            actor.orders.append(actor.play.fetch(order))
        return order is not None
