"""Recovery: brings a restarted learner to where its run directory's newest checkpoint and journal say it was.

It loads the newest checkpoint, refills experience from the journal up to the checkpoint's position there, and then
applies the journal's later records as if they arrived now. A deterministic run plays these steps again instead: its
checkpoints are at the beginnings of generations, the later records are marked as superseded, and only the numbers of
their fragments still count.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from google.protobuf.message import DecodeError

from covey.config.resuming import Change
from covey.errors import CoveyError, FragmentError, StorageError
from covey.run.checkpoint_format import read_newest
from covey.run.state_upgrades import check_version
from covey.v1.fragment_pb2 import IssuedOrder, ReceivedFragment, RevokedOrders
from covey.v1.order_pb2 import Order
from covey.wire.spaces_json import spaces_from_json
from covey_server.build import PopulationFactory
from covey_server.coordination.run_state import RunState
from covey_server.durability.changed_settings import set_in_members
from covey_server.durability.checkpointer import LINEAGE_VERSION, RUN_VERSION, Checkpointer
from covey_server.evolution.lineage import Lineage, entry_from_json
from covey_server.experience.experience import AcceptedRows
from covey_server.experience.frames import stream_rows
from covey_server.experience.states import state_bytes
from covey_server.experience.stream import Stream
from covey_server.ingest.intake import Intake
from covey_server.learner import Learner
from covey_server.population import Population, Totals
from covey_server.storage.checkpoint import load_members, set_aside_damaged
from covey_server.storage.journal import Kind, Position

logger = logging.getLogger("covey.learner")

_UNREADABLE = (KeyError, TypeError, ValueError, AttributeError, OverflowError, DecodeError)
"""Exceptions that reading a state may raise if it is not of the expected form."""


def restore(
    learner: Learner,
    intake: Intake,
    factory: PopulationFactory,
    checkpointer: Checkpointer,
    changes: Sequence[Change] = (),
) -> None:
    """Bring a new learner to where its run directory's newest checkpoint and journal say it was.

    Args:
        learner: A learner without a population.
        intake: Applies the fragments that were journalled after the checkpoint.
        factory: Builds the population from the checkpoint's members.
        checkpointer: Gets back what it stores besides the learner's state: the best member and the like.
        changes: Settings with which the run goes on in the place of those that it had.

    Raises:
        StorageError: no checkpoint can be read, or the journal is damaged before its end.
    """
    set_aside_damaged(learner.run.checkpoints)
    newest = read_newest(learner.run.checkpoints)
    _, state, _ = newest
    members = load_members(*newest, learner.config.algorithm.initial_hyperparameters())
    set_by_hand = set_in_members(members, changes)
    with learner.lock:
        try:
            kept = state["run"]
            check_version("run", kept, RUN_VERSION)
            spaces = spaces_from_json(kept["spaces"])
            lineage = _lineage(checkpointer, state["lineage"])
            if set_by_hand:
                for member in members:
                    lineage.changed(member, set_by_hand)
            restored = factory.restored(spaces, members, lineage)
            learner.population = restored
            learner.totals = Totals.from_state(state["totals"])
            learner.enter_generation(members, restored.algorithm, int(kept["generation"]))
            learner.scheduler.from_state(state["scheduler"])
            for ledger in learner.scheduler.ledgers:
                ledger.later_steps = learner.later_steps(ledger.generation)
            learner.sessions.from_state(state["sessions"])
            restored.experience.from_state(state["experience"])
            checkpointer.best_member = kept["best_member"]
            checkpointer.target_streak = int(kept["target_streak"])
            checkpointer.kept_fitness = kept.get("kept_fitness")  # runs of before have none
            checkpointer.sides = [[str(agent) for agent in side] for side in kept.get("sides", [])]
            checkpointer.sides_since = int(kept.get("sides_since", 0))
            checkpointer.looked_at = int(kept.get("looked_at", -1))
            for actor_id, *returns in kept.get("returns", []):
                restored.returns.append((str(actor_id), tuple(map(float, returns))))
            checkpointer.elites.from_state(kept.get("elites", {}))
            learner.superseded = [(Position(*start), Position(*end)) for start, end in kept["superseded"]]
            here, needed_from = Position(*kept["journal"]), Position(*kept["needed_from"])
        except _UNREADABLE as exc:
            raise StorageError(
                f"checkpoint of {learner.run.path}: state is not what this version writes ({type(exc).__name__} "
                f"{exc}); resume with the version of covey that wrote it"
            ) from exc
        restored.policies.publish(m.member_id for m in members)
        learner.become(RunState.TRAINING)
        refilled = _refill(learner, restored, needed_from, here)
        if learner.config.training.deterministic:
            tail = f"{_supersede_tail(learner, here)} newer journal records superseded"
        else:
            tail = f"{_replay_tail(learner, intake, here)} newer journal records applied"
        # An actor may be lost in the checkpoint and have orders from after it, since it came back in between.
        for key in {key for key, _ in learner.scheduler.outstanding()}:
            if not learner.sessions.expect(key):
                learner.scheduler.remove_actor(key)
    learner.event(
        f"resumed generation {kept['generation']} from its checkpoint: {refilled:,} env steps of experience re-read, "
        f"{tail}"
    )


def _lineage(checkpointer: Checkpointer, state: Mapping[str, Any]) -> Lineage:
    """The lineage of all members: dead ones from the lineage file, living ones from the checkpoint's state."""
    check_version("lineage", state, LINEAGE_VERSION)
    dead = checkpointer.lineage_file.read(state["dead"])
    return Lineage([*dead, *(entry_from_json(item) for item in state["living"])])


def _refill(learner: Learner, restored: Population, start: Position, stop: Position) -> int:
    """Give experience the fragments before the checkpoint again, which the ledgers already count.

    Returns:
        Env steps that experience holds then.
    """
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
            count = sum(s.rows for s in streams)
            # Checks are not made again: the fragment passed them before it was journalled.
            behind = state_bytes(fragment.streams)
            raw = restored.schema.decompress(fragment.blob, count, fragment.raw_bytes, behind)
            actor = (received.actor_id, received.incarnation)
            restored.experience.restore(AcceptedRows(raw, count, fragment.streams, streams, actor, position))
    return len(restored.experience)


@contextlib.contextmanager
def _at(learner: Learner, position: Position) -> Iterator[None]:
    """Context manager that turns an error inside it into a StorageError, which names this journal record.

    The record's checksum is right, so its content is not what this version writes.
    """
    try:
        yield
    except (CoveyError, DecodeError, ValueError, LookupError, TypeError, OverflowError) as exc:
        raise StorageError(
            f"{learner.journal.directory}: record at byte {position.offset} of segment {position.segment} cannot be "
            f"applied ({type(exc).__name__}: {exc}); resume with the version of covey that wrote it, or restore the "
            "run from a copy"
        ) from exc


def _streams(received: ReceivedFragment) -> tuple[Stream, ...]:
    """Where the slots' rows lie in a journalled fragment, with the members that they were accepted for."""
    streams: list[Stream] = []
    first_row = 0
    for s, member_id in zip(received.fragment.streams, received.stream_members, strict=True):
        rows = stream_rows(s)
        streams.append(
            Stream(s.slot, member_id, first_row, rows, s.lead_in_rows, s.steps, s.cut_before, s.context_rows)
        )
        first_row += rows
    return tuple(streams)


def _replay_tail(learner: Learner, intake: Intake, start: Position) -> int:
    """Apply the records that were journalled after the checkpoint as if they arrived now; returns their number."""
    count = uncounted = 0
    for position, kind, payload in learner.journal.read(start):
        count += 1
        with _at(learner, position):
            if kind == Kind.ORDER:
                issued = IssuedOrder.FromString(payload)
                if _is_of_later_members(learner, issued.order):
                    # These members began after this checkpoint, and the checkpoint that has them is damaged: selection
                    # is made again, and the env steps after it are played again.
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
                uncounted += _apply_fragment(learner, intake, ReceivedFragment.FromString(payload), position)
    if uncounted:
        learner.event(f"{uncounted:,} env steps were played by policies that the crash took; they are played again")
    return count


def _is_of_later_members(learner: Learner, order: Order) -> bool:
    """Whether an order asks for more env steps than its members have left in their generations at the checkpoint."""
    asked: Counter[int] = Counter()
    for slot in order.slots:
        asked[slot.member_id] += slot.steps
    left = {ledger.member_id: ledger.remaining for ledger in learner.scheduler.ledgers}
    return any(steps > left.get(member_id, 0) for member_id, steps in asked.items())


def _supersede_tail(learner: Learner, start: Position) -> int:
    """Mark the journal's later records as superseded; returns their number.

    Only the numbers of their fragments still count, as no actor sends these again.
    """
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
    """End an outstanding order without any accepted env steps; does nothing if it has ended before."""
    if any(order.order_id == order_id for _, order in learner.scheduler.outstanding()):
        learner.scheduler.complete(order_id, {})


def _apply_fragment(learner: Learner, intake: Intake, received: ReceivedFragment, position: Position) -> int:
    """Apply a journalled fragment as if it arrived now.

    Returns:
        Env steps that do not count, because a policy that the crash took played them.
    """
    key = (received.actor_id, received.incarnation)
    learner.sessions.restore_mark(key, received.fragment.seq)
    if received.refused:
        _complete(learner, received.fragment.order_id)
        return 0
    order = learner.scheduler.order(received.fragment.order_id, key)
    if order is None or learner.population is None:
        raise ValueError(f"order {received.fragment.order_id} was not out")
    try:
        accepted = intake.check(learner.population, received.fragment, order)
    except FragmentError as exc:  # a covey that accepted more has journalled it
        _complete(learner, received.fragment.order_id)
        learner.event(f"fragment {received.fragment.seq} of actor {key[0]} does not count any more: {exc}")
        return 0
    uncounted, _ = intake.account(key, received.fragment, order, accepted, position)
    return uncounted
