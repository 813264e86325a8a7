"""Checks an actor's message between its arrival and the learner's memory, the cheapest checks first.

What a fragment claims is compared with its order and with the run's schema before anything is decompressed, and the
decompressed columns before anything is stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from covey.errors import FragmentError
from covey.rows import Columns, RowKind, RowSchema
from covey.spaces import EnvironmentSpaces
from covey.v1.fragment_pb2 import Episode, Fragment
from covey.v1.order_pb2 import Order
from covey.wire.limits import (
    MAX_EPISODE_STEPS,
    MAX_FAULT_CHARACTERS,
    MAX_REWARD,
    MAX_SLOTS,
    MAX_WAIT_S,
    POLICY_PREFIX_BYTES,
)
from covey_server.experience.states import state_bytes
from covey_server.experience.stream import Stream
from covey_server.ingest.frame_checks import check_frames
from covey_server.ingest.row_checks import check_lead_in, check_values
from covey_server.ingest.state_checks import StateSize, check_state_sizes, check_states

MAX_REPORTS = 1 << 16
"""Most episodes, and most faults, in one fragment: far above what an honest actor has, far below what hurts."""

_START = 0
_CLOSING = np.zeros(256, bool)
"""Kinds of rows that may be the last one of a stream."""
_CLOSING[[RowKind.FINAL, RowKind.CUT, RowKind.TAIL]] = True

_FOLLOWS = np.zeros((256, 256), bool)
"""[before, after]: whether a row of one kind may follow one of another in a stream; 0 stands for the stream's start."""
for _before, _after in {
    _START: (RowKind.CONTEXT, RowKind.LEAD_IN, RowKind.STEP, RowKind.CUT),
    RowKind.CONTEXT: (RowKind.CONTEXT, RowKind.STEP, RowKind.CUT),
    RowKind.LEAD_IN: (RowKind.LEAD_IN, RowKind.STEP, RowKind.CUT),
    RowKind.STEP: (RowKind.STEP, RowKind.FINAL, RowKind.CUT, RowKind.TAIL),
    RowKind.FINAL: (RowKind.STEP, RowKind.CUT),
    RowKind.CUT: (RowKind.STEP, RowKind.CUT),
}.items():
    _FOLLOWS[_before, list(_after)] = True

_BITS = 20
"""Bits of a count of rows, of which a fragment has fewer (`covey.rows.MAX_ROWS`)."""
_COUNTS = np.zeros(256, np.int64)
"""By row kind, what it adds to a sum of three counts: of step rows in its lowest bits, lead-in rows, context rows."""
_COUNTS[[RowKind.STEP, RowKind.LEAD_IN, RowKind.CONTEXT]] = 1, 1 << _BITS, 1 << 2 * _BITS


@dataclass(frozen=True, slots=True)
class Accepted:
    """An actor's message of timesteps that has passed every check.

    Attributes:
        raw: The decompressed columns, one after another, and the states of policies with memory behind them.
        columns: Read-only views of `raw` by column name.
        streams: Where each slot's rows lie in the columns.
        steps_by_member: Training env steps by member id; members without any are left out.
        episodes: The episodes that the fragment reports.
        wire_bytes: Length of the compressed rows (the message's own field is copied each time it is looked at).
    """

    raw: bytes
    columns: Columns
    streams: tuple[Stream, ...]
    steps_by_member: dict[int, int]
    episodes: Sequence[Episode]
    wire_bytes: int

    @property
    def rows(self) -> int:
        """Number of all rows (timesteps) in the message, repeated earlier ones included."""
        return len(self.columns["kind"])

    @property
    def steps(self) -> int:
        """Number of training env steps in the message."""
        return sum(self.steps_by_member.values())


def check_fragment(
    fragment: Fragment,
    order: Order,
    schema: RowSchema,
    spaces: EnvironmentSpaces,
    *,
    unclipped: bool = False,
    state_size: StateSize = lambda sha256: None,
) -> Accepted:
    """Check an actor's whole message of timesteps against the order (piece of work) that it answers.

    Of evaluation episodes only the form is checked: the caller knows which tasks and seeds are open.

    Args:
        fragment: The fragment as the actor sent it.
        order: The order that it answers.
        schema: The run's row schema.
        spaces: The run's spaces.
        unclipped: Whether Box actions are samples from before they were clipped (on-policy runs), which may lie outside
            of
            the bounds.
        state_size: How many numbers the state of each of the order's policies has.

    Raises:
        FragmentError: with the reason, one of "schema", "order", "slot", "rows", "episodes", "faults", "size",
            "checksum",
            "flags", "not_finite", "action_range", "mask", "states".
    """
    if fragment.schema_hash != schema.hash:
        raise FragmentError(
            "schema", f"schema hash {fragment.schema_hash[:16].hex() or 'unset'}, expected {schema.hash.hex()}"
        )
    if fragment.order_id != order.order_id:
        raise FragmentError("order", f"answers order {fragment.order_id}, expected {order.order_id}")
    streams = _check_streams(fragment, order, spaces)
    check_state_sizes(fragment, order, state_size, len(spaces.agents))
    _check_reports(fragment, order, len(spaces.agents))
    rows = sum(s.rows for s in streams)
    blob = fragment.blob  # each look at this field copies it
    if rows:
        raw = schema.decompress(blob, rows, fragment.raw_bytes, state_bytes(fragment.streams))
        columns = schema.view(raw, rows)
        _check_kinds(np.asarray(columns["kind"], np.uint8), streams)
        check_values(columns, spaces, unclipped)
        check_lead_in(columns, streams, spaces)
        check_frames(columns, spaces)
        check_states(fragment, raw)
    else:
        if blob or fragment.raw_bytes:
            raise FragmentError("size", f"no rows, but {len(blob)} bytes of compressed rows, expected none")
        raw, columns = b"", schema.empty(0)
    steps: dict[int, int] = {}
    for s in streams:
        if s.steps:
            steps[s.member_id] = steps.get(s.member_id, 0) + s.steps
    return Accepted(raw, columns, streams, steps, fragment.episodes, len(blob))


def _check_streams(fragment: Fragment, order: Order, spaces: EnvironmentSpaces) -> tuple[Stream, ...]:
    """Check that rows come from environments that the order names, each once and within its number of env steps.

    Returns:
        Where each slot's rows lie in the columns.

    Raises:
        FragmentError: with reason "slot" or "rows".
    """
    streams: list[Stream] = []
    ordered = iter(order.slots)
    first_row = 0
    # Where policies read stacks of frames no agent waits, so that there is nothing to lead in.
    most_context = spaces.frame_stack - 1
    agents = 0 if most_context else len(spaces.agents)
    # One iterator over the order's slots: each stream searches on from where the one before was found.
    for stream in fragment.streams:
        slot, rows, lead_in, steps = stream.slot, stream.rows, stream.lead_in_rows, stream.steps
        for work in ordered:
            if work.slot == slot:
                break
        else:
            raise FragmentError(
                "slot", f"slot {slot}, expected slots that order {order.order_id} names, each once, in its sequence"
            )
        ordered_steps = work.steps
        if steps > ordered_steps:
            raise FragmentError("rows", f"slot {slot}: {steps} steps, expected at most the {ordered_steps} ordered")
        # A last row closes the stream, so there are more rows than steps. If every step ends an episode there are two
        # rows for each step, and one or two more for a cut and the tail.
        if not steps < rows <= 2 * (ordered_steps + 1) or lead_in > agents:
            raise FragmentError(
                "rows",
                f"slot {slot}: {rows} rows and {lead_in} lead-in rows for {steps} steps, expected more than "
                f"steps, up to two for each of {ordered_steps} ordered, and a lead-in row for each of {agents} agents",
            )
        context, cut_before = stream.context_rows, stream.cut_before
        if context and (context > most_context or cut_before):
            raise FragmentError(
                "rows",
                f"slot {slot}: {context} context rows{' behind a cut' * cut_before}, expected at most {most_context}, "
                "and none where the slot's episode was abandoned before",
            )
        all_rows = context + lead_in + rows
        streams.append(Stream(slot, work.member_id, first_row, all_rows, lead_in, steps, cut_before, context))
        first_row += all_rows
    return tuple(streams)


def _check_reports(fragment: Fragment, order: Order, agents: int) -> None:
    """Check the number and form of the episodes, environment errors and times that an actor's message reports.

    Raises:
        FragmentError: with reason "episodes", "not_finite" or "faults".
    """
    members = {work.slot: work.member_id for work in order.slots} if fragment.episodes else {}
    evaluations = sum(e.evaluation for e in fragment.episodes)
    if len(fragment.episodes) > MAX_REPORTS or evaluations > fragment.eval_steps:
        raise FragmentError(
            "episodes",
            f"{len(fragment.episodes)} episodes, {evaluations} of them evaluations, in {fragment.eval_steps} "
            f"evaluation steps; expected at most one a step and {MAX_REPORTS} in all",
        )
    if fragment.eval_steps > order.eval_steps * MAX_SLOTS:
        most = f"at most {order.eval_steps} in each slot" if order.eval_steps else "none"
        raise FragmentError("episodes", f"{fragment.eval_steps} evaluation steps, expected {most} in this order")
    longest = {task.task_id: task.max_episode_steps or MAX_EPISODE_STEPS for task in order.evaluations}
    for e in fragment.episodes:
        kind = f"{'evaluation' if e.evaluation else 'training'} episode of slot {e.slot}"
        # Tasks of earlier orders have the limit of all; their own is not known here.
        most_steps = longest.get(e.task_id, MAX_EPISODE_STEPS) if e.evaluation else MAX_EPISODE_STEPS
        if len(e.returns) != agents or not 1 <= e.length <= most_steps:
            raise FragmentError(
                "episodes",
                f"{kind}: {len(e.returns)} returns, length {e.length}; expected {agents}, 1 to {most_steps} env steps",
            )
        if not all(abs(value) <= MAX_REWARD * e.length for value in e.returns):  # false for NaN too
            raise FragmentError(
                "not_finite",
                f"{kind}: returns {list(e.returns)[:8]}, expected sums of {e.length} rewards of at most {MAX_REWARD:g}",
            )
        if e.evaluation and len(e.policies) != (size := POLICY_PREFIX_BYTES * agents):
            raise FragmentError("episodes", f"{kind}: {len(e.policies)} bytes of policies, expected {size}")
        if not e.evaluation and members.get(e.slot) != e.member_id:
            raise FragmentError(
                "episodes", f"{kind}: member {e.member_id}, expected {members.get(e.slot, 'no such slot')}"
            )
    if len(fragment.faults) > MAX_REPORTS or any(len(f.message) > MAX_FAULT_CHARACTERS for f in fragment.faults):
        raise FragmentError(
            "faults",
            f"{len(fragment.faults)} environment faults, expected at most {MAX_REPORTS} of {MAX_FAULT_CHARACTERS} "
            "characters each",
        )
    if not (0 <= fragment.wait_s <= MAX_WAIT_S and 0 <= fragment.work_s <= MAX_WAIT_S):
        raise FragmentError(
            "not_finite",
            f"wait_s {fragment.wait_s}, work_s {fragment.work_s}, expected seconds, at most {MAX_WAIT_S:.0f}",
        )


def _check_kinds(kind: NDArray[np.uint8], streams: Sequence[Stream]) -> None:
    """Check that kinds of rows (step, final, tail ...) follow each other legally and are as many as was claimed.

    Raises:
        FragmentError: with reason "rows".
    """
    # Each row is looked up together with the kind before it; first rows follow the stream's start.
    starts = np.array([s.first_row for s in streams])
    ends = np.append(starts[1:], len(kind)) - 1
    before = np.empty_like(kind)
    before[1:] = kind[:-1]
    before[starts] = _START
    legal = _FOLLOWS[before, kind]
    legal[ends] &= _CLOSING[kind[ends]]
    if not legal.all():
        row = int(np.argmin(legal))
        stream = streams[int(np.searchsorted(starts, row, side="right")) - 1]
        raise FragmentError(
            "rows",
            f"slot {stream.slot}: row {row - stream.first_row} of {stream.rows} is of kind {kind[row]} after kind "
            f"{before[row]}, expected context or lead-in rows, steps closed by final or cut rows, and a tail at the "
            "end if no such row is there",
        )
    # One sum per stream counts all three kinds.
    found = np.add.reduceat(_COUNTS.take(kind), starts)
    wrong = found != [s.steps + (s.lead_in_rows << _BITS) + (s.context_rows << 2 * _BITS) for s in streams]
    if wrong.any():
        i = int(np.argmax(wrong))
        repeated, steps = divmod(int(found[i]), 1 << _BITS)
        context, lead_in = divmod(repeated, 1 << _BITS)
        its = streams[i]
        raise FragmentError(
            "rows",
            f"slot {its.slot}: {steps} step rows, {lead_in} lead-in rows and {context} context rows, expected the "
            f"{its.steps}, {its.lead_in_rows} and {its.context_rows} that the fragment claims",
        )
