"""Looks at the rows of the actor that is tried: does each slot go on where it stood, and do what its policies say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covey.rows import MAX_RAW_BYTES, MAX_ROWS, STATE, Active, RowKind, RowSchema, read_leaves
from covey.spaces import EnvironmentSpaces, choices
from covey.v1.fragment_pb2 import SHORTFALL_UNSPECIFIED, Fragment
from covey.v1.order_pb2 import Exploration
from covey_server.compliance.asked import Work
from covey_server.compliance.remembered import Remembered
from covey_server.compliance.rules import Verdicts
from covey_server.experience.frames import earlier_frames, frame_rows, read_stacks
from covey_server.experience.stream import Stream
from covey_server.ingest.validation import Accepted

Seen = dict[str, NDArray[Any]]
"""Observations in one row of a fragment, an array (agents, ...) for each group id."""

MOST_SHOWN = 16
"""Streams of an agent from which observations are kept, of each group."""


class Slots:
    """The training slots of the actor, as its fragments have shown them.

    Args:
        spaces: Spaces of the environment.
        verdicts: Where is noted what is right and wrong.

    Attributes:
        first: What each slot showed at the beginning of its last stream.
        drawn: Different actions that the built-in random policy has taken, by group.
        shown: By group, what agents saw that the built-in random policy has played, as policies read it.
        explored: Decisions that exploration was to draw uniformly, and how many of them are not the policy's.
    """

    def __init__(self, spaces: EnvironmentSpaces, verdicts: Verdicts) -> None:
        self.first: dict[int, Seen] = {}
        self.drawn: dict[str, set[bytes]] = {group.group_id: set() for group in spaces.groups}
        self.shown: dict[str, list[NDArray[Any]]] = {group.group_id: [] for group in spaces.groups}
        self.explored = [0, 0]
        self._spaces = spaces
        # Rows of a fragment; those that a slot keeps free are for a step, what closes it, and agents' open decisions.
        self._room = min(MAX_ROWS, MAX_RAW_BYTES // RowSchema.of(spaces).row_bytes)
        self._closing_rows = 2 + len(spaces.agents)
        self._verdicts, self._check = verdicts, verdicts.check
        self._remembered = Remembered(spaces, verdicts)
        self._tails: dict[int, tuple[int, Seen]] = {}  # by slot whose episode runs: the last order, and what it showed
        self._before: dict[int, list[Seen]] = {}  # of these slots, what the episode showed before, for stacks of frames

    def look(self, fragment: Fragment, order_id: int, works: Sequence[Work], accepted: Accepted) -> None:
        """Look at the rows of one fragment that has passed the learner's checks."""
        kind = np.asarray(accepted.columns["kind"], np.uint8)
        streams = {s.slot: s for s in accepted.streams}
        whole = fragment.shortfall == SHORTFALL_UNSPECIFIED
        for work in works:
            stream = streams.get(work.slot)
            if stream is None:
                if whole:
                    self._check("steps", False, f"{work.steps} env steps of slot {work.slot} in order {order_id}", 0)
                continue
            rows = slice(stream.first_new_row, stream.first_row + stream.rows)
            ends = int((kind[rows] == RowKind.FINAL).sum())
            where = f"slot {work.slot} in order {order_id}"
            if work.until_episode_end and ends:
                stopped = ends == 1 and kind[rows.stop - 1] == RowKind.FINAL
                self._check("until", stopped, f"no row of {where} after its episode's end", f"{stream.steps} steps")
            elif whole and stream.rows + self._closing_rows < self._room // len(works):
                steps = stream.steps
                self._check("steps", steps == work.steps, f"{work.steps} env steps of {where}", steps)
            told = sum(not e.evaluation and e.slot == work.slot for e in fragment.episodes)
            if ends or told:
                self._check("episodes", told == ends, f"the {ends} episodes of {where} that its rows end", told)
            self._look_at_beginning(work, stream, order_id, accepted, rows.start)
            earlier = earlier_frames(kind, [s.first_row for s in accepted.streams], self._spaces.frame_stack)
            self._look_at_context(work, stream, accepted, where)
            self._look_at_actions(work, accepted, rows, earlier, where)
            last = rows.stop - 1
            if kind[last] == RowKind.TAIL:
                self._tails[work.slot] = order_id, self._seen(accepted, last) | self._state(accepted, last)
                self._before[work.slot] = [self._seen(accepted, r) for r in range(last - int(earlier[last]), last)]
            else:
                self._tails.pop(work.slot, None)
                self._before.pop(work.slot, None)
        self._remembered.look(fragment, works, streams, accepted)

    def _look_at_beginning(self, work: Work, stream: Stream, order_id: int, accepted: Accepted, row: int) -> None:
        """Does the slot begin anew if it is to, and else where it stood?"""
        seen = self._seen(accepted, row) | self._state(accepted, row)
        self.first[work.slot] = seen
        stood = self._tails.get(work.slot)
        where = f"the stream of slot {work.slot} in order {order_id}"
        if work.restart and stood is not None:
            self._check("restart", stream.cut_before, f"cut_before in {where}", "none")
        elif work.restart:
            self._verdicts.never("restart", stream.cut_before, f"no cut_before in {where}, as no episode ran", "one")
        elif stood is not None:
            before, tail = stood
            rule = "tail" if before == order_id - 1 else "still"
            differ = [group for group in tail if not np.array_equal(tail[group], seen[group])]
            what = f"in the first row of {where} what was seen in the last one of order {before}"
            got = "another state" if STATE in differ else f"other observations of group {differ[0] if differ else ''}"
            self._check(rule, not differ, what, got)

    def _look_at_context(self, work: Work, stream: Stream, accepted: Accepted, where: str) -> None:
        """Are the stream's context rows what the running episode showed before, and as many?"""
        if self._spaces.frame_stack == 1:
            return
        goes_on = not work.restart and not stream.cut_before
        before = self._before.get(work.slot, []) if goes_on else []
        shown = [self._seen(accepted, stream.first_row + i) for i in range(stream.context_rows)]
        if not before:
            self._verdicts.never(
                "context", bool(shown), f"no context rows of {where}, as an episode begins", len(shown)
            )
            return
        same = len(shown) == len(before) and all(
            np.array_equal(a[group], b[group]) for a, b in zip(shown, before, strict=True) for group in a
        )
        expected = f"{len(before)} context rows of {where} with what its episode showed before"
        self._check("context", same, expected, f"{len(shown)}{', with others' * (len(shown) == len(before))}")

    def _look_at_actions(
        self, work: Work, accepted: Accepted, rows: slice, earlier: NDArray[np.uint8], where: str
    ) -> None:
        """Do the agents do what their policies say?"""
        columns = accepted.columns
        steps = np.asarray(columns["kind"], np.uint8)[rows] == RowKind.STEP
        for group in self._spaces.groups:
            name = group.group_id
            masks = columns.get(f"{name}/action_mask")
            for number, agent in enumerate(group.agents):
                chose = steps & (columns[f"{name}/active"][rows, number] == Active.CHOSE)
                taken = read_leaves(columns, name, "action", group.action, (rows, number))[chose]
                player = work.players[agent]
                acted = rows.start + np.flatnonzero(chose)
                if player is None:
                    self.drawn[name].update(action.tobytes() for action in taken)
                    if len(self.shown[name]) < MOST_SHOWN and chose.any():
                        seen = read_stacks(columns, group, number, frame_rows(earlier, acted, group.frame_stack))
                        self.shown[name].append(seen)
                elif _told(work.exploration) and chose.any() and not player.state_size:
                    seen = read_stacks(columns, group, number, frame_rows(earlier, acted, group.frame_stack))
                    mask = None if masks is None else masks[rows, number][chose]
                    wrong = player.wrong(number, seen, taken, mask)
                    if work.exploration is not None and work.exploration.scale:
                        self.explored[0] += len(wrong) if choices(group.action) else 0
                        self.explored[1] += int(wrong.sum())
                        continue
                    got = f"{int(wrong.sum())} others, the first {taken[wrong][:1].tolist()}"
                    what = (
                        f"{len(wrong)} actions of agent {self._spaces.agent_ids[agent]} that its policy gives, {where}"
                    )
                    self._check("epsilon" if work.exploration else player.rule, not wrong.any(), what, got)

    def _state(self, accepted: Accepted, row: int) -> Seen:
        """The state of the whole environment, where rows hold it, by the name of its column."""
        return {STATE: accepted.columns[STATE][row].copy()} if STATE in accepted.columns else {}

    def _seen(self, accepted: Accepted, row: int) -> Seen:
        return {
            g.group_id: read_leaves(accepted.columns, g.group_id, "observation", g.observation, row).copy()
            for g in self._spaces.groups
        }


def _told(exploration: Exploration | None) -> bool:
    """Whether what a policy does is looked at: without exploration, or where that is epsilon-greedy."""
    return exploration is None or exploration.kind == Exploration.KIND_EPSILON_GREEDY
