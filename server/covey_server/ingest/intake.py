"""What becomes of a fragment: checked, journalled, put into replay, entered into every ledger; or refused."""

from __future__ import annotations

from collections import Counter

from covey.errors import DiskFullError, FragmentError, RefusedError
from covey.v1 import actor_service_pb2 as pb
from covey.v1.fragment_pb2 import SHORTFALL_POLICY_UNAVAILABLE, Fragment, ReceivedFragment
from covey.v1.order_pb2 import Order
from covey_server.experience.replay import Replay
from covey_server.experience.rollouts import Rollouts
from covey_server.ingest.validation import Accepted, check_fragment
from covey_server.learner import Learner
from covey_server.orders.evaluations import ActorKey
from covey_server.orders.sessions import Session
from covey_server.storage.journal import Kind, Position

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
            learner.sessions.heard(session)
            match session.classify(fragment.seq):
                case "duplicate":
                    learner.totals.counters["duplicate"] += 1
                    return ack_of(session)
                case _ if learner.room.missing:
                    return ack_of(session)  # it stays with its actor, which is asked for it when there is room
                case "gap":
                    learner.totals.counters["gap"] += 1
                    return ack_of(session, resend_from_seq=session.received_seq + 1)
                case "new":
                    try:
                        return self._take(session, fragment)
                    except DiskFullError as exc:
                        learner.room.wait(exc)
                        return ack_of(session)

    def _take(self, session: Session, fragment: Fragment) -> pb.Ack:
        learner = self._learner
        population = learner.population
        if population is None:
            raise RefusedError("fragments need a joined actor")
        order = learner.scheduler.order(fragment.order_id, session.key)
        if order is None:
            return self._refuse(session, fragment, None, FragmentError("revoked_order", "the order was taken back"))
        try:
            accepted = check_fragment(
                fragment, order, population.schema, population.spaces, unclipped=learner.config.algorithm.on_policy
            )
        except FragmentError as error:
            # Damage on the way is no fault of the actor's: ask again, but not for ever.
            self._checksum_tries[session.key] += error.reason == "checksum"
            if 0 < self._checksum_tries[session.key] < CHECKSUM_TRIES:
                learner.totals.counters["checksum"] += 1
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
        stale_before = learner.totals.counters["stale_steps"]
        self.account(session.key, fragment, order, accepted, position)
        stale = learner.totals.counters["stale_steps"] - stale_before
        if stale:
            learner.event(
                f"{stale:,} env steps of actor {session.actor_id} were played by a policy that a crash took; "
                "they are played again"
            )
        self._report(session, fragment, order, accepted)
        learner.note_idleness()
        learner.changed.notify_all()
        return ack_of(session)

    def account(self, key: ActorKey, fragment: Fragment, order: Order, accepted: Accepted, position: Position) -> None:
        """Enter an accepted fragment into experience and every ledger; the same at arrival and from the journal."""
        learner = self._learner
        population = learner.population
        if population is None:
            raise RuntimeError("accounting needs a population")
        experience = population.experience
        if isinstance(experience, Rollouts):
            steps = self._to_rollouts(experience, key, order, accepted, position)
        else:
            steps = accepted.steps_by_member
            self._to_replay(experience, fragment, accepted, position)
        learner.scheduler.complete(
            fragment.order_id, steps, forget_slots=fragment.shortfall == SHORTFALL_POLICY_UNAVAILABLE
        )
        for episode in fragment.episodes:
            if episode.evaluation and not learner.scheduler.evaluations.result(key, episode):
                learner.totals.counters["evaluation_void"] += 1
        for fault in fragment.faults:
            if fault.evaluation:
                learner.scheduler.evaluations.fault(key, fault.task_id, fault.seed)
        learner.totals.env_steps += sum(steps.values())
        learner.totals.eval_env_steps += fragment.eval_steps
        learner.totals.wire_bytes += accepted.wire_bytes
        learner.totals.raw_bytes += fragment.raw_bytes
        learner.totals.actor_wait_s += fragment.wait_s

    def _to_replay(self, replay: Replay, fragment: Fragment, accepted: Accepted, position: Position) -> None:
        """Off-policy: everybody learns from all rows, and the members whose steps these are owe updates for them."""
        config = self._learner.config
        for member_id, steps in accepted.steps_by_member.items():
            try:
                member = self._learner.member(member_id)
            except KeyError:  # replaced since; its rows still serve the others
                continue
            member.env_steps += steps
            if len(replay) >= max(int(member.hyperparameters["batch_size"]), config.training.learning_delay):
                member.unpaid_steps += steps
            self._learner.scheduler.work(member_id).blocked = member.updates_owed > config.learner.max_updates_owed
        if accepted.rows:
            replay.insert(accepted.columns, fragment.streams, position)

    def _to_rollouts(
        self, rollouts: Rollouts, key: ActorKey, order: Order, accepted: Accepted, position: Position
    ) -> dict[int, int]:
        """On-policy: a member learns from rows of its own, played by the policy it has now; returns the steps taken.

        Others are of a policy that a crash of the learner took away: their steps are played again.
        """
        steps: dict[int, int] = {}
        population = self._learner.population
        for member_id, count in accepted.steps_by_member.items():
            streams = [s for s in accepted.streams if s.member_id == member_id]
            played = {
                order.policies[i].sha256 for w in order.slots if w.member_id == member_id for i in w.agent_policies
            }
            try:
                member = self._learner.member(member_id)
            except KeyError:
                continue
            if population is None or played != {ref.sha256 for ref in population.policies.refs(member_id)}:
                self._learner.totals.counters["stale_steps"] += count
                continue
            member.env_steps += count
            steps[member_id] = count
            rollouts.insert(member_id, accepted.columns, streams, key, position)
        return steps

    def _report(self, session: Session, fragment: Fragment, order: Order, accepted: Accepted) -> None:
        """Per-actor counters, staleness and events: what a resumed run need not repeat."""
        session.count(fragment, accepted.wire_bytes, accepted.rows, accepted.steps)
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
        self._learner.totals.counters["refused"] += 1
        self._learner.totals.counters[f"refused_{error.reason}"] += 1
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
