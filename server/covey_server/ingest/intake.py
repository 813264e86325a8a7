"""What becomes of a fragment: checked, journalled, put into experience, entered into every ledger; or refused."""

from __future__ import annotations

from collections import Counter

from covey.errors import DiskFullError, FragmentError, RefusedError
from covey.v1 import actor_service_pb2 as pb
from covey.v1.fragment_pb2 import SHORTFALL_POLICY_UNAVAILABLE, Fragment, ReceivedFragment
from covey.v1.order_pb2 import Order
from covey_server.attendance import ack_of
from covey_server.coordination.lock import StateLock, under_lock
from covey_server.experience.experience import AcceptedRows
from covey_server.ingest.validation import Accepted, check_fragment
from covey_server.learner import Learner
from covey_server.orders.evaluations import ActorKey
from covey_server.orders.session import Session
from covey_server.population import Population
from covey_server.storage.journal import Kind, Position

CHECKSUM_TRIES = 3


class Intake:
    """Takes fragments in for a learner.

    Args:
        learner: Whose journal, experience and ledgers they go to.
    """

    def __init__(self, learner: Learner) -> None:
        self._learner = learner
        self._checksum_tries: Counter[ActorKey] = Counter()

    @property
    def lock(self) -> StateLock:
        """The learner's."""
        return self._learner.lock

    def receive(self, session: Session, fragment: Fragment) -> pb.Ack:
        """Take in a whole fragment: acknowledge, refuse, drop a duplicate, or ask for it again."""
        learner = self._learner
        with self.lock:
            learner.sessions.heard(session)
            match session.classify(fragment.seq):
                case "duplicate":
                    learner.count("duplicate")
                    return ack_of(session)
                case _ if learner.room.missing:
                    return ack_of(session)  # it stays with its actor, which is asked for it when there is room
                case "gap":
                    learner.count("gap")
                    return ack_of(session, resend_from_seq=session.received_seq + 1)
                case "new":
                    try:
                        return self._take(session, fragment)
                    except DiskFullError as exc:
                        learner.room.wait(exc)
                        return ack_of(session)

    @under_lock
    def _take(self, session: Session, fragment: Fragment) -> pb.Ack:
        """Check a new fragment and keep it; the actor's mark passes it whatever comes of it."""
        learner = self._learner
        population = learner.population
        if population is None:
            raise RefusedError("fragments need a joined actor")
        order = learner.scheduler.order(fragment.order_id, session.key)
        if order is None:
            return self._refuse(session, fragment, None, FragmentError("revoked_order", "the order was taken back"))
        try:
            accepted = self.check(population, fragment, order)
        except FragmentError as error:
            # Damage on the way is no fault of the actor's: ask again, but not for ever.
            self._checksum_tries[session.key] += error.reason == "checksum"
            if 0 < self._checksum_tries[session.key] < CHECKSUM_TRIES:
                learner.count("checksum")
                return ack_of(session, resend_from_seq=fragment.seq)
            self._checksum_tries.pop(session.key, None)
            return self._refuse(session, fragment, order, error)
        self._checksum_tries.pop(session.key, None)
        received = ReceivedFragment(
            actor_id=session.actor_id,
            incarnation=session.incarnation,
            fragment=fragment,
            stream_members=[s.member_id for s in accepted.streams],
        )
        position = learner.journal.append(Kind.FRAGMENT, received.SerializeToString())
        session.received(fragment.seq)
        stale = self.account(session.key, fragment, order, accepted, position)
        if stale:
            learner.event(
                f"{stale:,} env steps of actor {session.actor_id} were played by a policy that a crash took; "
                "they are played again"
            )
        self._report(session, fragment, order, accepted)
        learner.note_idleness()
        learner.changed.notify_all()
        return ack_of(session)

    def check(self, population: Population, fragment: Fragment, order: Order) -> Accepted:
        """Hold a fragment against its order and the run.

        Raises:
            FragmentError: it is not acceptable.
        """
        unclipped = self._learner.config.algorithm.stochastic_policies
        return check_fragment(fragment, order, population.schema, population.spaces, unclipped=unclipped)

    @under_lock
    def account(self, key: ActorKey, fragment: Fragment, order: Order, accepted: Accepted, position: Position) -> int:
        """Enter an accepted fragment into experience and every ledger; the same at arrival and from the journal.

        Returns:
            Env steps that do not count, as a policy played them that a crash of the learner took.
        """
        learner = self._learner
        population = learner.population
        if population is None:
            raise RuntimeError("accounting needs a population")
        taken, stale = self._counted(population, order, accepted)
        for member_id, steps in taken.items():
            ledger = learner.scheduler.ledger(member_id)
            if ledger is not None:  # else it was replaced since; its rows may still serve the others
                population.pace.accept(ledger, steps, len(population.experience))
        if accepted.rows:
            rows = AcceptedRows(accepted.raw, accepted.rows, fragment.streams, accepted.streams, key, position)
            population.experience.add(rows, taken)
        learner.scheduler.complete(
            fragment.order_id, taken, forget_slots=fragment.shortfall == SHORTFALL_POLICY_UNAVAILABLE
        )
        for episode in fragment.episodes:
            if episode.evaluation and not learner.scheduler.evaluations.result(key, episode):
                learner.count("evaluation_void")
        for fault in fragment.faults:
            if fault.evaluation:
                learner.scheduler.evaluations.fault(key, fault.task_id, fault.seed)
        totals = learner.totals
        totals.env_steps += sum(taken.values())
        totals.eval_env_steps += fragment.eval_steps
        totals.wire_bytes += accepted.wire_bytes
        totals.raw_bytes += fragment.raw_bytes
        totals.actor_wait_s += fragment.wait_s
        return stale

    def _counted(self, population: Population, order: Order, accepted: Accepted) -> tuple[dict[int, int], int]:
        """Env steps that count, by member, and how many do not."""
        if not population.experience.only_newest_policy:
            return accepted.steps_by_member, 0
        counted: dict[int, int] = {}
        stale = 0
        for member_id, steps in accepted.steps_by_member.items():
            if self._learner.scheduler.ledger(member_id) is None:
                continue
            indices = {i for work in order.slots if work.member_id == member_id for i in work.agent_policies}
            population.policies.publish([member_id])  # changes nothing unless a restart took the newest
            newest = {ref.sha256 for ref in population.policies.refs(member_id)}
            if {order.policies[i].sha256 for i in indices} == newest:
                counted[member_id] = steps
            else:
                stale += steps
        self._learner.totals.counters["stale_steps"] += stale
        return counted, stale

    def _report(self, session: Session, fragment: Fragment, order: Order, accepted: Accepted) -> None:
        """Per-actor counters, staleness and events: what a resumed run need not repeat."""
        session.count(fragment, accepted.wire_bytes, accepted.rows, accepted.steps)
        for ref in order.policies:
            if ref.sha256:
                ledger = self._learner.scheduler.ledger(ref.member_id)
                if ledger is None:
                    continue
                self._learner.totals.staleness_updates += max(0, ledger.member.updates - ref.version)
                self._learner.totals.staleness_samples += 1
        for fault in fragment.faults:
            self._learner.count("environment_fault")
            session.environment_faults += 1
            if session.environment_faults.bit_count() > 1:
                continue  # told at the first one, the second, the fourth, the eighth: the rest is counted
            where = "evaluation" if fault.evaluation else "training"
            self._learner.event(
                f"environment {self._learner.config.environment.name} of actor {session.actor_id}, {where} slot "
                f"{fault.slot}: {fault.message}; the episode was cut and the environment rebuilt (its fault "
                f"{session.environment_faults:,})"
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
        self._learner.count("refused")
        self._learner.count(f"refused_{error.reason}")
        self._learner.event(f"fragment {fragment.seq} of actor {session.actor_id} refused ({error.reason}): {error}")
        if order is not None:
            session.violations += 1
            self._learner.scheduler.complete(fragment.order_id, {})
            # Episodes may have ended in it.
            self._learner.scheduler.evaluations.release(session.key)
        self._learner.changed.notify_all()
        ack = ack_of(session)
        ack.refusals.add(seq=fragment.seq, reason=error.reason, detail=str(error))
        return ack
