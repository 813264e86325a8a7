"""Checks what an actor's rows have for stacks of frames: context rows, and agents that never wait."""

from __future__ import annotations

import numpy as np

from covey.errors import FragmentError
from covey.rows import Columns, RowKind
from covey.spaces import EnvironmentSpaces
from covey_server.experience.decisions import by_agent

_EMPTY = ("active", "reward", "terminated", "truncated")
"""Columns that are 0 in context rows."""


def check_frames(columns: Columns, spaces: EnvironmentSpaces) -> None:
    """Check that context rows have nothing but observations, and that no living agent waits.

    A context row repeats what the running episode showed earlier. An agent that waits would see its last observation
    again and again, and a stack of frames would hold that alone.

    Args:
        columns: Columns of a fragment whose row kinds and flags were checked.
        spaces: The run's spaces.

    Raises:
        FragmentError: with reason "flags".
    """
    if spaces.frame_stack == 1:
        return
    kind = np.asarray(columns["kind"], np.uint8)
    context = kind == RowKind.CONTEXT
    for group in spaces.groups:
        for name in _EMPTY:
            if columns[f"{group.group_id}/{name}"][context].any():
                raise FragmentError("flags", f"{group.group_id}/{name}: set in context rows, expected 0")
    active = by_agent(columns, spaces, "active", np.uint8) > 0
    ended = (by_agent(columns, spaces, "terminated", np.uint8) | by_agent(columns, spaces, "truncated", np.uint8)) > 0
    # A step row is never a stream's last one, so the row after it is the same environment's.
    step, goes_on = kind == RowKind.STEP, np.isin(kind, (RowKind.STEP, RowKind.TAIL))
    waits = (step[:-1] & goes_on[1:])[:, None] & active[:-1] & ~ended[:-1] & ~active[1:]
    if waits.any():
        row, agent = (int(i) for i in np.argwhere(waits)[0])
        raise FragmentError(
            "flags",
            f"row {row + 1}: agent {spaces.agent_ids[agent]!r} waits, expected one that acts in every env step until "
            f"it ends, as policies read stacks of {spaces.frame_stack} frames; leave environment.frame_stack out",
        )
