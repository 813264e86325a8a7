"""What becomes of a fragment: checked, journalled, put into replay, entered into every ledger; or refused."""

from __future__ import annotations

from collections import Counter

from covey.errors import FragmentError, RefusedError
from covey.v1 import actor_service_pb2 as pb
from covey.v1.fragment_pb2 import SHORTFALL_POLICY_UNAVAILABLE, Fragment, ReceivedFragment
from covey.v1.order_pb2 import Order
from covey_server.evaluations import ActorKey
from covey_server.journal import Kind, Position
from covey_server.learner import Learner
from covey_server.sessions import Session
from covey_server.validation import Accepted, check_fragment

CHECKSUM_TRIES = 3

QUARANTINE_AFTER = 3
"""An actor whose fragments were refused so often for what no honest actor sends is sent away."""


def ack_of(session: Session, resend_from_seq: int = 0) -> pb.Ack:
    """Where this actor stands."""
    return pb.Ack(received_seq=session.received_seq, durable_seq=session.durable_seq, resend_from_seq=resend_from_seq)


class Intake:
    """Takes fragments in for a learner; all under its lock."""

    def __init__(self, learner: Learner) -> None:
        self._learner = learner
        self._checksum_tries: Counter[ActorKey] = Counter()

    def receive(self, session: Session, fragment: Fragment) -> pb.Ack:
        """Take in a whole fragment: acknowledge, refuse, drop a duplicate, or ask for it again."""
        learner = self._learner
        with learner.lock:
            population = learner.population
            if population is None:
                raise RefusedError("fragments need a joined actor")
            learner.sessions.heard(session)
            match session.classify(fragment.seq):
                case "duplicate":
                    learner.totals.counters["duplicate"] += 1
                    return ack_of(session)
                case "gap":
                    learner.totals.counters["gap"] += 1
                    return ack_of(session, resend_from_seq=session.received_seq + 1)
            order = learner.scheduler.order(fragment.order_id, session.key)
            if order is None:
                return self._refuse(session, fragment, None, FragmentError("revoked_order", "the order was taken back"))
            try:
                accepted = check_fragment(fragment, order, population.schema, population.spaces)
            except FragmentError as error:
                # Damage on the way is no fault of the actor's: ask again, but not for ever.
                self._checksum_tries[session.key] += error.reason == "checksum"
                if 0 < self._checksum_tries[session.key] < CHECKSUM_TRIES:
                    learner.totals.counters["checksum"] += 1
                    return ack_of(session, resend_from_seq=fragment.seq)
                self._checksum_tries.pop(session.key, None)
                return self._refuse(session, fragment, order, error)
            self._checksum_tries.pop(session.key, None)
            received = ReceivedFragment(actor_id=session.actor_id, incarnation=session.incarnation, fragment=fragment)
            position = learner.journal.append(Kind.FRAGMENT, received.SerializeToString())
            session.received(fragment.seq)
            self.account(session.key, fragment, order, accepted, position)
            self._report(session, fragment, order, accepted)
            learner.changed.notify_all()
            return ack_of(session)

    def account(self, key: ActorKey, fragment: Fragment, order: Order, accepted: Accepted, position: Position) -> None:
        """Enter an accepted fragment into replay and every ledger; the same at arrival and from the journal."""
        population = self._learner.population
        if population is None:
            raise RuntimeError("accounting needs a population")
        training = self._learner.config.training
        for member_id, steps in accepted.steps_by_member.items():
            try:
                member = self._learner.member(member_id)
            except KeyError:  # replaced since; its rows still serve the others
                continue
            member.env_steps += steps
            batch_size = int(member.hyperparameters["batch_size"])
            if len(population.replay) >= max(batch_size, training.learning_delay):
                member.unpaid_steps += steps
        if accepted.rows:
            population.replay.insert(accepted.columns, fragment.streams, position)
        self._learner.scheduler.complete(
            fragment.order_id,
            accepted.steps_by_member,
            forget_slots=fragment.shortfall == SHORTFALL_POLICY_UNAVAILABLE,
        )
        for work in self._learner.scheduler.living:
            work.blocked = (
                self._learner.member(work.member_id).updates_owed > self._learner.config.learner.max_updates_owed
            )
        for episode in fragment.episodes:
            if episode.evaluation and not self._learner.scheduler.evaluations.result(key, episode):
                self._learner.totals.counters["evaluation_void"] += 1
        for fault in fragment.faults:
            if fault.evaluation:
                self._learner.scheduler.evaluations.fault(key, fault.task_id, fault.seed)
        self._learner.totals.env_steps += accepted.steps
        self._learner.totals.eval_env_steps += fragment.eval_steps
        self._learner.totals.wire_bytes += len(fragment.blob)
        self._learner.totals.raw_bytes += fragment.raw_bytes
        self._learner.totals.actor_wait_s += fragment.wait_s

    def _report(self, session: Session, fragment: Fragment, order: Order, accepted: Accepted) -> None:
        """Per-actor counters, staleness and events: what a resumed run need not repeat."""
        session.count(fragment, accepted.steps)
        for ref in order.policies:
            if ref.sha256:
                try:
                    member = self._learner.member(ref.member_id)
                except KeyError:
                    continue
                self._learner.totals.staleness_updates += max(0, member.updates - ref.version)
                self._learner.totals.staleness_samples += 1
        for fault in fragment.faults:
            self._learner.totals.counters["environment_fault"] += 1
            where = "evaluation" if fault.evaluation else "training"
            self._learner.event(
                f"environment {self._learner.config.environment.name} of actor {session.actor_id}, {where} slot "
                f"{fault.slot}, raised {fault.message}; it was rebuilt and the episode cut"
            )

    def _refuse(self, session: Session, fragment: Fragment, order: Order | None, error: FragmentError) -> pb.Ack:
        """Acknowledge as refused: the mark passes it, its rows do not count, its steps return to the members."""
        # The blob is not kept: nobody will read it.
        kept = Fragment(seq=fragment.seq, order_id=fragment.order_id)
        refused = ReceivedFragment(
            actor_id=session.actor_id, incarnation=session.incarnation, fragment=kept, refused=error.reason
        )
        self._learner.journal.append(Kind.FRAGMENT, refused.SerializeToString())
        session.received(fragment.seq)
        session.refused += 1
        self._learner.totals.counters["refused"] += 1
        self._learner.totals.counters[f"refused_{error.reason}"] += 1
        self._learner.event(f"fragment {fragment.seq} of actor {session.actor_id} refused ({error.reason}): {error}")
        if order is not None:
            session.violations += 1
            self._learner.scheduler.complete(fragment.order_id, {})
        self._learner.changed.notify_all()
        ack = ack_of(session)
        ack.refusals.add(seq=fragment.seq, reason=error.reason, detail=str(error))
        return ack
