"""Random play in which agents act, wait, appear, end and are forced at any time; as fragments, and as it was.

A second implementation of what rows mean: every decision is recorded while it is played, fragments are cut afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covey.rows import Columns, RowKind, RowSchema
from covey.spaces import Box, Discrete, EnvironmentSpaces, Space, choices
from covey.v1.fragment_pb2 import SlotStream
from covey_server.experience.parts import Part


@dataclass
class Cell:
    """An agent in a row."""

    observation: NDArray[Any]
    action: NDArray[Any]
    mask: NDArray[Any] | None
    part: Part = Part.ABSENT
    reward: float = 0.0
    terminated: bool = False
    truncated: bool = False
    decision: Decision | None = None  # what it is bound to, or decides


@dataclass
class Decision:
    """When an agent decided, what came of it, and where it was closed."""

    agent: int
    row: int
    reward: float = 0.0
    steps: int = 0
    terminated: bool = False
    closed_at: int = -1


@dataclass
class Play:
    """Rows of several episodes, FINAL rows among them, and all decisions."""

    rows: list[list[Cell]]
    final: list[bool]
    decisions: list[Decision]


@dataclass
class Cut:
    """A fragment, the decisions that close in it, and the row that its TAIL row announces (-1: none)."""

    columns: Columns
    streams: list[SlotStream]
    closed: list[Decision]
    tail: int


def something(space: Space, rng: np.random.Generator) -> NDArray[Any]:
    if isinstance(space, Discrete):
        return np.array(space.start + rng.integers(space.n))
    if not isinstance(space, Box):
        return rng.integers(choices(space)).astype(space.dtype)
    if np.dtype(space.dtype).kind in "iu":
        return rng.integers(0, 9, space.shape).astype(space.dtype)
    return rng.uniform(-1, 1, space.shape).astype(space.dtype)


def blank(spaces: EnvironmentSpaces, agent: int) -> Cell:
    spec = spaces.agents[agent]
    mask = np.zeros(spec.action.width, np.uint8) if spec.masked else None
    observation, action = (np.zeros(s.shape, s.dtype) for s in (spec.observation, spec.action))
    return Cell(observation, action, mask)


def decide(spaces: EnvironmentSpaces, agent: int, forced: bool, rng: np.random.Generator) -> Cell:
    spec = spaces.agents[agent]
    action, mask = something(spec.action, rng), None
    if spec.masked:
        values = choices(spec.action)
        mask = (rng.random(sum(values)) < 0.5).astype(np.uint8)
        first = spec.action.start if isinstance(spec.action, Discrete) else 0
        mask[np.cumsum((0, *values[:-1])) + action.reshape(-1) - first] = 1
    return Cell(something(spec.observation, rng), action, mask, Part.FORCED if forced else Part.CHOSE)


def play(spaces: EnvironmentSpaces, episodes: int, seed: int, forced: float = 0.1) -> Play:
    """Episodes of up to 12 steps; rewards are whole numbers."""
    rng = np.random.default_rng(seed)
    made = Play([], [], [])
    n = len(spaces.agents)
    for _ in range(episodes):
        living, ended = set(range(n)), set[int]()
        bound: dict[int, Cell] = {}
        last, t = rng.integers(1, 12), -1
        while True:
            t += 1
            cells = [blank(spaces, i) for i in range(n)]
            for i in ended:
                cells[i].observation, cells[i].part = something(spaces.agents[i].observation, rng), Part.LEFT
                close(made, bound.pop(i, None))
            ended = set()
            if not living:
                break
            acting = set(rng.permutation(sorted(living))[: rng.integers(1, len(living) + 1)].tolist())
            for i in living:
                if i in acting:
                    close(made, bound.get(i))
                    cells[i] = bound[i] = decide(spaces, i, rng.random() < forced, rng)
                    made.decisions.append(Decision(i, len(made.rows)))
                    cells[i].decision = made.decisions[-1]
                elif i in bound:
                    b = bound[i]
                    cells[i] = Cell(b.observation, b.action, b.mask, Part.WAITS, decision=b.decision)
            for i in sorted(living):
                cells[i].reward = float(rng.integers(-4, 5))
                if t == last or rng.random() < 0.08:
                    cells[i].terminated = bool(rng.random() < 0.5)
                    cells[i].truncated = not cells[i].terminated
                    ended.add(i)
                if (d := cells[i].decision) is not None:
                    d.reward, d.steps, d.terminated = d.reward + cells[i].reward, d.steps + 1, cells[i].terminated
            living -= ended
            made.rows.append(cells)
            made.final.append(False)
        made.rows.append(cells)
        made.final.append(True)
    return made


def close(made: Play, cell: Cell | None) -> None:
    if cell is not None and cell.decision is not None:
        cell.decision.closed_at = len(made.rows)


def fragments(made: Play, spaces: EnvironmentSpaces, lengths: Sequence[int]) -> list[Cut]:
    """Cut after so many steps each, in turn.

    A fragment that starts in the middle of an episode begins with the rows whose decisions are open.
    """
    result = []
    start, turn = 0, 0
    while start < len(made.rows):
        end, steps = start, 0
        while end < len(made.rows) and steps < lengths[turn % len(lengths)]:
            steps += not made.final[end]
            end += 1
        if end < len(made.rows) and made.final[end]:
            end += 1
        turn += 1
        tail = end < len(made.rows) and not made.final[end - 1]
        open_ = [c.decision for c in made.rows[start] if c.part == Part.WAITS and c.decision is not None]
        lead_in = sorted({d.row for d in open_})
        columns = RowSchema.of(spaces).empty(len(lead_in) + end - start + tail)
        at = 0
        for row in lead_in:
            write(columns, spaces, at, RowKind.LEAD_IN, made.rows[row])
            for d in open_:
                if d.row == row:
                    name, k = place(spaces, d.agent)
                    columns[f"{name}/age"][at, k] = sum(not f for f in made.final[row:start])
                    columns[f"{name}/reward"][at, k] = sum(made.rows[r][d.agent].reward for r in range(row, start))
            at += 1
        for row in range(start, end):
            write(columns, spaces, at, RowKind.FINAL if made.final[row] else RowKind.STEP, made.rows[row])
            at += 1
        if tail:
            write(columns, spaces, at, RowKind.TAIL, made.rows[end])
        closed = [d for d in made.decisions if start < d.closed_at < end + tail and (d.row >= start or d in open_)]
        stream = SlotStream(rows=end - start + tail, lead_in_rows=len(lead_in), steps=steps)
        result.append(Cut(columns, [stream], closed, end if tail else -1))
        start = end
    return result


def place(spaces: EnvironmentSpaces, agent: int) -> tuple[str, int]:
    group = next(g for g in spaces.groups if agent in g.agents)
    return group.group_id, group.agents.index(agent)


def write(columns: Columns, spaces: EnvironmentSpaces, at: int, kind: RowKind, cells: list[Cell]) -> None:
    columns["kind"][at] = kind
    for agent, cell in enumerate(cells):
        name, k = place(spaces, agent)
        acts = cell.part in (Part.CHOSE, Part.FORCED)
        columns[f"{name}/observation"][at, k] = cell.observation
        if kind != RowKind.TAIL or not acts:
            columns[f"{name}/action"][at, k] = cell.action
        if cell.mask is not None:
            columns[f"{name}/action_mask"][at, k] = cell.mask
        columns[f"{name}/active"][at, k] = cell.part if acts else 0
        if kind == RowKind.STEP:
            columns[f"{name}/reward"][at, k] = cell.reward
            columns[f"{name}/terminated"][at, k] = cell.terminated
            columns[f"{name}/truncated"][at, k] = cell.truncated
