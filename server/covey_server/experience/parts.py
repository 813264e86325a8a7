"""Finds what each agent is doing in each timestep (its part there): choosing an action, waiting, absent and so on.

Parts are needed only where not every agent chooses an action in every row. A fragment has `active` 0 both for an agent
that waits, whose columns repeat what it last saw and did, and for one that is not there, whose columns are zeros; which
of the two it is follows from the rows before.

Dims: R rows of a fragment, N agents in environment order.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from covey.rows import Active, Columns, RowKind, leaf_columns
from covey.spaces import EnvironmentSpaces
from covey.v1.fragment_pb2 import SlotStream
from covey_server.experience.decisions import ClosedDecisions, by_agent, close_decisions
from covey_server.experience.frames import stream_rows


class Part(enum.IntEnum):
    """What an agent is doing in one timestep: absent, chose, forced by the environment, waits, or has just left."""

    ABSENT = 0  # is not there; its columns are zeros
    CHOSE = 1  # chose an action, or is to choose one here
    FORCED = 2  # the environment chose the action that the row has
    WAITS = 3  # is bound by its earlier action, which the row repeats
    LEFT = 4  # ended in the row before; here is its last observation, without an action


@dataclass(frozen=True, slots=True)
class FragmentDecisions:
    """The agents' decisions in one message of an actor, where not every agent acts at every timestep.

    Attributes:
        closed: When each decision closes.
        parts: (rows, agents) uint8, each agent's `Part` in each row.
    """

    closed: ClosedDecisions
    parts: NDArray[np.uint8]

    @property
    def links(self) -> NDArray[np.int32]:
        """For R rows and N agents, (R, 2N) int32: rows until the agent's decision closes (0: never), then env steps.

        A decision closes where its agent acts again or its episode ends.
        """
        ahead = self.closed.next_row - np.arange(len(self.parts))[:, None]
        return np.concatenate([ahead, self.closed.steps], 1).astype(np.int32)


def find_decisions(
    columns: Columns, streams: Sequence[SlotStream], spaces: EnvironmentSpaces
) -> FragmentDecisions | None:
    """Find when each agent's decision closes (it acts again, or its episode ends) and what it does in each row.

    Returns None where every agent acts in every row, as each decision then closes in the next one.
    """
    if everybody_acts(columns, spaces):
        return None
    closed = close_decisions(columns, streams, spaces)
    return FragmentDecisions(closed, parts(columns, streams, closed, spaces))


def everybody_acts(columns: Columns, spaces: EnvironmentSpaces) -> bool:
    """Whether every agent chooses an action in every row, so that each decision is followed by one in the next row.

    Final rows of episodes are not looked at, as agents would have acted there, had the episode gone on; nor are context
    rows, which hold observations alone.
    """
    kind = columns["kind"]
    if (kind == int(RowKind.LEAD_IN)).any():
        return False
    for g in spaces.groups:
        others = columns[f"{g.group_id}/active"] != int(Active.CHOSE)
        if others.any() and not np.isin(kind[others.any(axis=1)], (RowKind.FINAL, RowKind.CONTEXT)).all():
            return False
    return True


def parts(
    columns: Columns, streams: Sequence[SlotStream], closed: ClosedDecisions, spaces: EnvironmentSpaces
) -> NDArray[np.uint8]:
    """Find what every agent is doing in every row (timestep): choosing, forced, waiting, absent or leaving.

    An agent that did not terminate counts as choosing in the last row of an episode, as the critic values there what
    the agent's policy would do. A lead-in row repeats an earlier row because an agent's decision there has not closed,
    and has no rows before it to tell who waits: there, all other agents count as waiting unless their columns are
    zeros, even if they have just left.

    Args:
        columns: All rows of the message.
        streams: For each of the actor's environments that it has rows of, how many there are.
        closed: When the decisions close, that is, when the agent acts again or its episode ends.
        spaces: The run's spaces.

    Returns:
        (R, N) uint8 values of `Part`, for R rows and N agents.
    """
    kind = np.asarray(columns["kind"], np.uint8)
    rows = np.arange(len(kind))[:, None]
    step, lead_in, final = ((kind == k)[:, None] for k in (RowKind.STEP, RowKind.LEAD_IN, RowKind.FINAL))
    active = closed.active
    flagged = (by_agent(columns, spaces, "terminated", np.uint8) | by_agent(columns, spaces, "truncated", np.uint8)) > 0
    left = np.zeros_like(flagged)
    left[1:] = (flagged & step)[:-1]
    # Rows in which no decision from before can be open: the end of an episode, the row after a cut, a stream's first.
    nothing_open = final.copy()
    nothing_open[1:] |= (kind == RowKind.CUT)[:-1, None]
    nothing_open[np.cumsum([0, *map(stream_rows, streams)])[:-1]] = True
    opens = np.where(lead_in, by_agent(columns, spaces, "age", np.uint32) > 0, step & (active > 0))
    # An agent waits if its last decision is newer than its last end: running maxima give the row of each, -1 for none.
    opened = np.maximum.accumulate(np.where(opens, rows, -1))
    ended = np.maximum.accumulate(np.where(left | nothing_open, rows, -1))
    waits = (opened >= ended) | (lead_in & _any_number(columns, spaces))
    result = np.where(active > 0, active, np.where(left, Part.LEFT, np.where(waits, Part.WAITS, Part.ABSENT)))
    # Where an agent will be forced to an action (tail and cut rows), the row does not have that action yet.
    result[~step & ~lead_in & (result == Part.FORCED)] = Part.CHOSE
    # Decisions that close at the end of an episode without termination are bootstrapped: their agent chooses there.
    bootstrapped = closed.closes & (closed.terminated == 0) & final[closed.next_row, 0]
    result[closed.next_row[bootstrapped], np.nonzero(bootstrapped)[1]] = Part.CHOSE
    return result.astype(np.uint8)


def _any_number(columns: Columns, spaces: EnvironmentSpaces) -> NDArray[np.bool_]:
    """For each row and agent, whether any number of the agent's observation or action is not 0, (rows, agents) bool."""
    result = np.empty((len(columns["kind"]), len(spaces.agents)), bool)
    for g in spaces.groups:
        names = leaf_columns(g.group_id, "observation", g.observation) + leaf_columns(g.group_id, "action", g.action)
        found = [columns[name] != 0 for name, _ in names]
        result[:, list(g.agents)] = np.logical_or.reduce([x.reshape(*x.shape[:2], -1).any(2) for x in found])
    return result
