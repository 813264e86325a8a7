"""Checkpoints of a whole run, and how a restarted learner gets back to where it was.

A checkpoint is the learner's own state plus a position in the journal; the journal is the persistence of replay. A
restart loads the newest checkpoint, refills replay from the journal up to that position, and then treats the tail as if
it arrived now.
"""

from __future__ import annotations

import base64
import dataclasses
import logging
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from covey.errors import FragmentError, StorageError
from covey.spaces_json import spaces_from_json, spaces_to_json
from covey.v1.fragment_pb2 import IssuedOrder, ReceivedFragment, RevokedOrders
from covey_server.build import PopulationFactory
from covey_server.checkpoint import load_newest, save_checkpoint
from covey_server.intake import Intake
from covey_server.journal import Kind, Position
from covey_server.learner import Learner
from covey_server.lineage import Lineage
from covey_server.member import Member
from covey_server.population import Population, Totals
from covey_server.rollouts import Rollouts
from covey_server.validation import Stream, check_fragment

logger = logging.getLogger("covey.learner")


@dataclass(frozen=True, slots=True)
class Captured:
    """A consistent picture of a run, taken under the lock, to be written without it."""

    state: dict[str, Any]
    members: list[Member]
    replay_from: Position


class Checkpointer:
    """Takes and writes checkpoints of one learner."""

    def __init__(self, learner: Learner) -> None:
        self._learner = learner
        self._written_at = learner.clock()
        # Journal positions from which each kept checkpoint needs records.
        self._needed: deque[Position] = deque(maxlen=learner.config.checkpoint.keep)
        self.best_member: int | None = None
        self.target_streak = 0

    @property
    def is_due(self) -> bool:
        """Whether the newest checkpoint is older than configured."""
        return self._learner.clock() - self._written_at > self._learner.config.checkpoint.every_s

    def capture(self) -> Captured:
        """The run as it stands; under the lock, with the algorithm unpacked."""
        learner, population = self._learner, self._learner.population
        if population is None:
            raise RuntimeError("a checkpoint needs a population")
        scheduler = learner.scheduler
        here = learner.journal.position
        experience = population.experience
        rounds: dict[str, list[list[int]]] = {}  # on-policy: where the rows of each member's round are
        if isinstance(experience, Rollouts):
            rounds = {
                str(m.member_id): [list(p) for p in experience.positions(m.member_id) if isinstance(p, Position)]
                for m in population.members
            }
            replay_from = min((Position(*p) for kept in rounds.values() for p in kept), default=here)
        else:
            oldest = experience.oldest_tag
            replay_from = oldest if isinstance(oldest, Position) else here
        state = {
            "config": learner.config.model_dump(mode="json"),
            "spaces": spaces_to_json(population.spaces),
            "epoch": learner.epoch,
            "generation": scheduler.generation,
            "orders_in_generation": scheduler.orders_in_generation,
            "steps_ordered": scheduler.steps_ordered,
            "ledger": {
                str(w.member_id): [w.quota, w.accepted, w.limit, w.round_start, int(w.held)] for w in scheduler.living
            },
            "rounds": rounds,
            "outstanding": [
                base64.b64encode(
                    IssuedOrder(actor_id=key[0], incarnation=key[1], order=order).SerializeToString()
                ).decode()
                for key, order in scheduler.outstanding()
            ],
            "sessions": learner.sessions.to_json(),
            "lineage": population.lineage.to_json(),
            "totals": vars(learner.totals)
            | {"counters": dict(learner.totals.counters), "training_s": learner.training_s},
            "journal": list(here),
            "replay_from": list(replay_from),
            "best_member": self.best_member,
            "target_streak": self.target_streak,
        }
        members = [dataclasses.replace(m, hyperparameters=dict(m.hyperparameters)) for m in population.members]
        return Captured(state, members, replay_from)

    def write(self, captured: Captured) -> str:
        """Make a captured run durable; returns the checkpoint's path.

        Raises:
            StorageError: the disk is full or not writable; the checkpoints before stay.
        """
        learner = self._learner
        self._written_at = learner.clock()
        learner.sync_journal()
        path = save_checkpoint(
            learner.run.checkpoints, captured.state, captured.members, learner.config.checkpoint.keep
        )
        self._needed.append(captured.replay_from)
        if len(self._needed) == self._needed.maxlen:
            learner.journal.drop_before(min(self._needed))
        return str(path)


def restore(learner: Learner, intake: Intake, factory: PopulationFactory, checkpointer: Checkpointer) -> None:
    """Bring a fresh learner to where its run directory's newest checkpoint and journal say it was.

    Raises:
        StorageError: no checkpoint can be read, or the journal is damaged before its end.
    """
    state, members = load_newest(learner.run.checkpoints)
    try:
        spaces = spaces_from_json(state["spaces"])
        population = factory.restored(spaces, members, Lineage.from_json(state["lineage"]))
        totals = Totals(**{**state["totals"], "counters": Counter(state["totals"]["counters"])})
        here, replay_from = Position(*state["journal"]), Position(*state["replay_from"])
        outstanding = [IssuedOrder.FromString(base64.b64decode(text)) for text in state["outstanding"]]
        ledger = {int(m): numbers for m, numbers in state["ledger"].items()}
        rounds = {int(m): {Position(*p) for p in kept} for m, kept in state["rounds"].items()}
    except (KeyError, TypeError, ValueError) as exc:
        raise StorageError(
            f"checkpoint of {learner.run.path}: state is not what this version writes ({type(exc).__name__} {exc}); "
            "resume with the version of covey that wrote it"
        ) from exc
    with learner.lock:
        learner.population = population
        learner.totals = totals
        learner.state = "training"
        learner.enter_generation(members, population.algorithm, state["generation"])
        learner.scheduler.orders_in_generation = state["orders_in_generation"]
        learner.scheduler.steps_ordered = totals.env_steps
        for member_id, numbers in ledger.items():
            work = learner.scheduler.work(member_id)
            work.quota, work.accepted, work.limit, work.round_start, held = numbers
            work.held = bool(held)
        learner.sessions.restore(state["sessions"])
        for issued in outstanding:
            learner.scheduler.adopt((issued.actor_id, issued.incarnation), issued.order)
        checkpointer.best_member = state["best_member"]
        checkpointer.target_streak = state["target_streak"]
        refilled = _refill(learner, population, rounds, replay_from, here)
        replayed = _replay_tail(learner, intake, here)
        population.policies.offer(population.algorithm.snapshot())
    learner.event(
        f"resumed generation {state['generation']} from its checkpoint: {refilled:,} env steps of experience re-read, "
        f"{replayed} newer journal records applied"
    )


def _refill(
    learner: Learner, population: Population, rounds: Mapping[int, set[Position]], start: Position, stop: Position
) -> int:
    """Put what the ledgers already count back into replay, or into the rounds that it belongs to."""
    experience = population.experience
    for position, kind, payload in learner.journal.read(start):
        if position >= stop:
            break
        if kind != Kind.FRAGMENT:
            continue
        received = ReceivedFragment.FromString(payload)
        fragment = received.fragment
        streams = _streams(received)
        if received.refused or not streams:
            continue
        columns = population.schema.decode(fragment.blob, sum(s.rows for s in streams), fragment.raw_bytes)
        if isinstance(experience, Rollouts):
            key = (received.actor_id, received.incarnation)
            for member_id, positions in rounds.items():
                if position in positions:
                    own = [s for s in streams if s.member_id == member_id]
                    experience.insert(member_id, columns, own, key, position)
        else:
            experience.insert(columns, fragment.streams, position)
    return len(experience)


def _streams(received: ReceivedFragment) -> list[Stream]:
    """The streams of a journalled fragment, as they were accepted."""
    streams: list[Stream] = []
    first_row = 0
    for s, member_id in zip(received.fragment.streams, received.stream_members, strict=True):
        rows = s.rows + s.lead_in_rows
        streams.append(Stream(s.slot, member_id, first_row, rows, s.lead_in_rows, s.steps, s.cut_before))
        first_row += rows
    return streams


def _replay_tail(learner: Learner, intake: Intake, start: Position) -> int:
    """Apply what was journalled after the checkpoint, as if it arrived now; returns the number of records."""
    count = 0
    for position, kind, payload in learner.journal.read(start):
        count += 1
        if kind == Kind.ORDER:
            issued = IssuedOrder.FromString(payload)
            learner.scheduler.adopt((issued.actor_id, issued.incarnation), issued.order)
            learner.scheduler.orders_in_generation += 1
        elif kind == Kind.REVOKED:
            for order_id in RevokedOrders.FromString(payload).order_ids:
                _complete(learner, order_id)
        elif kind == Kind.FRAGMENT:
            _apply_fragment(learner, intake, ReceivedFragment.FromString(payload), position)
    return count


def _complete(learner: Learner, order_id: int) -> None:
    if any(order.order_id == order_id for _, order in learner.scheduler.outstanding()):
        learner.scheduler.complete(order_id, {})


def _apply_fragment(learner: Learner, intake: Intake, received: ReceivedFragment, position: Position) -> None:
    key = (received.actor_id, received.incarnation)
    learner.sessions.restore_mark(key, received.fragment.seq)
    order = learner.scheduler.order(received.fragment.order_id, key)
    if received.refused or order is None or learner.population is None:
        _complete(learner, received.fragment.order_id)
        return
    try:
        accepted = check_fragment(
            received.fragment,
            order,
            learner.population.schema,
            learner.population.spaces,
            unclipped=learner.config.algorithm.on_policy,
        )
    except FragmentError as exc:
        raise StorageError(f"journal at {position}: an accepted fragment is not acceptable any more: {exc}") from exc
    intake.account(key, received.fragment, order, accepted, position)
