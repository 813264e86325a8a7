"""Builds the message (fragment) in which an actor sends the timesteps of all its environments.

A stream is the rows of one training slot in one order; proto/README.md, "Rows", says what they mean.
Dims: P streams (training slots of the order), C rows that fit into each, T steps, S slots, N agents of a group, A
agents; agents on one axis A stand group by group, as in `covey.envs.arrays`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from covey.collect.carried import Carried, LeadIn, group_columns
from covey.collect.stream_states import StreamStates
from covey.envs.arrays import SlotArrays
from covey.rows import STATE, Active, Columns, RowKind, RowSchema, leaf_columns
from covey.spaces import EnvironmentSpaces, leaf_arrays, mask_width
from covey.v1 import fragment_pb2


class FragmentBuilder:
    """Collects the timesteps ("rows") of one order's environments and compresses them into a message, a fragment.

    The rows of one environment are a stream; P streams, C rows fit into each, N agents of a group, A agents in all.

    Every column is one array (P, C, ...). The first `lead` rows of each stream are kept free for lead-in or context
    rows, which end right before row `lead`; whatever comes after them begins at row `lead` in all streams, so that the
    same steps of several slots are one slice. No stream has rows of both kinds: context rows are for stacks of frames,
    which are refused where agents wait, and lead-in rows are for agents that wait.

    Args:
        schema: The columns of rows, that is, of timesteps.
        spaces: Spaces of the environment.
        slots: The order's training slots, in its sequence; stream i is that of `slots[i]`.
        capacity: C, `lead` included.
        carried: From the orders before; its lead-in rows and context become these streams' first rows.
        states: What agents remember where the streams begin; None where no policy has memory.

    Attributes:
        lead: Rows kept free for lead-in or context rows.
        capacity: C.
        rows: (P,), where each stream's next row goes.
        steps: (P,), step rows of each stream.
        cut_before: For each stream, whether the slot's episode was abandoned before the stream's first row.
    """

    def __init__(
        self,
        schema: RowSchema,
        spaces: EnvironmentSpaces,
        slots: Sequence[int],
        capacity: int,
        carried: Carried,
        states: StreamStates | None = None,
    ) -> None:
        streams = len(slots)
        self._schema = schema
        self._slots = list(slots)
        self._carried = carried
        self._states = states
        self._asynchronous = spaces.asynchronous
        self.lead = most_repeated_rows(spaces)
        self.capacity = capacity
        self._groups = spaces.groups
        self._agents = group_columns(spaces)

        def zeros(dtype: DTypeLike, *shape: int) -> NDArray[Any]:
            return np.zeros((streams, capacity, *shape), dtype)

        agents = len(spaces.agents)
        self._kind = np.full((streams, capacity), RowKind.STEP, np.uint8)
        self._observation = [zeros(g.observation.dtype, len(g), *g.observation.shape) for g in spaces.groups]
        self._action = [zeros(g.action.dtype, len(g), *g.action.shape) for g in spaces.groups]
        self._mask = [zeros("uint8", len(g), mask_width(g.action)) if g.masked else None for g in spaces.groups]
        self._active, self._terminated, self._truncated = (zeros("uint8", agents) for _ in range(3))
        self._reward = zeros("float32", agents)
        self._state = None if spaces.state is None else zeros(spaces.state.dtype, *spaces.state.shape)
        self._age = zeros("uint32", agents) if self._asynchronous else None
        self._first = np.full(streams, self.lead, np.intp)  # each stream's first row, a repeated one if it has any
        self.rows = np.full(streams, self.lead, np.intp)
        self.steps = np.zeros(streams, np.intp)
        self.cut_before = [slot in carried.cut for slot in slots]
        carried.cut.difference_update(slots)
        for i, slot in enumerate(slots):
            if slot in carried.lead_in:
                self._lead_in(i, carried.lead_in.pop(slot))
            self._context(i, carried.context.pop(slot, ()))

    def write(
        self,
        streams: Sequence[int],
        slots: Sequence[int],
        seen: SlotArrays,
        action: Sequence[NDArray[Any]],
        reward: NDArray[np.float64],
        terminated: NDArray[np.uint8],
        truncated: NDArray[np.uint8],
    ) -> None:
        """Write T env steps of some environments as rows (timesteps) of the message.

        S environments, N agents of a group, A agents in all.

        Args:
            streams: Which environments, by position in the order.
            slots: The number of each at the actor (its slot).
            seen: The slots' arrays before each step, with a leading axis T.
            action: Per group, (T, S, N, *shape), read where agents chose; what others did follows from `seen`.
            reward: (T, S, A), what each step gave.
            terminated: (T, S, A), flags of each step.
            truncated: (T, S, A), flags of each step.
        """
        steps = len(seen.present)
        if not streams or not steps:
            return
        if self._asynchronous or not (seen.present[:, as_index(slots)] == Active.CHOSE).all():
            action = self._carry_actions(seen, action, as_index(slots))
        put = self._write(streams, slots, seen)
        for column, values in zip(self._action, action, strict=True):
            put(column, values)
        put(self._reward, reward)
        put(self._terminated, terminated)
        put(self._truncated, truncated)
        self.steps[streams] += steps

    def end(self, streams: Sequence[int], slots: Sequence[int], kind: RowKind, seen: SlotArrays) -> None:
        """Write one closing row (final, cut or tail) for each environment, without an action.

        It holds the last observation of an episode, or where the environment stands.
        """
        if not streams:
            return
        self._kind[streams, self.rows[streams]] = kind
        put = self._write(streams, slots, seen.each(lambda a: a[None]))
        if self._asynchronous:
            for column, values in zip(self._action, self._carried.waiting(seen), strict=True):
                put(column, values[None])

    def cut(self, stream: int, slot: int, running: bool, seen: SlotArrays) -> None:
        """End an episode whose environment raised, marking its last timestep as cut off.

        Where the stream has no row of the episode, its next rows say that one was cut before them; lead-in rows, whose
        decisions are dropped with the episode, and context rows are left out.

        Args:
            stream: Position in the order.
            slot: The stream's slot.
            running: Whether the episode had steps, here or in earlier fragments.
            seen: The slots' arrays before the step or reset that raised.
        """
        if self.rows[stream] == self.lead:  # the stream has no row yet but repeated ones
            self.cut_before[stream] |= running
            self._first[stream] = self.lead
        if self.open(stream):
            self.end([stream], [slot], RowKind.CUT, seen)

    def begin_episode(self, stream: int) -> None:
        """Note that an episode begins; if it begins with the stream's first row, its agents remember nothing there."""
        if self.rows[stream] == self.lead and self._states is not None:
            self._states.begin_episode(stream)

    def open(self, stream: int) -> bool:
        """Whether an environment's last row is an env step, whose outcome has still to be written as a row after it."""
        rows = self.rows[stream]
        return bool(rows > self.lead and self._kind[stream, rows - 1] == RowKind.STEP)

    def carry(self, arrays: SlotArrays) -> None:
        """Keep for the next message what is pending, such as decisions without an outcome; call it before closing rows.

        Args:
            arrays: What the environments show now.
        """
        self._carried.cut.update(
            slot for i, slot in enumerate(self._slots) if self.cut_before[i] and self.rows[i] == self.lead
        )
        if not self._asynchronous:
            return
        for i, slot in enumerate(self._slots):
            waits = np.flatnonzero(arrays.living[slot] > arrays.present[slot])
            # The episode runs on behind a step row, or where the stream has nothing but lead-in rows.
            runs_on = self.open(i) or self.rows[i] == self.lead > self._first[i]
            if runs_on and waits.size and (lead_in := self._open_decisions(i, waits)):
                self._carried.lead_in[slot] = lead_in

    def encode(self, fragment: fragment_pb2.Fragment, level: int) -> None:
        """Compress all rows and put them, with a list of the environments that have any, into a message.

        Args:
            fragment: The envelope.
            level: zstd's.
        """
        kept = [
            (i, first, end)
            for i, (first, end) in enumerate(zip(self._first.tolist(), self.rows.tolist(), strict=True))
            if end > self.lead
        ]
        if not kept:
            return
        for i, first, end in kept:
            fragment.streams.add(
                slot=self._slots[i],
                lead_in_rows=self.lead - first if self._asynchronous else 0,
                rows=end - self.lead,
                steps=int(self.steps[i]),
                cut_before=self.cut_before[i],
                context_rows=0 if self._asynchronous else self.lead - first,
            )

        _, first, end = kept[0]
        even = len(kept) == len(self._slots) and all(k[1:] == (first, end) for k in kept)

        def joined(array: NDArray[Any]) -> NDArray[Any]:
            if even:  # the usual case, and one copy instead of many
                return array[:, first:end].reshape(-1, *array.shape[2:])
            return np.concatenate([array[i, a:b] for i, a, b in kept])

        # Flags and the like are kept for all agents together, (P, C, A); on the wire each group has its own columns.
        columns: Columns = {"kind": joined(self._kind)}
        flat = {name: joined(getattr(self, f"_{name}")) for name in ("active", "reward", "terminated", "truncated")}
        # Where every agent acts in every step, no decision stays open across fragments.
        flat["age"] = np.zeros(flat["active"].shape, np.uint32) if self._age is None else joined(self._age)
        for g, (group, agents) in enumerate(zip(self._groups, self._agents, strict=True)):
            name = group.group_id
            for what, space, values in (
                ("observation", group.observation, self._observation[g]),
                ("action", group.action, self._action[g]),
            ):
                names = leaf_columns(name, what, space)
                for (column, _), leaf in zip(names, leaf_arrays(space, values), strict=True):
                    columns[column] = joined(leaf)
            if (mask := self._mask[g]) is not None:
                columns[f"{name}/action_mask"] = joined(mask)
            columns |= {f"{name}/{what}": values[:, agents] for what, values in flat.items()}
        if self._state is not None:
            columns[STATE] = joined(self._state)
        states = b"" if self._states is None else self._states.write(fragment.streams, [i for i, _, _ in kept])
        fragment.blob, fragment.raw_bytes = self._schema.encode(columns, level, states)
        fragment.schema_hash = self._schema.hash

    def _write(
        self, streams: Sequence[int], slots: Sequence[int], seen: SlotArrays
    ) -> Callable[[NDArray[Any], NDArray[Any]], None]:
        """Write observations, masks and who acts to the environments' next T rows, and count these.

        Returns:
            A function that writes values (T, environments, ...) to the same rows of a further column.
        """
        steps = len(seen.present)
        rows = self.rows[streams]
        at: Any = as_index(streams)
        source = as_index(slots)
        # Streams side by side that have as many rows are one slice; otherwise positions are written out, (P, T).
        if isinstance(at, slice) and (rows == rows[0]).all():
            at = at, slice(int(rows[0]), int(rows[0]) + steps)
        else:
            at = np.array(streams, np.intp)[:, None], rows[:, None] + np.arange(steps)

        def put(target: NDArray[Any], values: NDArray[Any]) -> None:
            target[at] = values[:, source].swapaxes(0, 1)  # (T, P, ...) to (P, T, ...)

        put(self._active, seen.present)
        if self._state is not None and seen.state is not None:
            put(self._state, seen.state)
        for column, values in zip(self._observation, seen.observation, strict=True):
            put(column, values)
        for mask, legal in zip(self._mask, seen.mask, strict=True):
            if mask is not None and legal is not None:
                put(mask, legal)
        self.rows[streams] += steps
        return put

    def _carry_actions(self, seen: SlotArrays, action: Sequence[NDArray[Any]], slots: Any) -> list[NDArray[Any]]:
        """Return the actions to store where not all agents choose in every step: waiting agents repeat their last ones.

        Per group (T, S, N, *shape): T steps, S environments, N agents of the group.

        One step after the other, as an agent that waits repeats its action of an earlier step.
        """
        actions = [np.empty_like(a) for a in action]
        for t in range(len(seen.present)):
            self._carried.decide(seen.at(t), [a[t] for a in action], slots)
            for target, last in zip(actions, self._carried.action, strict=True):
                target[t, : len(last)] = last
        return actions

    def _lead_in(self, stream: int, rows: LeadIn) -> None:
        """Write the earlier rows that an environment repeats because an agent's decision there has no outcome yet."""
        assert self._age is not None  # environments whose agents never wait have none
        self._first[stream] = first = self.lead - len(rows.active)
        at = stream, slice(first, self.lead)
        self._kind[at] = RowKind.LEAD_IN
        self._active[at], self._age[at], self._reward[at] = rows.active, rows.age, rows.reward
        if self._state is not None:
            self._state[at] = rows.state
        for g, (observation, action) in enumerate(zip(rows.observation, rows.action, strict=True)):
            self._observation[g][at], self._action[g][at] = observation, action
            if (mask := self._mask[g]) is not None:
                mask[at] = rows.mask[g]

    def _context(self, stream: int, frames: Sequence[NDArray[Any]]) -> None:
        """Write what the running episode showed before the stream's first row, for stacks of frames."""
        for column, values in zip(self._observation, frames, strict=False):  # none where nothing is carried
            self._first[stream] = first = self.lead - len(values)
            self._kind[stream, first : self.lead] = RowKind.CONTEXT
            column[stream, first : self.lead] = values

    def _open_decisions(self, stream: int, waits: NDArray[np.intp]) -> LeadIn | None:
        """Collect the rows in which waiting agents last decided, to be repeated (as lead-in rows) in the next message.

        For example, a stream of two agents that act in turns; the episode runs on, agent 0 waits for its next turn:

            row       kind     active   age    reward
            lead - 1  LEAD_IN  1  0     2  0   3  0     agent 0 decided two steps before this stream, and got 3 since
            lead      STEP     0  1     0  0   1  0     agent 1 acts
            lead + 1  STEP     1  0     0  0   5  0     agent 0 acts: the decision of the lead-in row is closed
            lead + 2  STEP     0  1     0  0   7  0     agent 1 acts

        The last row that opened a decision of agent 0 is lead + 1: it comes again with age 2 (the step rows from it on)
        and reward 5 + 7. Had agent 0 not acted there, the lead-in row would come again, with age 2 + 3 and reward
        3 + 1 + 5 + 7.

        Args:
            stream: Position in the order.
            waits: Agents, as columns of A, that live and are not to act next.
        """
        assert self._age is not None  # environments whose agents never wait have no open decisions
        at = stream, slice(self._first[stream], self.rows[stream])
        kind = self._kind[at]
        # Rows of the running episode: those behind the last row that ended one.
        over = np.flatnonzero((kind == RowKind.FINAL) | (kind == RowKind.CUT))
        begin = int(over[-1]) + 1 if over.size else 0
        step = kind == RowKind.STEP
        age, reward = self._age[at].astype(np.int64), self._reward[at].astype(np.float64)
        # A step row opens a decision of each agent that acts in it; a lead-in row those that its ages mark.
        opens = np.where(step[:, None], self._active[at], age) > 0
        flagged = step[:, None] & ((self._terminated[at] | self._truncated[at]) > 0)
        found: dict[int, list[int]] = {}  # agents by the row in which they decided
        for agent in waits.tolist():
            rows = begin + np.flatnonzero(opens[begin:, agent])
            # One that ended and came back has decided nothing in this life.
            if rows.size and not flagged[rows[-1] :, agent].any():
                found.setdefault(int(rows[-1]), []).append(agent)
        if not found:
            return None
        kept = sorted(found)
        ages, rewards = np.zeros((len(kept), age.shape[1]), np.int64), np.zeros((len(kept), age.shape[1]))
        for k, row in enumerate(kept):
            agents = found[row]
            ages[k, agents] = age[row, agents] + np.count_nonzero(step[row:])
            # A lead-in row has what came before this stream; other lead-in rows after it are no part of its sum.
            rewards[k, agents] = reward[row, agents] + reward[row + 1 :][step[row + 1 :]][:, agents].sum(axis=0)
        return LeadIn(
            [o[at][kept] for o in self._observation],
            [a[at][kept] for a in self._action],
            [None if m is None else m[at][kept] for m in self._mask],
            self._active[at][kept],
            ages,
            rewards,
            None if self._state is None else self._state[at][kept],
        )


def most_repeated_rows(spaces: EnvironmentSpaces) -> int:
    """Return how many earlier rows an environment may have to repeat in a message.

    One per agent that can wait (lead-in rows), or all frames of a stack but the newest (context rows).
    """
    return len(spaces.agents) if spaces.asynchronous else spaces.frame_stack - 1


def as_index(positions: Sequence[int]) -> Any:
    """Return an array index for these positions: a slice where they are consecutive, otherwise an array."""
    if positions and list(positions) == list(range(positions[0], positions[0] + len(positions))):
        return slice(positions[0], positions[0] + len(positions))
    return np.array(positions, np.intp)
