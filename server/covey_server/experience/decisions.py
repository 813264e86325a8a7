"""Finds when each agent's decision closes: in which later timestep, after how many env steps, with what reward.

An agent makes a decision in a row in which it acts. The decision closes in the next row in which the agent acts again,
or in the row that holds its last observation. Its reward is the undiscounted sum of the agent's rewards until then, and
what comes after is discounted by gamma^k for the k env steps between the two rows. In a simultaneous environment every
row closes the decisions of the row before, with k = 1.

Example: a stream of five rows with two agents. Agent a acts in rows 0 and 3, agent b in rows 0, 1 and 2.

    row  kind  active  reward  |  closes in row  steps  reward until then
                 a b     a b   |        a b       a b        a b
     0   STEP    1 1     1 5   |        3 1       3 1        6 5
     1   STEP    0 1     2 5   |        - 2       - 1        - 5
     2   STEP    0 1     3 5   |        - -       - -        - -
     3   STEP    1 0     4 5   |        4 -       1 -        4 -
     4   TAIL    1 0           |        - -       - -        - -

The decision of agent a in row 0 closes in row 3, where a acts again, with reward 1 + 2 + 3. In row 4 the fragment ends;
a is to act there, so its decision of row 3 closes. Agent b still waits there, so its decision of row 2 stays open. The
slot's next stream repeats row 2 as a LEAD_IN row with age 2, for the env steps of rows 2 and 3, and reward 5 + 5.

Dims: R rows of a fragment, N agents in environment order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covey.rows import Columns, RowKind
from covey.spaces import EnvironmentSpaces
from covey.v1.fragment_pb2 import SlotStream
from covey_server.experience.stream import Stream

_ACTS = np.zeros(256, bool)
"""Kinds of rows in which an agent with `active` set acts, or is to act."""
_ACTS[[RowKind.STEP, RowKind.TAIL, RowKind.CUT]] = True
_STOPS = np.zeros(256, bool)
"""Kinds of rows that end an episode or a stream: no decision is open beyond them."""
_STOPS[[RowKind.FINAL, RowKind.TAIL, RowKind.CUT]] = True


@dataclass(frozen=True, slots=True)
class ClosedDecisions:
    """For each of R timesteps and N agents in an actor's message, the agent's decision there, if its outcome is known.

    Attributes:
        closes: (R, N) bool, whether the agent made a decision in this row that closes within this fragment.
        active: (R, N) uint8, each agent's `covey.rows.Active` value.
        next_row: (R, N), the row in which the decision closes; the row itself where none closes.
        steps: (R, N), env steps until then, at least 1.
        reward: (R, N) float32, sum of the agent's rewards until then.
        terminated: (R, N) uint8, 1 where the agent ended by the environment's rules, so that nothing follows.
        ended: (R, N) bool, whether the agent ended there at all, terminated or truncated; otherwise it decides again,
            in this fragment or, at a tail row, in the slot's next one.
    """

    closes: NDArray[np.bool_]
    active: NDArray[np.uint8]
    next_row: NDArray[np.int64]
    steps: NDArray[np.int64]
    reward: NDArray[np.float32]
    terminated: NDArray[np.uint8]
    ended: NDArray[np.bool_]


def close_decisions(
    columns: Columns, streams: Sequence[SlotStream] | Sequence[Stream], spaces: EnvironmentSpaces
) -> ClosedDecisions:
    """Find the agents' decisions that end within the same message: the agent acts again there, or its episode ends.

    Args:
        columns: All rows of the fragment, as `covey.rows.RowSchema.decode` gives them.
        streams: The fragment's slot streams, in the order of their rows.
        spaces: The run's spaces.
    """
    kind = np.asarray(columns["kind"], np.uint8)
    step = kind == RowKind.STEP
    active = by_agent(columns, spaces, "active", np.uint8)
    reward = by_agent(columns, spaces, "reward", np.float32)
    terminated = by_agent(columns, spaces, "terminated", np.uint8)
    truncated = by_agent(columns, spaces, "truncated", np.uint8)
    rows = np.arange(len(kind))[:, None]
    # The quick way: every agent acts in every row but the last of an episode, and no decision is open across streams.
    if active[_ACTS[kind]].all() and not any(s.lead_in_rows for s in streams):
        closes = np.broadcast_to(step[:, None], active.shape)
        # A step row is never a stream's last one.
        following = np.minimum(np.broadcast_to(rows + step[:, None], active.shape), len(kind) - 1)
        # An agent ends at its own flag, and every agent at the final row of the episode.
        flagged = (terminated | truncated).astype(bool)
        ended = flagged | ((kind == RowKind.FINAL)[following[:, 0]] & step)[:, None]
        return ClosedDecisions(closes, active, following, np.ones(active.shape, np.int64), reward, terminated, ended)

    # Where decisions are made. A lead-in row repeats a row of an earlier stream, but only for the agents whose decision
    # in it is still open: those with an age.
    age = by_agent(columns, spaces, "age", np.int64)
    lead_in = (kind == RowKind.LEAD_IN)[:, None]
    opens = np.where(lead_in, age > 0, step[:, None] & (active > 0))
    # Where an open decision of the agent closes: it acts or is to act, or its last observation is there, which is the
    # row after its flag or, for all agents, the final row of the episode.
    flagged = step[:, None] & ((terminated | truncated) > 0)
    after_flag = np.zeros_like(flagged)
    after_flag[1:] = flagged[:-1]
    final = (kind == RowKind.FINAL)[:, None]
    closing = (_ACTS[kind][:, None] & (active > 0)) | after_flag | final
    # A decision may not be followed beyond the end of its episode or stream. At a cut or a tail it closes only if its
    # agent is to act there; an agent that waits has it open still.
    stops = closing | _STOPS[kind][:, None]
    # The first stop after each row is the minimum of the numbers of all later rows that are stops. Read backwards, that
    # is a running minimum: stops in rows 1 and 3 of 4 give [1, 1, 3, 3], and one row later [1, 3, 3, 4].
    stop_row = np.where(stops, rows, len(kind))
    following = np.full_like(stop_row, len(kind))
    following[:-1] = np.minimum.accumulate(stop_row[::-1], axis=0)[::-1][1:]
    following = np.minimum(following, len(kind) - 1)
    closes = opens & np.take_along_axis(closing, following, 0) & (following > rows)
    following = np.where(closes, following, rows)

    def sum_until(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sum these numbers for each row over the env steps from it to the row in which its decision closes."""
        # A sum between two rows is the difference of two prefix sums: `before[r]` is the sum of all rows before row r.
        before = np.zeros((len(kind) + 1, active.shape[1]))
        np.cumsum(np.where(step[:, None], numbers, 0), axis=0, out=before[1:])
        return np.take_along_axis(before, following, 0) - before[:-1]

    # A lead-in row brings what passed in earlier streams, `age` env steps and the sum of their rewards, and is itself
    # no step row. Sums are made in float64, and rounded once.
    earlier_reward = np.where(lead_in, reward, 0)
    return ClosedDecisions(
        closes=closes.astype(bool),
        active=active,
        next_row=following,
        steps=np.maximum(sum_until(np.ones(active.shape)).astype(np.int64) + np.where(lead_in, age, 0), 1),
        reward=(sum_until(reward.astype(np.float64)) + earlier_reward).astype(np.float32),
        # The flag is in one of the rows until then, not always in that of the decision.
        terminated=(sum_until(terminated.astype(np.float64)) > 0).astype(np.uint8),
        ended=closes & (np.take_along_axis(after_flag | final, following, 0)),
    )


def by_agent(columns: Columns, spaces: EnvironmentSpaces, name: str, dtype: type[np.generic]) -> NDArray[Any]:
    """Join one column of all groups of agents: (R, N) for R rows (timesteps) and N agents in environment order.

    Args:
        columns: The rows of a fragment.
        spaces: The run's spaces.
        name: A column with one number per agent, such as "reward".
        dtype: The dtype of the result.
    """
    first = columns[f"{spaces.groups[0].group_id}/{name}"]
    result = np.empty((len(first), len(spaces.agents)), dtype)
    for g in spaces.groups:
        result[:, list(g.agents)] = columns[f"{g.group_id}/{name}"]
    return result
