"""Takes in an actor's message: checks it, writes it to the journal, stores its timesteps, counts its env steps."""

from __future__ import annotations

from collections import Counter

from covey.errors import DiskFullError, FragmentError, RefusedError
from covey.v1 import actor_service_pb2 as pb
from covey.v1.fragment_pb2 import SHORTFALL_POLICY_UNAVAILABLE, Fragment, ReceivedFragment
from covey.v1.order_pb2 import Order
from covey_server.attendance import ack_of
from covey_server.coordination.lock import StateLock, under_lock
from covey_server.experience.experience import AcceptedRows
from covey_server.ingest.evaluation_answers import EvaluationAnswers
from covey_server.ingest.outside_spaces import OutsideSpaces
from covey_server.ingest.validation import Accepted, check_fragment
from covey_server.learner import Learner
from covey_server.orders.evaluations import ActorKey
from covey_server.orders.session import Session
from covey_server.population import Population
from covey_server.storage.journal import Kind, Position

CHECKSUM_TRIES = 3
"""A fragment whose checksum fails this often in a row is refused instead of asked for again."""


class Intake:
    """Takes in the messages (fragments) with timesteps that a learner's actors send.

    Args:
        learner: Its journal, experience and step counts receive them.
    """

    def __init__(self, learner: Learner) -> None:
        self._learner = learner
        self._checksum_tries: Counter[ActorKey] = Counter()
        self._evaluations = EvaluationAnswers(learner)
        self._outside = OutsideSpaces(learner)

    @property
    def lock(self) -> StateLock:
        """The learner's lock; methods marked `under_lock` assert that it is held."""
        return self._learner.lock

    def receive(self, session: Session, fragment: Fragment) -> pb.Ack:
        """Handle a message of an actor: accept it, refuse it, drop a duplicate, or ask for it again.

        Args:
            session: The session of the actor that sent it.
            fragment: The fragment, assembled from its parts.

        Returns:
            The acknowledgement for the actor.

        Raises:
            RefusedError: the run has no population yet.
            StorageError: the journal cannot be written, for another reason than a full disk.
        """
        learner = self._learner
        with self.lock:
            learner.sessions.heard(session)
            match session.classify(fragment.seq):
                case "duplicate":
                    learner.count("duplicate")
                    return ack_of(session)
                case _ if learner.room.missing:
                    return ack_of(session)  # the actor keeps it, and is asked for it when the disk has space
                case "gap":
                    learner.count("gap")
                    return ack_of(session, resend_from_seq=session.received_seq + 1)
                case "new":
                    try:
                        return self._check_and_store(session, fragment)
                    except DiskFullError as exc:
                        learner.room.wait(exc)
                        return ack_of(session)

    @under_lock
    def _check_and_store(self, session: Session, fragment: Fragment) -> pb.Ack:
        """Check a new message, and store or refuse it; either way it counts as received and is not sent again."""
        learner = self._learner
        population = learner.population
        if population is None:
            raise RefusedError("run has no population yet, expected Join before the first fragment; join first")
        learner.scheduler.answered(session.key)
        order = learner.scheduler.order(fragment.order_id, session.key)
        if order is None:
            return self._refuse(session, fragment, None, FragmentError("revoked_order", "the order was taken back"))
        try:
            accepted = self.check(population, fragment, order)
        except FragmentError as error:
            # The actor is not to blame for damage on the way: ask for the fragment again, but not for ever.
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
        # Journal first: only what it has may be acknowledged and learned from, or a crash would lose it.
        position = learner.journal.append(Kind.FRAGMENT, received.SerializeToString())
        session.received(fragment.seq)
        uncounted, evaluated = self.account(session.key, fragment, order, accepted, position)
        self._evaluations.look(session, fragment, order, evaluated)
        session.answered += 1
        if uncounted:
            learner.event(
                f"{uncounted:,} env steps of actor {session.actor_id} were played by a policy that a crash took; "
                "they are played again"
            )
        self._count_and_log(session, fragment, order, accepted)
        for episode in fragment.episodes:
            if not episode.evaluation:
                learner.curves.episodes.add(episode.member_id, episode.returns, episode.length)
        self._outside.look(session, accepted.columns, population.spaces)
        if not fragment.shortfall:
            self._measure(session.key, order, fragment)
        learner.note_idleness(session.key)
        learner.changed.notify_all()
        return ack_of(session)

    def check(self, population: Population, fragment: Fragment, order: Order) -> Accepted:
        """Check an actor's message against the order that it answers and against the run's format of rows.

        Raises:
            FragmentError: the fragment is not acceptable.
        """
        unclipped = self._learner.config.algorithm.stochastic_policies
        return check_fragment(
            fragment,
            order,
            population.schema,
            population.spaces,
            unclipped=unclipped,
            state_size=population.policies.state_size,
        )

    @under_lock
    def _note_training(self, key: ActorKey, *, brought: bool) -> None:
        """Note whether an answer brought any of the training env steps asked for; tell of many that did not."""
        empty = self._learner.scheduler.trained(key, brought=brought)
        if empty:
            self._learner.count("answers_empty")
        if empty > 1 and empty.bit_count() == 1:  # told at the second, fourth, eighth ... in a row
            self._learner.event(
                f"{empty:,} orders in a row brought none of the env steps asked of actor {key[0]}; others come first"
            )

    @under_lock
    def account(
        self, key: ActorKey, fragment: Fragment, order: Order, accepted: Accepted, position: Position
    ) -> tuple[int, Counter[str]]:
        """Store an accepted fragment's rows as experience, and count its env steps in every ledger.

        Used for fragments that arrive and, after a restart, for those in the journal.

        Args:
            key: The actor's id and incarnation.
            fragment: The fragment.
            order: The order that it answers.
            accepted: What the checks found.
            position: Where the journal has the fragment.

        Returns:
            Env steps that do not count, because they were played by a policy newer than those that survived a crash;
            and how many evaluation episodes were of which kind, as `Evaluations.result` has them.
        """
        learner = self._learner
        population = learner.population
        if population is None:
            raise RuntimeError("accounting needs a population")
        counted, uncounted = self._counted_steps(population, order, accepted)
        for member_id, steps in counted.items():
            ledger = learner.scheduler.ledger(member_id)
            if ledger is not None:  # else the member was replaced; its rows may still serve others
                population.pace.accept(ledger, steps, len(population.experience))
        if accepted.rows:
            rows = AcceptedRows(accepted.raw, accepted.rows, fragment.streams, accepted.streams, key, position)
            population.experience.add(rows, counted)
        forgotten = fragment.shortfall == SHORTFALL_POLICY_UNAVAILABLE
        learner.scheduler.complete(fragment.order_id, counted, forget_slots=forgotten)
        if order.slots and not forgotten:
            self._note_training(key, brought=bool(accepted.steps_by_member))
        trained = (e for e in fragment.episodes if not e.evaluation and any(e.returns))
        population.returns.extend((key[0], tuple(e.returns)) for e in trained)
        evaluations = learner.scheduler.evaluations
        evaluated = Counter[str](evaluations.result(key, e) for e in fragment.episodes if e.evaluation)
        learner.totals.counters["evaluation_void"] += evaluated["late"] + evaluated["wrong"]
        for fault in fragment.faults:
            if fault.evaluation:
                learner.scheduler.evaluations.fault(key, fault.task_id, fault.seed)
        totals = learner.totals
        totals.env_steps += sum(counted.values())
        totals.eval_env_steps += fragment.eval_steps
        totals.wire_bytes += accepted.wire_bytes
        totals.raw_bytes += fragment.raw_bytes
        totals.actor_wait_s += fragment.wait_s
        return uncounted, evaluated

    def _measure(self, key: ActorKey, order: Order, fragment: Fragment) -> None:
        """Choose the length of an actor's next orders by this answered one, and tell of a change."""
        steps = self._learner.scheduler.lengths.measure(key, order, fragment.work_s, fragment.raw_bytes)
        if steps is not None:
            self._learner.event(
                f"orders ask for up to {steps} steps of each environment, by the seconds that they take"
            )

    def _counted_steps(self, population: Population, order: Order, accepted: Accepted) -> tuple[dict[int, int], int]:
        """Return the env steps that count, by member, and how many do not.

        With experience that takes only the newest policy's rows, env steps count if exactly the member's present
        policies played them. After a crash the learner's weights may be older than those that actors have.
        """
        if not population.experience.only_newest_policy:
            return accepted.steps_by_member, 0
        counted: dict[int, int] = {}
        uncounted = 0
        for member_id, steps in accepted.steps_by_member.items():
            if self._learner.scheduler.ledger(member_id) is None:
                continue
            indices = {i for work in order.slots if work.member_id == member_id for i in work.agent_policies}
            population.policies.publish([member_id])  # changes nothing except after a restart
            newest = {ref.sha256 for ref in population.policies.refs(member_id)}
            if {order.policies[i].sha256 for i in indices} == newest:
                counted[member_id] = steps
            else:
                uncounted += steps
        self._learner.totals.counters["stale_steps"] += uncounted
        return counted, uncounted

    def _count_and_log(self, session: Session, fragment: Fragment, order: Order, accepted: Accepted) -> None:
        """Update an actor's counters and the mean age of the policies it played, and log errors of its environments."""
        session.count(fragment, accepted.wire_bytes, accepted.rows, accepted.steps)
        trained_with = {i for work in order.slots for i in work.agent_policies}
        for ref in (order.policies[i] for i in sorted(trained_with)):
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
                continue  # logged at the first fault, the second, the fourth, the eighth ..., else only counted
            where = "evaluation" if fault.evaluation else "training"
            self._learner.event(
                f"environment {self._learner.config.environment.name} of actor {session.actor_id}, {where} slot "
                f"{fault.slot}: {fault.message}; the episode was cut and the environment rebuilt (its fault "
                f"{session.environment_faults:,})"
            )

    def _refuse(self, session: Session, fragment: Fragment, order: Order | None, error: FragmentError) -> pb.Ack:
        """Refuse a message: journal that, answer with the reason, and let its env steps be ordered again."""
        # The journal keeps that and why it was refused, but not the rows: nobody will read them.
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
            if order.slots:
                self._note_training(session.key, brought=False)
            # Evaluation episodes may have ended in the fragment; their seeds are played again.
            self._learner.scheduler.evaluations.release(session.key)
            self._learner.note_idleness(session.key)
        self._learner.changed.notify_all()
        ack = ack_of(session)
        ack.refusals.add(seq=fragment.seq, reason=error.reason, detail=str(error))
        return ack
