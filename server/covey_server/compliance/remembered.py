"""Looks at what the agents of the actor that is tried remember: is it what they saw, and do they act by it?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from covey.rows import Active, Columns, RowKind, read_leaves
from covey.spaces import EnvironmentSpaces
from covey.v1.fragment_pb2 import Fragment
from covey_server.compliance.asked import Work
from covey_server.compliance.rules import Verdicts
from covey_server.experience.frames import earlier_frames, frame_rows, read_stacks
from covey_server.experience.states import read_states
from covey_server.experience.stream import Stream
from covey_server.ingest.validation import Accepted

CLOSE = 1e-4
"""How far a number of a state of memory that an actor sent may be from what its policy gives here: rounding."""


class Remembered:
    """What the agents of training slots are to remember, by the rows that the actor has sent.

    Args:
        spaces: Spaces of the environment.
        verdicts: Where is noted what is right and wrong.
    """

    def __init__(self, spaces: EnvironmentSpaces, verdicts: Verdicts) -> None:
        self._spaces, self._verdicts = spaces, verdicts
        # By slot and agent: the policy, and what it remembers; nothing where an episode has ended.
        self._states: dict[tuple[int, int], tuple[bytes, NDArray[np.float32]]] = {}

    def look(
        self, fragment: Fragment, works: Sequence[Work], streams: Mapping[int, Stream], accepted: Accepted
    ) -> None:
        """Look at the streams of one fragment that are played by policies with memory."""
        sent = dict(zip((s.slot for s in fragment.streams), read_states(accepted.raw, fragment.streams), strict=True))
        for work in works:
            if (stream := streams.get(work.slot)) is None:
                continue
            kind = np.asarray(accepted.columns["kind"], np.uint8)
            earlier = earlier_frames(kind, [s.first_row for s in accepted.streams], self._spaces.frame_stack)
            for group in self._spaces.groups:
                for number, agent in enumerate(group.agents):
                    player = work.players[agent]
                    key = work.slot, agent
                    before = self._states.pop(key, None)
                    if player is None or not player.state_size:
                        continue
                    nothing = np.zeros(player.state_size, np.float32)
                    same_player = before is not None and before[0] == player.sha256
                    known = same_player and not work.restart and not stream.cut_before
                    expected = before[1] if before is not None and known else nothing
                    states = sent[work.slot]
                    state = states[agent] if states else nothing[:0]
                    where = f"agent {self._spaces.agent_ids[agent]} of slot {work.slot}"
                    same = state.shape == expected.shape and bool((np.abs(state - expected) < CLOSE).all())
                    what = f"the {len(expected)} numbers that {where} remembers, {np.round(expected[:4], 3).tolist()}"
                    got = f"{len(state)} numbers, {np.round(state[:4], 3).tolist()}"
                    if not self._verdicts.check("states", same, what, got):
                        continue
                    rows = slice(stream.first_new_row, stream.first_row + stream.rows)
                    acted, begins, ended = _acts(accepted.columns, group.group_id, number, rows)
                    columns, name = accepted.columns, group.group_id
                    frames = frame_rows(earlier, rows.start + acted, group.frame_stack)
                    seen = read_stacks(columns, group, number, frames)
                    outputs, after = player.remember(number, seen, begins, state)
                    chose = columns[f"{name}/active"][rows, number][acted] == Active.CHOSE
                    if work.exploration is None and chose.any():
                        taken = read_leaves(columns, name, "action", group.action, (rows, number))[acted][chose]
                        masks = columns.get(f"{name}/action_mask")
                        mask = None if masks is None else masks[rows, number][acted][chose]
                        wrong = player.differs(outputs[chose], taken, mask)
                        what = f"{len(wrong)} actions that the policy of {where} gives, by what it remembers"
                        self._verdicts.check("memory", not wrong.any(), what, f"{int(wrong.sum())} others")
                    self._states[key] = player.sha256, nothing if ended else after


def _acts(
    columns: Columns, group_id: str, number: int, rows: slice
) -> tuple[NDArray[np.intp], NDArray[np.bool_], bool]:
    """Find where an agent acts in a stream.

    Returns:
        The rows in which it acts; before which of these its life began anew within the stream; and whether it has
        ended since the last.
    """
    kind = np.asarray(columns["kind"], np.uint8)[rows]
    active = np.asarray(columns[f"{group_id}/active"], np.uint8)[rows, number]
    flags = [
        np.asarray(columns[f"{group_id}/{flag}"], np.uint8)[rows, number] > 0 for flag in ("terminated", "truncated")
    ]
    ends = np.isin(kind, (RowKind.FINAL, RowKind.CUT)) | flags[0] | flags[1]
    lives: NDArray[np.int64] = np.cumsum(ends) - ends  # ends before each row
    acted = np.flatnonzero((kind == RowKind.STEP) & (active > 0))
    begins = np.diff(lives[acted], prepend=0) > 0
    last = lives[acted[-1]] if len(acted) else 0
    return acted, begins, bool(ends.sum() > last)
