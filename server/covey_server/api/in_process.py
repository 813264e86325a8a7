"""An actor in a thread of the learner's process, which gets orders and delivers experience without a network."""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Callable

import covey
from covey.acting import LoadedPolicy
from covey.collect import Collector
from covey.envs import Slots
from covey.errors import EnvironmentLoadError, RefusedError
from covey.networks.encoders import known_kinds
from covey.rows import RowSchema
from covey.spaces import EnvironmentSpaces
from covey.v1.actor_service_pb2 import JoinRequest
from covey.v1.fragment_pb2 import Fragment
from covey.v1.order_pb2 import Order
from covey.wire.limits import NEWEST_PROTOCOL_VERSION
from covey.wire.messages import spaces_to_proto
from covey_server.attendance import Attendance
from covey_server.coordination.threads import WatchedThread
from covey_server.ingest.intake import Intake
from covey_server.learner import Learner

WAIT_S = 1.0
"""Seconds that an actor without orders waits for a wake-up before it asks again."""


class InProcessActor(WatchedThread):
    """Thread that steps environments by the learner's orders until `leave` is called; an exception in it ends the run.

    Args:
        learner: Learner that gives the orders.
        attendance: Admits the actor to the run.
        intake: Receives the actor's fragments.
        slots: The environments.
        spaces: Spaces of the environments.
        train_slots: Number of environments that train; the others evaluate.
        on_fragment: Called with every order and the fragment that answers it, before the learner receives it.
    """

    def __init__(
        self,
        learner: Learner,
        attendance: Attendance,
        intake: Intake,
        slots: Slots,
        spaces: EnvironmentSpaces,
        train_slots: int,
        on_fragment: Callable[[Order, Fragment], None],
    ) -> None:
        super().__init__("actor", learner.threads)
        self._learner, self._attendance, self._intake = learner, attendance, intake
        self._spaces, self._slots, self._train_slots = spaces, slots, train_slots
        self._on_fragment = on_fragment
        self._wake = threading.Event()
        self._leaving = threading.Event()
        self._policies: dict[bytes, LoadedPolicy] = {}

    def leave(self) -> None:
        """End the thread at its next env step and wait for it; may be called from any other thread."""
        self._leaving.set()
        self._wake.set()
        if self.ident is not None:
            self.join()

    def work(self) -> None:
        """Join the run, then work on orders until `leave` is called; the thread's main function."""
        learner = self._learner
        learner.bell.answer(self._wake.set)
        joined = self._attendance.join(
            JoinRequest(
                protocol_version=NEWEST_PROTOCOL_VERSION,
                actor_id="local",
                incarnation=secrets.randbits(63) + 1,
                spaces=spaces_to_proto(self._spaces),
                train_slots=self._train_slots,
                eval_slots=self._slots.count - self._train_slots,
                hostname=os.uname().nodename,
                software_version=covey.__version__,
                encoder_kinds=known_kinds(),
            )
        )
        session = self._attendance.session(joined.session)
        assert session is not None  # `join` has just created it
        schema = RowSchema.of(self._spaces)
        collector = Collector(self._slots, self._spaces, schema, self._train_slots, joined.compression_level)
        seq = 0
        while not self._leaving.is_set():
            # Cleared before asking: an order that comes up after the question sets it again, and none is missed.
            self._wake.clear()
            order = learner.next_order(session.key)
            if order is None:
                self._wake.wait(WAIT_S)
                continue
            fragment = collector.run(order, self._loaded(order), self._leaving.is_set)
            if self._leaving.is_set():
                return
            if fragment.faults and not fragment.eval_steps and not any(s.steps for s in fragment.streams):
                # Not one env step was possible. With other actors the learner would give the steps to them; here there
                # are none, so the run cannot go on.
                raise EnvironmentLoadError(f"env: no environment can make a step: {fragment.faults[0].message}")
            # Fragments are numbered from 1 without gaps, as on the network.
            seq += 1
            fragment.seq = seq
            self._on_fragment(order, fragment)
            ack = self._intake.receive(session, fragment)
            if ack.refusals:
                raise RefusedError(f"fragment {seq} of the actor in this process: {ack.refusals[0].detail}")

    def _loaded(self, order: Order) -> dict[bytes, LoadedPolicy]:
        """Load the policies that an order names, by hash; policies of earlier orders are dropped."""
        named = {ref.sha256 for ref in order.policies if ref.sha256}
        self._policies = {
            sha: self._policies.get(sha) or LoadedPolicy.decode(self._learner.policy(sha) or b"") for sha in named
        }
        return self._policies
