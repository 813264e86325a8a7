"""What on-policy members gathered since they last learned: fragments as they came, and a round's decisions from them.

Dims: R rows of a round, D decisions of an agent, V views (what an agent saw at some row; each is kept once).
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from covey.rows import Active, Columns, RowKind, RowSchema
from covey.run.state_upgrades import check_version
from covey.spaces import EnvironmentSpaces, Group
from covey_server.experience.decisions import Closed, close_decisions
from covey_server.experience.experience import AcceptedRows
from covey_server.experience.stream import Stream
from covey_server.storage.journal import Position

VERSION = 1
"""Of the state that a checkpoint keeps."""


@dataclass(frozen=True, slots=True)
class AgentDecisions:
    """One agent's closed decisions of a round, one trajectory after the other, each in the order of time.

    Attributes:
        view: (V, *observation shape) in the space's own dtype.
        here: (D,) the view that a decision was made from.
        after: (D,) the view at which it closed.
        action: (D, *action shape).
        mask: (D, width), 1 for legal actions; None where the agent has no masks.
        forced: (D,) bool, whether the environment chose.
        steps: (D,) env steps until it closed.
        reward: (D,) sum over them.
        terminated: (D,) bool, whether nothing follows by the environment's rules.
        continues: (D,) bool, whether the next decision here is the one that the agent made then.
    """

    view: NDArray[np.generic]
    here: NDArray[np.int64]
    after: NDArray[np.int64]
    action: NDArray[np.generic]
    mask: NDArray[np.generic] | None
    forced: NDArray[np.bool_]
    steps: NDArray[np.int64]
    reward: NDArray[np.float32]
    terminated: NDArray[np.bool_]
    continues: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Rollout:
    """A member's round: the decisions of each agent, in environment order."""

    agents: tuple[AgentDecisions, ...]


@dataclass(frozen=True, slots=True)
class _Held:
    """A member's streams of one fragment."""

    columns: Columns
    streams: tuple[Stream, ...]
    actor: Hashable
    tag: object


@dataclass(slots=True)
class _Round:
    fragments: list[_Held] = field(default_factory=list)
    steps: int = 0


class Rollouts:
    """The rounds at hand, by member; `len()` is the env steps held. Ingest inserts, the trainer takes."""

    only_newest_policy: ClassVar[bool] = True

    def __init__(self, spaces: EnvironmentSpaces) -> None:
        self._spaces = spaces
        self._schema = RowSchema.of(spaces)
        self._expected: dict[int, set[Position]] = {}  # by member: the records that `restore` is to take in
        self._rounds: dict[int, _Round] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        with self._lock:
            return sum(r.steps for r in self._rounds.values())

    def add(self, rows: AcceptedRows, members: Collection[int]) -> None:
        """As `Experience.add`: each member's streams join its round."""
        columns = self._schema.view(rows.raw, rows.rows)
        for member_id in members:
            streams = [s for s in rows.streams if s.member_id == member_id]
            self.insert(member_id, columns, streams, rows.actor, rows.position)

    @property
    def needed_from(self) -> Position | None:
        """As `Experience.needed_from`: the oldest fragment of any round at hand."""
        with self._lock:
            tags = [held.tag for r in self._rounds.values() for held in r.fragments]
        return min((tag for tag in tags if isinstance(tag, Position)), default=None)

    def to_state(self) -> dict[str, Any]:
        """As `Experience.to_state`: which journal records each member's round consists of."""
        with self._lock:
            kept = {m: [held.tag for held in r.fragments] for m, r in self._rounds.items()}
        rounds = {str(m): [list(tag) for tag in tags if isinstance(tag, Position)] for m, tags in kept.items()}
        return {"version": VERSION, "rounds": rounds}

    def from_state(self, state: Mapping[str, Any]) -> None:
        """As `Experience.from_state`."""
        check_version("experience", state, VERSION)
        self._expected = {int(m): {Position(*tag) for tag in tags} for m, tags in state["rounds"].items()}

    def restore(self, rows: AcceptedRows) -> None:
        """As `Experience.restore`."""
        self.add(rows, [m for m, positions in self._expected.items() if rows.position in positions])

    def insert(
        self, member_id: int, columns: Columns, streams: Sequence[Stream], actor: Hashable, tag: object = None
    ) -> None:
        """Add a member's part of a fragment; fragments of an actor come in their order.

        Args:
            member_id: Whose.
            columns: Of the whole fragment; they are kept, not copied.
            streams: The member's streams of it.
            actor: Whose slots these are.
            tag: Given back by `positions`.
        """
        with self._lock:
            at = self._rounds.setdefault(member_id, _Round())
            at.fragments.append(_Held(columns, tuple(streams), actor, tag))
            at.steps += sum(s.steps for s in streams)

    def steps(self, member_id: int) -> int:
        """Env steps of the member's round so far."""
        with self._lock:
            return self._rounds[member_id].steps if member_id in self._rounds else 0

    def positions(self, member_id: int) -> list[object]:
        """The tags of the fragments that the member's round consists of."""
        with self._lock:
            return [held.tag for held in self._rounds[member_id].fragments] if member_id in self._rounds else []

    def drop(self, member_id: int) -> None:
        """Forget a member's round."""
        with self._lock:
            self._rounds.pop(member_id, None)

    def take(self, member_id: int) -> Rollout:
        """The member's round, of at least one step, which then is over."""
        with self._lock:
            fragments = self._rounds.pop(member_id).fragments
        placed = [(held, stream) for held in fragments for stream in held.streams]
        columns = {
            name: np.concatenate([held.columns[name][s.first_row : s.first_row + s.rows] for held, s in placed])
            for name in placed[0][0].columns
        }
        closed = close_decisions(columns, [stream for _, stream in placed], self._spaces)
        kind = np.asarray(columns["kind"], np.uint8)
        stretch, stale = _trajectories(self._spaces, columns, kind, [(held.actor, s) for held, s in placed])
        closes = closed.closes & ~stale[:, None]
        agents: dict[int, AgentDecisions] = {}
        for group in self._spaces.groups:
            for n, agent in enumerate(group.agents):
                agents[agent] = _of_agent(columns, closed, group, n, agent, np.flatnonzero(closes[:, agent]), stretch)
        return Rollout(tuple(agents[a] for a in range(len(agents))))


def _trajectories(
    spaces: EnvironmentSpaces,
    columns: Columns,
    kind: NDArray[np.uint8],
    placed: Sequence[tuple[Hashable, Stream]],
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Which rows follow each other without a break: (R,) trajectory of each row, and (R,) rows that do not count.

    A stream goes on where the slot's stream before it ended with a tail row, which then is its own first row. Where
    none does, its lead-in rows hold decisions that an earlier policy made.
    """
    rows = np.array([stream.rows for _, stream in placed], np.int64)
    ends = np.cumsum(rows)
    starts = ends - rows
    opens = np.zeros(len(kind), np.int64)
    opens[starts] = 1
    opens[1:] |= np.isin(kind[:-1], (RowKind.FINAL, RowKind.CUT))
    own = np.cumsum(opens) - 1
    same_as = np.arange(own[-1] + 1)
    stale = np.zeros(len(kind), bool)
    standing: dict[tuple[Hashable, int], int] = {}  # the tail row at which a slot stands
    for start, end, (actor, stream) in zip(starts.tolist(), ends.tolist(), placed, strict=True):
        first = start + stream.lead_in_rows
        before = standing.pop((actor, stream.slot), None)
        if before is not None and not stream.cut_before and _same_sight(spaces, columns, before, first):
            same_as[own[start]] = same_as[own[before]]
        else:
            stale[start:first] = True
        if kind[end - 1] == RowKind.TAIL:
            standing[actor, stream.slot] = end - 1
    return same_as[own], stale


def _same_sight(spaces: EnvironmentSpaces, columns: Columns, row: int, other: int) -> bool:
    """Whether all agents see the same in two rows: a slot may have been lost to others between its streams."""
    names = (f"{g.group_id}/observation" for g in spaces.groups)
    return all(np.array_equal(columns[name][row], columns[name][other]) for name in names)


def _of_agent(
    columns: Columns,
    closed: Closed,
    group: Group,
    n: int,
    agent: int,
    rows: NDArray[np.int64],
    stretch: NDArray[np.int64],
) -> AgentDecisions:
    """The decisions that agent `n` of the group made in these rows."""
    rows = rows[np.argsort(stretch[rows], kind="stable")]
    after = closed.next_row[rows, agent]
    seen = np.zeros(len(stretch), bool)
    seen[np.concatenate([rows, after])] = True
    place = np.cumsum(seen) - 1
    continues = np.zeros(len(rows), bool)
    continues[:-1] = stretch[rows[:-1]] == stretch[rows[1:]]
    continues &= ~closed.ended[rows, agent]
    g = group.group_id
    return AgentDecisions(
        view=columns[f"{g}/observation"][:, n][seen],
        here=place[rows],
        after=place[after],
        action=columns[f"{g}/action"][rows, n],
        mask=columns[f"{g}/action_mask"][rows, n] if group.masked else None,
        forced=closed.active[rows, agent] == Active.FORCED,
        steps=closed.steps[rows, agent],
        reward=closed.reward[rows, agent],
        terminated=closed.terminated[rows, agent] > 0,
        continues=continues,
    )
