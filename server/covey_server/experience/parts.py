"""Who does what in a row of the replay memory, where that is not simply everybody choosing an action.

The columns of an agent that waits repeat what it last saw and did, those of an agent that is not there are zeros, and
`active` is 0 for both: which of them it is follows from the rows before.

Dims: R rows of a fragment, N agents in environment order.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from covey.rows import Active, Columns, RowKind
from covey.spaces import EnvironmentSpaces
from covey.v1.fragment_pb2 import SlotStream
from covey_server.experience.decisions import Closed, by_agent, close_decisions


class Part(enum.IntEnum):
    """An agent's part in a row; the first three are those of `covey.rows.Active`."""

    ABSENT = 0  # not there: zeros
    CHOSE = 1  # acted, or is to act here
    FORCED = 2  # the environment chose the action that the row has
    WAITS = 3  # bound by the action that the row repeats
    LEFT = 4  # ended in the row before: its last observation, no action


@dataclass(frozen=True, slots=True)
class Decided:
    """What becomes of decisions in a fragment in which not everybody acts all the time.

    Attributes:
        closed: Where decisions close.
        parts: (R, N), each agent's `Part` in each row.
    """

    closed: Closed
    parts: NDArray[np.uint8]

    @property
    def links(self) -> NDArray[np.int32]:
        """(R, 2N): how many rows on each agent's decision closes, 0 where none does; and how many env steps."""
        ahead = self.closed.next_row - np.arange(len(self.parts))[:, None]
        return np.concatenate([ahead, self.closed.steps], 1).astype(np.int32)


def decide(columns: Columns, streams: Sequence[SlotStream], spaces: EnvironmentSpaces) -> Decided | None:
    """What replay keeps of a fragment besides its columns; None where everybody acts in all rows."""
    if everybody_acts(columns, spaces):
        return None
    closed = close_decisions(columns, streams, spaces)
    return Decided(closed, parts(columns, streams, closed, spaces))


def everybody_acts(columns: Columns, spaces: EnvironmentSpaces) -> bool:
    """Whether all agents choose in all rows, so that every decision closes in the row after.

    The rows that end an episode do not count: there the agents would have acted, had it gone on.
    """
    kind = columns["kind"]
    if (kind == int(RowKind.LEAD_IN)).any():
        return False
    for g in spaces.groups:
        others = columns[f"{g.group_id}/active"] != int(Active.CHOSE)
        if others.any() and (kind[others.any(axis=1)] != RowKind.FINAL).any():
            return False
    return True


def parts(
    columns: Columns, streams: Sequence[SlotStream], closed: Closed, spaces: EnvironmentSpaces
) -> NDArray[np.uint8]:
    """Every agent's `Part` in every row, (R, N).

    In the last row of an episode an agent that did not terminate counts as one that is to act: what its decision led
    to is judged there. A lead-in row says of agents without an open decision only what their columns hold: an agent
    that just left counts as waiting there.
    """
    kind = np.asarray(columns["kind"], np.uint8)
    rows = np.arange(len(kind))[:, None]
    step, lead_in, final = ((kind == k)[:, None] for k in (RowKind.STEP, RowKind.LEAD_IN, RowKind.FINAL))
    active = closed.active
    flagged = (by_agent(columns, spaces, "terminated", np.uint8) | by_agent(columns, spaces, "truncated", np.uint8)) > 0
    left = np.zeros_like(flagged)
    left[1:] = (flagged & step)[:-1]
    fresh = final.copy()
    fresh[1:] |= (kind == RowKind.CUT)[:-1, None]
    fresh[np.cumsum([0, *(s.rows + s.lead_in_rows for s in streams)])[:-1]] = True
    opens = np.where(lead_in, by_agent(columns, spaces, "age", np.uint32) > 0, step & (active > 0))
    opened = np.maximum.accumulate(np.where(opens, rows, -1))
    ended = np.maximum.accumulate(np.where(left | fresh, rows, -1))
    waits = (opened >= ended) | (lead_in & _anything(columns, spaces))
    result = np.where(active > 0, active, np.where(left, Part.LEFT, np.where(waits, Part.WAITS, Part.ABSENT)))
    # What it will be forced to is not known yet.
    result[~step & ~lead_in & (result == Part.FORCED)] = Part.CHOSE
    goes_on = closed.closes & (closed.terminated == 0) & final[closed.next_row, 0]
    result[closed.next_row[goes_on], np.nonzero(goes_on)[1]] = Part.CHOSE
    return result.astype(np.uint8)


def _anything(columns: Columns, spaces: EnvironmentSpaces) -> NDArray[np.bool_]:
    """(R, N), whether an agent's observation or action has a number that is not 0."""
    result = np.empty((len(columns["kind"]), len(spaces.agents)), bool)
    for g in spaces.groups:
        seen, done = (columns[f"{g.group_id}/{name}"] for name in ("observation", "action"))
        result[:, list(g.agents)] = (seen != 0).reshape(*seen.shape[:2], -1).any(2) | (done != 0).reshape(
            *done.shape[:2], -1
        ).any(2)
    return result
