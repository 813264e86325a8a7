"""When a decision closes: what an agent did, what came of it until it acted again, and where it stood then.

In a simultaneous environment every row closes the decision before it. Where agents act at different times, a decision
closes at the agent's own next one, or at its end; rewards until then are its own (undiscounted), and what follows is
discounted by gamma^k for the k env steps in between.

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
_ACTS[[RowKind.STEP, RowKind.TAIL, RowKind.CUT]] = True
_STOPS = np.zeros(256, bool)
_STOPS[[RowKind.FINAL, RowKind.TAIL, RowKind.CUT]] = True


@dataclass(frozen=True, slots=True)
class Closed:
    """The decisions that close within a fragment.

    Attributes:
        closes: (R, N), whether a decision was made in this row that closes in this fragment.
        active: (R, N), who decided, a `covey.rows.Active` value.
        next_row: (R, N) row at which it closes; the row itself where none closes.
        steps: (R, N) env steps until then, at least 1.
        reward: (R, N) float32, sum of the agent's rewards until then.
        terminated: (R, N), 1 where the agent's part ended by the environment's rules: nothing follows.
        ended: (R, N), whether the agent's part ended there at all; otherwise it decides again, in this fragment or,
            at a tail row, in the next one.
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
) -> Closed:
    """Find the decisions of a whole fragment.

    Args:
        columns: As `covey.rows.RowSchema.decode` gives them.
        streams: Its slot streams, whose `rows + lead_in_rows` tell the columns apart.
        spaces: Of the environment.
    """
    kind = np.asarray(columns["kind"], np.uint8)
    step = kind == RowKind.STEP
    active = by_agent(columns, spaces, "active", np.uint8)
    reward = by_agent(columns, spaces, "reward", np.float32)
    terminated = by_agent(columns, spaces, "terminated", np.uint8)
    truncated = by_agent(columns, spaces, "truncated", np.uint8)
    rows = np.arange(len(kind))[:, None]
    # Whoever waits where a fragment ends or an episode is cut still has its decision open.
    if active[_ACTS[kind]].all() and not any(s.lead_in_rows for s in streams):
        closes = np.broadcast_to(step[:, None], active.shape)
        # A step row is never a stream's last one.
        following = np.minimum(np.broadcast_to(rows + step[:, None], active.shape), len(kind) - 1)
        flagged = (terminated | truncated).astype(bool)
        ended = flagged | ((kind == RowKind.FINAL)[following[:, 0]] & step)[:, None]
        return Closed(closes, active, following, np.ones(active.shape, np.int64), reward, terminated, ended)

    age = by_agent(columns, spaces, "age", np.int64)
    lead_in = (kind == RowKind.LEAD_IN)[:, None]
    opens = np.where(lead_in, age > 0, step[:, None] & (active > 0))
    flagged = step[:, None] & ((terminated | truncated) > 0)
    after_flag = np.zeros_like(flagged)
    after_flag[1:] = flagged[:-1]
    final = (kind == RowKind.FINAL)[:, None]
    closing = (_ACTS[kind][:, None] & (active > 0)) | after_flag | final
    stops = closing | _STOPS[kind][:, None]
    # The first row after each at which something ends for the agent: the minimum over all later ones.
    at = np.where(stops, rows, len(kind))
    following = np.full_like(at, len(kind))
    following[:-1] = np.minimum.accumulate(at[::-1], axis=0)[::-1][1:]
    following = np.minimum(following, len(kind) - 1)
    closes = opens & np.take_along_axis(closing, following, 0) & (following > rows)
    following = np.where(closes, following, rows)

    def until(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sum over the step rows from each row to the one before that at which its decision closes."""
        before = np.zeros((len(kind) + 1, active.shape[1]))
        np.cumsum(np.where(step[:, None], numbers, 0), axis=0, out=before[1:])
        return np.take_along_axis(before, following, 0) - before[:-1]

    own = np.where(lead_in, reward, 0)
    return Closed(
        closes=closes.astype(bool),
        active=active,
        next_row=following,
        steps=np.maximum(until(np.ones(active.shape)).astype(np.int64) + np.where(lead_in, age, 0), 1),
        reward=(until(reward.astype(np.float64)) + own).astype(np.float32),
        terminated=(until(terminated.astype(np.float64)) > 0).astype(np.uint8),
        ended=closes & (np.take_along_axis(after_flag | final, following, 0)),
    )


def by_agent(columns: Columns, spaces: EnvironmentSpaces, name: str, dtype: type[np.generic]) -> NDArray[Any]:
    """One column of every group side by side, (R, N) in environment order."""
    first = columns[f"{spaces.groups[0].group_id}/{name}"]
    result = np.empty((len(first), len(spaces.agents)), dtype)
    for g in spaces.groups:
        result[:, list(g.agents)] = columns[f"{g.group_id}/{name}"]
    return result
