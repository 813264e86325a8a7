"""On-policy rollouts, called rounds: what each population member has collected since it last learned.

The agents' trajectories are put together from the messages (fragments) of all actors.

Dims: R rows of a round, D decisions of an agent, V views (what an agent saw in some row; each is kept once).
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from covey.rows import STATE, Active, Columns, RowKind, RowSchema, from_leaves, leaf_columns, read_leaves
from covey.run.state_upgrades import check_version
from covey.spaces import EnvironmentSpaces, Group, Space, leaves
from covey_server.experience.decisions import ClosedDecisions, close_decisions
from covey_server.experience.experience import AcceptedRows
from covey_server.experience.frames import StackedRows, earlier_frames
from covey_server.experience.rows_in_parts import RowsInParts
from covey_server.experience.states import AgentStates, read_states, starts_of
from covey_server.experience.stream import Stream
from covey_server.storage.journal import Position

JOINED_BYTES = 16 << 20
"""A round's observations of up to this many bytes are copied together; more, as of images, stay where they came."""

VERSION = 1
"""Version of the rounds' state in checkpoints."""


RoundColumn = NDArray[np.generic] | RowsInParts | StackedRows
"""What an agent saw in all rows of a round, of one leaf: indexed by rows it copies them."""


@dataclass(frozen=True, slots=True)
class AgentDecisions:
    """One agent's decisions of an on-policy rollout, one trajectory after another, each in order of time.

    A decision closes when the agent decides again or its episode ends; the agent's rewards until then belong to it.
    There are V observations ("views") and D closed decisions.

    Attributes:
        observation: The space of what the agent's networks read: of its observations, or of stacks of them.
        source: For each leaf of it what the agent saw in all R rows of the round, in the leaf's own dtype, not copied:
            indexed by V rows it gives (V, *leaf's shape).
        rows: (V,), the rows that count.
        here: (D,), index into `rows` of what the agent saw when it decided.
        after: (D,), index into `rows` of what it saw when the decision closed.
        action: (D, *action shape), structured for a tree.
        mask: (D, width), 1 for legal actions; None if the agent has no masks.
        forced: (D,) bool, whether the environment chose the action.
        steps: (D,), env steps until the decision closed.
        reward: (D,) float32, sum of the agent's rewards until then.
        terminated: (D,) bool, whether nothing follows by the environment's rules.
        continues: (D,) bool, whether the next decision in these arrays is the one made where this one closed.
        starts: (F, H), the H numbers that the agent's policy remembers before each of the F decisions that no other
            continues to, in their order; None for a policy without memory.
        state: (V, *shape), the state of the whole environment in the rows that count; None where rows do not hold it.
    """

    observation: Space
    source: tuple[RoundColumn, ...]
    rows: NDArray[np.int64]
    here: NDArray[np.int64]
    after: NDArray[np.int64]
    action: NDArray[np.generic]
    mask: NDArray[np.generic] | None
    forced: NDArray[np.bool_]
    steps: NDArray[np.int64]
    reward: NDArray[np.float32]
    terminated: NDArray[np.bool_]
    continues: NDArray[np.bool_]
    starts: NDArray[np.float32] | None = None
    state: NDArray[np.generic] | None = None

    @property
    def view(self) -> NDArray[np.generic]:
        """What the agent's networks read in the rows that count, (V, *shape), structured for a tree; copied."""
        return from_leaves(self.observation, [leaf[self.rows] for leaf in self.source])


@dataclass(frozen=True, slots=True)
class Rollout:
    """A population member's complete on-policy rollout.

    Attributes:
        agents: The decisions of each agent, in environment order.
        columns: All rows of the round by column, but for observations.
        trajectory: For each of these rows, the number of the trajectory that it belongs to.
    """

    agents: tuple[AgentDecisions, ...]
    columns: Columns
    trajectory: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _RoundFragment:
    """The rows of one actor message that belong to one population member.

    Attributes:
        columns: All columns of the fragment, not copied.
        streams: Where the member's rows lie in them.
        actor: Identifies the actor process.
        tag: Given back by `Rollouts.positions`.
        states: What the agents remembered where each of the streams begins; empty where no policy has memory.
    """

    columns: Columns
    streams: tuple[Stream, ...]
    actor: Hashable
    tag: object
    states: tuple[AgentStates, ...]


@dataclass(slots=True)
class _Round:
    """One member's unfinished on-policy rollout: the actor messages that it has so far, and their env steps."""

    fragments: list[_RoundFragment] = field(default_factory=list)
    steps: int = 0


class Rollouts:
    """All members' unfinished on-policy rollouts (rounds); `len()` is the number of env steps held.

    One thread inserts rows as actors send them, the trainer's takes complete rounds out.

    Args:
        spaces: The run's spaces.
    """

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
        """Add the rows of an accepted actor message to the rollouts of the members whose policies played them."""
        columns = self._schema.view(rows.raw, rows.rows)
        states = read_states(rows.raw, rows.slot_streams)
        for member_id in members:
            own = [i for i, s in enumerate(rows.streams) if s.member_id == member_id]
            streams = [rows.streams[i] for i in own]
            self.insert(member_id, columns, streams, rows.actor, rows.position, [states[i] for i in own])

    @property
    def needed_from(self) -> Position | None:
        """Where the journal on disk has the oldest message held: a restarted learner reads it again from there."""
        with self._lock:
            tags = [held.tag for r in self._rounds.values() for held in r.fragments]
        return min((tag for tag in tags if isinstance(tag, Position)), default=None)

    def to_state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps: the journal positions of the messages in each member's unfinished rollout."""
        with self._lock:
            kept = {m: [held.tag for held in r.fragments] for m, r in self._rounds.items()}
        rounds = {str(m): [list(tag) for tag in tags if isinstance(tag, Position)] for m, tags in kept.items()}
        return {"version": VERSION, "rounds": rounds}

    def from_state(self, state: Mapping[str, Any]) -> None:
        """Note from a checkpoint which journal records each member's rollout is made of; `restore` then brings them."""
        check_version("experience", state, VERSION)
        self._expected = {int(m): {Position(*tag) for tag in tags} for m, tags in state["rounds"].items()}

    def restore(self, rows: AcceptedRows) -> None:
        """Add again a message read from the journal after a restart, to the rollouts that held it before."""
        self.add(rows, [m for m, positions in self._expected.items() if rows.position in positions])

    def insert(
        self,
        member_id: int,
        columns: Columns,
        streams: Sequence[Stream],
        actor: Hashable,
        tag: object = None,
        states: Sequence[AgentStates] | None = None,
    ) -> None:
        """Add a member's rows of an actor message to its rollout; messages of one actor must come in their order.

        Args:
            member_id: The member.
            columns: All columns of the fragment; they are kept, not copied.
            streams: Where the member's rows lie in them.
            actor: Identifies the actor process whose slots these are.
            tag: Given back by `positions`.
            states: What the agents remembered where each stream begins, where policies have memory.
        """
        held = tuple(states or [()] * len(streams))
        with self._lock:
            at = self._rounds.setdefault(member_id, _Round())
            at.fragments.append(_RoundFragment(columns, tuple(streams), actor, tag, held))
            at.steps += sum(s.steps for s in streams)

    def steps(self, member_id: int) -> int:
        """Return the number of env steps in the member's unfinished rollout."""
        with self._lock:
            return self._rounds[member_id].steps if member_id in self._rounds else 0

    def positions(self, member_id: int) -> list[object]:
        """Return the tags, such as journal positions, of the messages in the member's rollout, in order of arrival."""
        with self._lock:
            return [held.tag for held in self._rounds[member_id].fragments] if member_id in self._rounds else []

    def drop(self, member_id: int) -> None:
        """Discard a member's unfinished rollout."""
        with self._lock:
            self._rounds.pop(member_id, None)

    def take(self, member_id: int) -> Rollout:
        """Remove a member's rollout and return its decisions; it must have at least one env step.

        Raises:
            KeyError: the member has no round.
        """
        with self._lock:
            fragments = self._rounds.pop(member_id).fragments
        groups = self._spaces.groups
        # All streams of the round, one after another, as if they were one fragment.
        placed = [(held, stream) for held in fragments for stream in held.streams]
        columns: Columns = {}
        seen: dict[str, NDArray[np.generic] | RowsInParts] = {}
        names = {g.group_id: [n for n, _ in leaf_columns(g.group_id, "observation", g.observation)] for g in groups}
        observed = {name for its in names.values() for name in its}
        for name in placed[0][0].columns:
            parts = [held.columns[name][s.first_row : s.first_row + s.rows] for held, s in placed]
            if name not in observed:
                columns[name] = np.concatenate(parts)
            elif sum(part.nbytes for part in parts) > JOINED_BYTES:
                seen[name] = RowsInParts(parts)
            else:
                seen[name] = np.concatenate(parts)
        closed = close_decisions(columns, [stream for _, stream in placed], self._spaces)
        kind = np.asarray(columns["kind"], np.uint8)
        trajectory, from_earlier_policy, begun_by = _trajectories(seen, kind, [(held.actor, s) for held, s in placed])
        states = [own for held in fragments for own in held.states]
        begun_with = {number: states[i] for number, i in begun_by.items()}
        closes = closed.closes & ~from_earlier_policy[:, None]
        starts = np.cumsum([0, *(stream.rows for _, stream in placed)])[:-1]
        earlier = earlier_frames(kind, starts.tolist(), self._spaces.frame_stack)
        agents: dict[int, AgentDecisions] = {}
        for group in groups:
            own = [seen[name] for name in names[group.group_id]]
            for n, agent in enumerate(group.agents):
                rows = np.flatnonzero(closes[:, agent])
                source = tuple(
                    StackedRows.of(
                        its.of_agent(n) if isinstance(its, RowsInParts) else its[:, n],
                        leaf.space,
                        earlier,
                        group.frame_stack,
                    )
                    for its, leaf in zip(own, leaves(group.observation), strict=True)
                )
                remembered = {number: its[agent] for number, its in begun_with.items() if its}
                agents[agent] = _agent_decisions(columns, source, closed, group, n, agent, rows, trajectory, remembered)
        return Rollout(tuple(agents[a] for a in range(len(agents))), columns, trajectory)


def _trajectories(
    seen: Mapping[str, NDArray[np.generic] | RowsInParts],
    kind: NDArray[np.uint8],
    placed: Sequence[tuple[Hashable, Stream]],
) -> tuple[NDArray[np.int64], NDArray[np.bool_], dict[int, int]]:
    """Find which of a rollout's rows follow each other without a break.

    A stream is the rows of one environment in one message. It continues the trajectory of that environment's stream
    before it if that one ended with a tail row (where an environment stands when the message ends): the first row after
    its context and lead-in rows repeats this tail. Lead-in rows repeat earlier rows because an agent's decision there
    has not closed. In an environment's first stream of a rollout they hold decisions of an earlier policy; these do
    not count.

    Args:
        seen: By column what agents saw in all rows of the rollout, stream after stream.
        kind: (R,), their `covey.rows.RowKind`, of R rows.
        placed: Actor and stream, in the order of the rows.

    Returns:
        (R,) the trajectory that each row belongs to; (R,) bool, which rows' decisions do not count; and for each
        trajectory that begins with a stream, the position of this in `placed`.
    """
    rows = np.array([stream.rows for _, stream in placed], np.int64)
    ends = np.cumsum(rows)
    starts = ends - rows
    # A segment is the rows between two breaks: it begins with a stream, and after the last row of an episode. The sum
    # over the beginnings numbers the segments: rows of kinds S S F S T give 0 0 0 1 1.
    begins = np.zeros(len(kind), np.int64)
    begins[starts] = 1
    begins[1:] |= np.isin(kind[:-1], (RowKind.FINAL, RowKind.CUT))
    segment = np.cumsum(begins) - 1
    # A trajectory has the number of its first segment: a stream that goes on where another stopped takes that over.
    trajectory_of_segment = np.arange(segment[-1] + 1)
    from_earlier_policy = np.zeros(len(kind), bool)
    open_tails: dict[tuple[Hashable, int], int] = {}  # by slot, the tail row at which its last stream ended
    begun_by: dict[int, int] = {}
    for i, (start, end, (actor, stream)) in enumerate(zip(starts.tolist(), ends.tolist(), placed, strict=True)):
        first = start + stream.context_rows + stream.lead_in_rows
        tail = open_tails.pop((actor, stream.slot), None)
        if tail is not None and not stream.cut_before and _same_observations(seen, tail, first):
            trajectory_of_segment[segment[start]] = trajectory_of_segment[segment[tail]]
        else:
            from_earlier_policy[start:first] = True
            begun_by[int(segment[start])] = i
        if kind[end - 1] == RowKind.TAIL:
            open_tails[actor, stream.slot] = end - 1
    return trajectory_of_segment[segment], from_earlier_policy, begun_by


def _same_observations(seen: Mapping[str, NDArray[np.generic] | RowsInParts], row: int, other: int) -> bool:
    """Whether all agents have equal observations in two rows.

    They differ if the environment played for another member between these rows.
    """
    both = np.array([row, other])
    return all(np.array_equal(*its[both]) for its in seen.values())


def _agent_decisions(
    columns: Columns,
    source: tuple[RoundColumn, ...],
    closed: ClosedDecisions,
    group: Group,
    n: int,
    agent: int,
    rows: NDArray[np.int64],
    trajectory: NDArray[np.int64],
    remembered: Mapping[int, NDArray[np.float32]],
) -> AgentDecisions:
    """Collect the decisions that one agent made in an on-policy rollout, ordered by trajectory and time.

    Args:
        columns: All rows of the round, without observations.
        source: What the agent saw in them, leaf by leaf.
        closed: When the round's decisions close.
        group: The agent's group.
        n: The agent's index in its group.
        agent: Its index in environment order.
        rows: The rows in which its decisions close within the round, by their number in the round.
        trajectory: The trajectory that each row belongs to.
        remembered: What its policy remembered where trajectories begin with a stream, by their number; empty without
            memory.
    """
    # A stable sort keeps the order of time within a trajectory, whose streams lie apart in the round.
    rows = rows[np.argsort(trajectory[rows], kind="stable")]
    after = closed.next_row[rows, agent]
    # Keep each row's observation once, though it may end one decision and begin the next; `view_of_row` renumbers rows.
    viewed = np.zeros(len(trajectory), bool)
    viewed[np.concatenate([rows, after])] = True
    view_of_row = np.cumsum(viewed) - 1
    # The next decision continues this one if it is of the same trajectory and the agent did not end between them.
    continues = np.zeros(len(rows), bool)
    continues[:-1] = trajectory[rows[:-1]] == trajectory[rows[1:]]
    continues &= ~closed.ended[rows, agent]
    g = group.group_id
    return AgentDecisions(
        observation=group.stacked,
        source=source,
        rows=np.flatnonzero(viewed),
        here=view_of_row[rows],
        after=view_of_row[after],
        action=read_leaves(columns, g, "action", group.action, (rows, n)),
        mask=columns[f"{g}/action_mask"][rows, n] if group.masked else None,
        forced=closed.active[rows, agent] == Active.FORCED,
        steps=closed.steps[rows, agent],
        reward=closed.reward[rows, agent],
        terminated=closed.terminated[rows, agent] > 0,
        continues=continues,
        starts=starts_of(trajectory[rows], continues, remembered),
        state=columns[STATE][viewed] if STATE in columns else None,
    )
