"""The replay memory where agents act at different times, against random play and against numbers by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from tests.support.examples import examples
from tests.support.random_play import Cell, Cut, Decision, Play, fragments, play
from torch import Tensor

from covey.rows import Columns, RowKind, RowSchema
from covey.spaces import AgentSpec, Box, Discrete, EnvironmentSpaces
from covey.v1.fragment_pb2 import SlotStream
from covey_server.experience.batch import Batch
from covey_server.experience.parts import Part
from covey_server.experience.replay import Replay
from covey_server.packing import counter_rng

S, F, T, L = RowKind.STEP, RowKind.FINAL, RowKind.TAIL, RowKind.LEAD_IN


def box(n: int, dtype: str = "float32", low: float = -1.0, high: float = 1.0) -> Box:
    return Box(dtype, (n,), (low,) * n, (high,) * n)


# y's numbers are encoded: a 0 is not an input of 0 for the network, unless the agent is not there.
TURNS = EnvironmentSpaces.build(
    [
        AgentSpec("x_0", box(2), Discrete(3, start=1), masked=True),
        AgentSpec("y_0", box(6, "int16", low=-2, high=10), box(2, low=0, high=4)),
        AgentSpec("x_1", box(2), Discrete(3, start=1), masked=True),
    ],
    asynchronous=True,
)


def draw(replay: Replay, sizes: Sequence[int], update: int = 0) -> Batch:
    keys = counter_rng.keys(3, range(len(sizes)), [update] * len(sizes))
    return replay.sample(keys, torch.tensor(sizes), max(sizes))


def seen_by_critics(agent: int, cell: Cell) -> tuple[list[float], list[float]]:
    """An agent's observation and action as inputs."""
    if agent == 1:
        return ((cell.observation + 2) / 12).tolist(), (cell.action / 2 - 1).tolist()
    return cell.observation.tolist(), [float(k + 1 == cell.action) for k in range(3)]


def check_rows(
    cells: list[Cell], got: list[int], expected: list[Part], observation: list[Tensor], action: Tensor, legal: Tensor
) -> None:
    """What a batch says of a row against the play: observation (2, width) and (width,), joint action and masks."""
    columns = {0: slice(0, 3), 1: slice(3, 5), 2: slice(5, 8)}
    shown = {0: observation[0][:2], 1: observation[1], 2: observation[0][2:]}
    for agent, cell in enumerate(cells):
        own, mask = action[columns[agent]], legal[columns[agent]]
        seen, done = seen_by_critics(agent, cell)
        if cell.part != Part.LEFT or expected[agent] == Part.CHOSE:
            assert got[agent] == expected[agent]
        if got[agent] == Part.ABSENT:
            assert not own.any() and (cell.part == Part.LEFT or not shown[agent].any())
        else:
            np.testing.assert_allclose(shown[agent], seen, rtol=1e-6)
        if got[agent] in (Part.FORCED, Part.WAITS) and cell.part != Part.LEFT:
            np.testing.assert_allclose(own, done, rtol=1e-6)
        written = cell.mask is not None and cell.mask.any()
        np.testing.assert_array_equal(mask, cell.mask if written else torch.ones_like(mask))


def at_closing(played: Play, cut: Cut, decision: Decision) -> list[Part]:
    """Who chooses where a decision closes, as a judge of its agent has to see it."""
    row = decision.closed_at
    expected = []
    for agent, cell in enumerate(played.rows[row]):
        part = cell.part
        if part == Part.FORCED and row == cut.tail:
            part = Part.CHOSE  # to what, only the next fragment says
        bound = next((d for d in cut.closed if (d.agent, d.closed_at) == (agent, row)), None)
        if bound is not None and (bound is decision or played.final[row]) and part == Part.LEFT:
            part = Part.LEFT if bound.terminated and bound is not decision else Part.CHOSE
        expected.append(part)
    return expected


@examples(0.1)
@given(st.integers(0, 10**6), st.lists(st.integers(1, 9), min_size=1, max_size=3), st.sampled_from([25, 500]))
def test_where_agents_take_turns_every_decision_is_found_once_with_what_came_of_it(
    seed: int, lengths: list[int], max_size: int
) -> None:
    played = play(TURNS, 12, seed)
    cuts = fragments(played, TURNS, lengths)
    assert sum(len(c.closed) for c in cuts) == sum(d.closed_at >= 0 for d in played.decisions)
    replay = Replay(TURNS, max_size, 1 << 24)
    for i, cut in enumerate(cuts):
        replay.insert(cut.columns, cut.streams, i)
    held = cuts[-replay.fragments :]
    assert replay.oldest_tag == len(cuts) - len(held)
    assert max_size == 25 or len(held) == len(cuts)
    assert len(replay) == sum(c.streams[0].steps for c in held)
    known = {
        (d.agent, played.rows[d.row][d.agent].observation.astype(np.float32).tobytes()): (d, c)
        for c in held
        for d in c.closed
    }
    assume(len(known) == sum(len(c.closed) for c in held))  # a decision is known by what its agent saw
    found = set()
    for update in range(8):
        batch = draw(replay, [300, 211], update)
        assert batch.part is not None and batch.next_part is not None and batch.steps is not None
        assert batch.legal is not None and batch.next_legal is not None and batch.next_action is not None
        assert batch.weight[1, 211:].sum() == 0 and (batch.weight[:, :211].sum(2) > 0).all()
        for m, b, agent in batch.weight.nonzero().tolist() if update == 0 else batch.weight[:1].nonzero().tolist():
            own = batch.observation[0][m, b, agent : agent + 2]
            if agent == 1:
                own = (batch.observation[1][m, b] * 12 - 2).round()
            key = (agent, own.numpy().tobytes())
            if key in found:
                continue
            decision, cut = known[key]
            found.add(key)
            assert batch.reward[m, b, agent] == decision.reward
            assert batch.steps[m, b, agent] == decision.steps
            assert batch.terminated[m, b, agent] == decision.terminated
            cells = played.rows[decision.row]
            np.testing.assert_allclose(
                batch.action[m, b, [slice(0, 3), slice(3, 5), slice(5, 8)][agent]],
                seen_by_critics(agent, cells[agent])[1],
                rtol=1e-6,
            )
            check_rows(
                cells,
                batch.part[m, b].tolist(),
                [c.part for c in cells],
                [x[m, b] for x in batch.observation],
                batch.action[m, b],
                batch.legal[m, b],
            )
            if not decision.terminated:
                check_rows(
                    played.rows[decision.closed_at],
                    batch.next_part[agent, m, b].tolist(),
                    at_closing(played, cut, decision),
                    [x[agent, m, b] for x in batch.next_observation],
                    batch.next_action[agent, m, b],
                    batch.next_legal[agent, m, b],
                )
    assert found == set(known)


def hand_made() -> list[tuple[Columns, list[SlotStream]]]:
    """x_0 acts in rows 0 and 3, x_1 in 1, 2 and after the cut; rewards are powers of 2; y_0 is never there."""
    schema = RowSchema.of(TURNS)
    first, second = schema.empty(5), schema.empty(3)
    first["kind"][:] = [S, S, S, S, T]
    first["x/active"][:] = [[1, 0], [0, 1], [0, 1], [1, 0], [0, 1]]
    first["x/observation"][:, :, 0] = [[0.1, 0], [0.1, 0.2], [0.1, 0.3], [0.4, 0.3], [0.4, 0.5]]
    first["x/action"][:] = [[2, 0], [2, 1], [2, 3], [1, 3], [1, 0]]
    first["x/reward"][:4] = [[1, 0], [2, 16], [4, 32], [8, 64]]
    second["kind"][:] = [L, S, F]
    second["x/active"][:] = [[1, 0], [0, 1], [0, 0]]
    second["x/observation"][:, :, 0] = [[0.4, 0.3], [0.4, 0.5], [0.7, 0.6]]
    second["x/action"][:] = [[1, 3], [1, 2], [0, 0]]
    second["x/reward"][:] = [[8, 0], [128, 256], [0, 0]]
    second["x/age"][0] = [1, 0]
    second["x/terminated"][1, 0] = 1
    second["x/truncated"][1, 1] = 1
    return [
        (first, [SlotStream(slot=0, rows=5, steps=4)]),
        (second, [SlotStream(slot=0, rows=2, lead_in_rows=1, steps=1)]),
    ]


def test_next_rows_distances_and_sums_of_a_game_of_turns() -> None:
    replay = Replay(TURNS, 100, 1 << 24)
    for columns, streams in hand_made():
        replay.insert(columns, streams)
    assert len(replay) == 5
    batch = draw(replay, [400])
    assert batch.part is not None and batch.next_part is not None and batch.steps is not None
    found = {}
    for b in range(400):
        for agent in (0, 2):
            if batch.weight[0, b, agent]:
                k = 0 if agent == 0 else 2
                after = batch.next_observation[0][agent, 0, b]
                found[agent, round(float(batch.observation[0][0, b, k]), 1)] = (
                    float(batch.reward[0, b, agent]),
                    int(batch.steps[0, b, agent]),
                    float(batch.terminated[0, b, agent]),
                    [round(float(after[0]), 1), round(float(after[2]), 1)],
                    [batch.part[0, b, i].item() for i in (0, 2)],
                    [batch.next_part[agent, 0, b, i].item() for i in (0, 2)],
                )
    assert batch.weight[..., 1].sum() == 0 and not batch.part[..., 1].any()
    chose, waits, absent, left = Part.CHOSE, Part.WAITS, Part.ABSENT, Part.LEFT
    assert found == {
        (0, 0.1): (7.0, 3, 0.0, [0.4, 0.3], [chose, absent], [chose, waits]),
        (2, 0.2): (16.0, 1, 0.0, [0.1, 0.3], [waits, chose], [waits, chose]),
        (2, 0.3): (96.0, 2, 0.0, [0.4, 0.5], [waits, chose], [waits, chose]),
        (0, 0.4): (136.0, 2, 1.0, [0.7, 0.6], [chose, waits], [chose, chose]),
        (2, 0.5): (256.0, 1, 0.0, [0.7, 0.6], [waits, chose], [left, chose]),
    }


def test_a_decision_that_is_open_where_its_fragment_ends_counts_in_the_one_in_which_it_closes() -> None:
    replay = Replay(TURNS, 100, 1 << 24)
    first, second = hand_made()
    replay.insert(*first)
    assert {round(float(x), 1) for x in replay.step_rows()["float32"][:, 0]} == {0.1}
    replay.insert(*second)
    assert {round(float(x), 1) for x in replay.step_rows()["float32"][:, 0]} == {0.1, 0.4}


def everybody(number: int, steps: int) -> tuple[Columns, list[SlotStream]]:
    """A fragment of TURNS in which all act all the time."""
    columns = RowSchema.of(TURNS).empty(steps + 1)
    columns["kind"][:] = [S] * steps + [T]
    for group in "xy":
        columns[f"{group}/active"][:] = 1
        columns[f"{group}/reward"][:] = number
    columns["x/observation"][:, :, 0] = number
    columns["x/observation"][:, :, 1] = np.arange(steps + 1)[:, None]
    columns["x/action"][:] = 1
    return columns, [SlotStream(rows=steps + 1, steps=steps)]


def test_rows_from_before_the_first_wait_keep_their_meaning_and_are_evicted_like_the_others() -> None:
    replay = Replay(TURNS, 20, 1 << 24)
    for number in (1, 2, 3):
        replay.insert(*everybody(number, 5), tag=number)
    assert replay._links is None
    before = draw(replay, [200])
    assert before.part is None and before.next_observation[0].shape == (1, 200, 4)
    replay.insert(*hand_made()[0], tag=4)
    assert replay._links is not None and (len(replay), replay.oldest_tag) == (19, 1)
    after = draw(replay, [200])
    assert after.part is not None and after.steps is not None and after.next_part is not None
    old = after.reward[0, :, 1] > 0
    assert 0 < old.sum() < 200 and set(after.reward[0, old, 1].tolist()) == {1, 2, 3}
    assert (after.weight[0, old] == 1).all() and (after.steps[0, old] == 1).all()
    assert (after.part[0, old] == Part.CHOSE).all() and (after.next_part[:, 0, old] == Part.CHOSE).all()
    for view in after.next_observation[0]:
        now = after.observation[0][0, old]
        assert torch.equal(view[0, old], now + torch.tensor([0.0, 1, 0, 1]))
    for number in range(5, 12):  # the tenth lies where the game of turns lay
        replay.insert(*everybody(number, 5), tag=number)
    last = draw(replay, [200])
    assert replay.oldest_tag == 8 and set(last.reward[0, :, 0].tolist()) == {8, 9, 10, 11}
    assert last.steps is not None and (last.steps == 1).all() and (last.weight == 1).all()


def test_the_bound_on_bytes_covers_links() -> None:
    max_bytes = 8 * 1000 + 50 * 150
    replay = Replay(TURNS, 1000, max_bytes)
    for columns, streams in hand_made():
        replay.insert(columns, streams)
    assert replay._links is not None
    kept = (*replay._matrices.values(), replay._drawable_rows, replay._links)
    assert sum(m.numel() * m.element_size() for m in kept) <= max_bytes


def test_an_agent_that_is_not_there_is_zeros_for_a_network_whatever_its_encoding() -> None:
    spaces = EnvironmentSpaces.build(
        [
            AgentSpec("a_0", Discrete(3), Discrete(2)),
            AgentSpec("b_0", box(1, "int16", low=-5, high=5), box(1, low=1, high=3)),
        ]
    )
    columns = RowSchema.of(spaces).empty(3)
    columns["kind"][:] = [S, S, T]
    columns["a/active"][:] = [[1], [0], [0]]
    columns["b/active"][:] = [[0], [1], [1]]
    columns["a/terminated"][0] = 1
    columns["a/observation"][1] = 2
    replay = Replay(spaces, 4, 1 << 20)
    replay.insert(columns, [SlotStream(rows=3, steps=2)])
    batch = draw(replay, [50])
    assert batch.next_action is not None and batch.next_part is not None
    first = batch.weight[0, :, 0] == 1
    assert 0 < first.sum() < 50
    assert batch.observation[0][0, first][0].tolist() == [1, 0, 0]
    assert batch.observation[1][0, first][0].tolist() == [0] and batch.action[0, first][0].tolist() == [1, 0, 0]
    assert batch.observation[0][0, ~first][0].tolist() == [0, 0, 1]  # the last thing that it saw
    assert batch.action[0, ~first][0].tolist() == [0, 0, -2]
    assert batch.next_observation[0][1, 0, ~first][0].tolist() == [0, 0, 0]
    assert batch.next_part[1, 0, ~first][0].tolist() == [Part.ABSENT, Part.CHOSE]
