"""How a restarted learner gets back to where it was.

A restart loads the newest checkpoint, refills replay from the journal up to its position there, and then treats the
tail as if it arrived now. A deterministic run plays the tail again instead: its checkpoints are those of generations'
beginnings, what was journalled behind is noted as superseded, and only the numbers of its fragments still count.
"""

from __future__ import annotations

import base64
import contextlib
import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from google.protobuf.message import DecodeError

from covey.errors import CoveyError, StorageError
from covey.v1.fragment_pb2 import IssuedOrder, ReceivedFragment, RevokedOrders
from covey.v1.order_pb2 import Order
from covey.wire.spaces_json import spaces_from_json
from covey_server.build import PopulationFactory
from covey_server.durability.checkpointer import Checkpointer
from covey_server.evolution.lineage import Lineage, entry_from_json
from covey_server.experience.replay import Replay
from covey_server.experience.rollouts import Rollouts
from covey_server.ingest.intake import Intake
from covey_server.ingest.validation import Stream, check_fragment
from covey_server.learner import Learner
from covey_server.population import Population, Totals
from covey_server.storage.checkpoint import load_newest, set_aside_damaged
from covey_server.storage.journal import Kind, Position

logger = logging.getLogger("covey.learner")


def restore(learner: Learner, intake: Intake, factory: PopulationFactory, checkpointer: Checkpointer) -> None:
    """Bring a fresh learner to where its run directory's newest checkpoint and journal say it was.

    Raises:
        StorageError: no checkpoint can be read, or the journal is damaged before its end.
    """
    set_aside_damaged(learner.run.checkpoints)
    state, members = load_newest(learner.run.checkpoints)
    try:
        spaces = spaces_from_json(state["spaces"])
        population = factory.restored(spaces, members, _lineage(checkpointer, state["lineage"]))
        totals = Totals(**{**state["totals"], "counters": Counter(state["totals"]["counters"])})
        here, replay_from = Position(*state["journal"]), Position(*state["replay_from"])
        outstanding = [IssuedOrder.FromString(base64.b64decode(text)) for text in state["outstanding"]]
        ledger = {int(m): numbers for m, numbers in state["ledger"].items()}
        rounds = {int(m): {Position(*p) for p in kept} for m, kept in state["rounds"].items()}
        superseded = [(Position(*start), Position(*end)) for start, end in state["superseded"]]
        replay_row = int(state["replay_row"])
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, DecodeError) as exc:
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
            work.quota, work.accepted, work.limit, work.round_start, held, work.generation = numbers
            work.held, work.after = bool(held), learner.steps_after(work.generation)
        learner.sessions.restore(state["sessions"])
        for issued in outstanding:
            learner.scheduler.adopt((issued.actor_id, issued.incarnation), issued.order)
        checkpointer.best_member = state["best_member"]
        checkpointer.target_streak = state["target_streak"]
        learner.superseded = superseded
        if isinstance(population.experience, Replay):
            population.experience.begin_at(replay_row)
        refilled = _refill(learner, population, rounds, replay_from, here)
        if learner.config.training.deterministic:
            tail = f"{_supersede_tail(learner, here)} newer journal records superseded"
        else:
            tail = f"{_replay_tail(learner, intake, here)} newer journal records applied"
        # A checkpoint may know them as lost: they came back and got orders after it.
        for key in {key for key, _ in learner.scheduler.outstanding()}:
            learner.sessions.expect(key)
    learner.event(
        f"resumed generation {state['generation']} from its checkpoint: {refilled:,} env steps of experience re-read, "
        f"{tail}"
    )


def _lineage(checkpointer: Checkpointer, state: Mapping[str, Any]) -> Lineage:
    dead = checkpointer.lineage_file.read(state["dead"])
    return Lineage([*dead, *(entry_from_json(item) for item in state["living"])])


def _refill(
    learner: Learner, population: Population, rounds: Mapping[int, set[Position]], start: Position, stop: Position
) -> int:
    """Put what the ledgers already count back into replay, or into the rounds that it belongs to."""
    experience = population.experience
    for position, kind, payload in learner.journal.read(start):
        if position >= stop:
            break
        if kind != Kind.FRAGMENT or any(begin <= position < end for begin, end in learner.superseded):
            continue
        with _at(learner, position):
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


@contextlib.contextmanager
def _at(learner: Learner, position: Position) -> Iterator[None]:
    """What goes wrong within is a record's fault: its checksum is right, its content is not what is written here."""
    try:
        yield
    except (CoveyError, DecodeError, ValueError, LookupError, TypeError, OverflowError) as exc:
        raise StorageError(
            f"{learner.journal.directory}: record at byte {position.offset} of segment {position.segment} cannot be "
            f"applied ({type(exc).__name__}: {exc}); resume with the version of covey that wrote it, or restore the "
            "run from a copy"
        ) from exc


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
    stale_before = learner.totals.counters["stale_steps"]
    for position, kind, payload in learner.journal.read(start):
        count += 1
        with _at(learner, position):
            if kind == Kind.ORDER:
                issued = IssuedOrder.FromString(payload)
                if _is_of_later_members(learner, issued.order):
                    # The checkpoint that has them is damaged: their selection is made again, and its steps are played.
                    lost = _supersede_tail(learner, position)
                    learner.event(
                        f"{lost} journal records are of members that only a damaged checkpoint has: superseded"
                    )
                    break
                learner.scheduler.adopt((issued.actor_id, issued.incarnation), issued.order)
                learner.scheduler.orders_in_generation += 1
            elif kind == Kind.REVOKED:
                for order_id in RevokedOrders.FromString(payload).order_ids:
                    _complete(learner, order_id)
            elif kind == Kind.FRAGMENT:
                _apply_fragment(learner, intake, ReceivedFragment.FromString(payload), position)
    stale = learner.totals.counters["stale_steps"] - stale_before
    if stale:
        learner.event(f"{stale:,} env steps were played by policies that the crash took; they are played again")
    return count


def _is_of_later_members(learner: Learner, order: Order) -> bool:
    """Whether an order asks for more steps than members have left in the generation that the checkpoint has them in."""
    asked: Counter[int] = Counter()
    for slot in order.slots:
        asked[slot.member_id] += slot.steps
    left = {work.member_id: work.remaining for work in learner.scheduler.living}
    return any(steps > left.get(member_id, 0) for member_id, steps in asked.items())


def _supersede_tail(learner: Learner, start: Position) -> int:
    """Take nothing of the tail but the numbers of its fragments, which no actor sends again; returns its records."""
    count, end = 0, learner.journal.position
    for position, kind, payload in learner.journal.read(start):
        count += 1
        if kind == Kind.FRAGMENT:
            with _at(learner, position):
                received = ReceivedFragment.FromString(payload)
                learner.sessions.restore_mark((received.actor_id, received.incarnation), received.fragment.seq)
    if count:
        learner.superseded.append((start, end))
        learner.journal.append(Kind.NOTE, json.dumps({"superseded": [start, end]}).encode())
    return count


def _complete(learner: Learner, order_id: int) -> None:
    if any(order.order_id == order_id for _, order in learner.scheduler.outstanding()):
        learner.scheduler.complete(order_id, {})


def _apply_fragment(learner: Learner, intake: Intake, received: ReceivedFragment, position: Position) -> None:
    key = (received.actor_id, received.incarnation)
    learner.sessions.restore_mark(key, received.fragment.seq)
    if received.refused:
        _complete(learner, received.fragment.order_id)
        return
    order = learner.scheduler.order(received.fragment.order_id, key)
    if order is None or learner.population is None:
        raise ValueError(f"order {received.fragment.order_id} was not out")
    accepted = check_fragment(
        received.fragment,
        order,
        learner.population.schema,
        learner.population.spaces,
        unclipped=learner.config.algorithm.on_policy,
    )
    intake.account(key, received.fragment, order, accepted, position)
