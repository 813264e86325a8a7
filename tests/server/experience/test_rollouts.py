"""A round as fragments bring it, and the decisions that come of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from tests.support.fragments import SPACES

from covey.rows import Columns, RowKind, RowSchema
from covey.spaces import AgentSpec, Box, Discrete, EnvironmentSpaces
from covey_server.experience.rollouts import AgentDecisions, Rollout, Rollouts
from covey_server.experience.stream import Stream

S, F, C, T, L = RowKind.STEP, RowKind.FINAL, RowKind.CUT, RowKind.TAIL, RowKind.LEAD_IN

SOLO = EnvironmentSpaces.build([AgentSpec("a_0", Box("float32", (1,), (-9.0,), (9.0,)), Discrete(99))])
TURNS = EnvironmentSpaces.build(
    [AgentSpec(f"p_{i}", Box("float32", (1,), (-9.0,), (9.0,)), Discrete(99), masked=True) for i in range(2)],
    asynchronous=True,
)


def solo(rows: Sequence[tuple[RowKind, float]], **flags: Sequence[int]) -> Columns:
    """Rows (kind, observation) of one agent that always acts; its action is ten times what it sees, its reward too."""
    columns = RowSchema.of(SOLO).empty(len(rows))
    columns["kind"][:] = [kind for kind, _ in rows]
    seen = np.array([x for _, x in rows])
    columns["a/observation"][:, 0, 0] = seen
    step = columns["kind"] == S
    columns["a/action"][:, 0] = 10 * seen * step
    columns["a/reward"][:, 0] = 10 * seen * step
    columns["a/active"][:, 0] = columns["kind"] != F
    for name, at in flags.items():
        columns[f"a/{name}"][list(at), 0] = 1
    return columns


def whole(columns: Columns, slot: int = 0, lead_in: int = 0, cut_before: bool = False) -> list[Stream]:
    kind = columns["kind"]
    return [Stream(slot, 3, 0, len(kind), lead_in, int((kind == S).sum()), cut_before)]


def told(d: AgentDecisions) -> list[tuple[float, int, float, bool, bool]]:
    """(what was seen, action, what was seen next, terminated, continues) of every decision."""
    return [
        (float(d.view[h, 0]), int(a), float(d.view[n, 0]), bool(t), bool(c))
        for h, a, n, t, c in zip(d.here, d.action, d.after, d.terminated, d.continues, strict=True)
    ]


def taken(*fragments: tuple[Columns, list[Stream]], spaces: EnvironmentSpaces = SOLO) -> Rollout:
    rollouts = Rollouts(spaces)
    for i, (columns, streams) in enumerate(fragments):
        rollouts.insert(3, columns, streams, "actor", i)
    return rollouts.take(3)


def test_fragments_of_a_slot_chain_where_one_ends_and_the_next_begins() -> None:
    first = solo([(S, 1), (S, 2), (T, 3)])
    second = solo([(S, 3), (S, 4), (F, 5), (S, 6), (T, 7)], terminated=[1])
    (d,) = taken((first, whole(first)), (second, whole(second))).agents
    assert told(d) == [
        (1, 10, 2, False, True),
        (2, 20, 3, False, True),
        (3, 30, 4, False, True),
        (4, 40, 5, True, False),
        (6, 60, 7, False, False),
    ]
    assert d.steps.tolist() == [1] * 5 and d.reward.tolist() == [10, 20, 30, 40, 60]


@pytest.mark.parametrize(
    "reason", ["cut_before", "another observation", "another slot", "another actor", "episode end"]
)
def test_what_does_not_follow_is_not_chained(reason: str) -> None:
    first = solo([(S, 1), (F if reason == "episode end" else T, 2)])
    second = solo([(S, 3 if reason == "another observation" else 2), (T, 4)])
    rollouts = Rollouts(SOLO)
    rollouts.insert(3, first, whole(first), "actor")
    rollouts.insert(
        3,
        second,
        whole(second, slot=int(reason == "another slot"), cut_before=reason == "cut_before"),
        "other" if reason == "another actor" else "actor",
    )
    (d,) = rollouts.take(3).agents
    assert d.continues.tolist() == [False, False]


def test_slots_that_take_turns_in_the_fragments_keep_their_own_chains() -> None:
    def both(a: Sequence[tuple[RowKind, float]], b: Sequence[tuple[RowKind, float]]) -> tuple[Columns, list[Stream]]:
        columns = solo([*a, *b])
        return columns, [Stream(0, 3, 0, len(a), 0, 1, False), Stream(1, 3, len(a), len(b), 0, 1, False)]

    (d,) = taken(both([(S, 1), (T, 2)], [(S, 5), (T, 6)]), both([(S, 2), (T, 3)], [(S, 6), (T, 7)])).agents
    assert told(d) == [
        (1, 10, 2, False, True),
        (2, 20, 3, False, False),
        (5, 50, 6, False, True),
        (6, 60, 7, False, False),
    ]


def test_a_cut_row_closes_what_stands_before_it_and_nothing_follows() -> None:
    columns = solo([(S, 1), (C, 2), (S, 3), (S, 4), (F, 5)], truncated=[3])
    (d,) = taken((columns, whole(columns))).agents
    assert told(d) == [(1, 10, 2, False, False), (3, 30, 4, False, True), (4, 40, 5, False, False)]


def turns(
    rows: Sequence[tuple[RowKind, Sequence[float], Sequence[int], Sequence[float]]], ages: dict[int, list[int]]
) -> Columns:
    """Rows (kind, observations, active, rewards) of two players; a row's actions are its players' observations."""
    columns = RowSchema.of(TURNS).empty(len(rows))
    columns["kind"][:] = [r[0] for r in rows]
    columns["p/observation"][:, :, 0] = [r[1] for r in rows]
    columns["p/action"][:] = [r[1] for r in rows]
    columns["p/active"][:] = [r[2] for r in rows]
    columns["p/reward"][:] = [r[3] for r in rows]
    columns["p/action_mask"][:, :, 7] = 1
    for row, age in ages.items():
        columns["p/age"][row] = age
    return columns


def test_players_in_turn_chain_over_fragments_through_lead_in_rows() -> None:
    """Player 0 acts in rows 1, 3, 5 of an episode, player 1 in 2, 4; the fragment ends while 1 has an open decision."""
    first = turns(
        [
            (S, (1, 0), (1, 0), (0.5, 0)),
            (S, (1, 2), (0, 1), (1, 0.25)),
            (T, (3, 2), (1, 0), (0, 0)),
        ],
        {},
    )
    second = turns(
        [
            (L, (1, 2), (0, 1), (9, 0.25)),
            (S, (3, 2), (2, 0), (0, 2)),
            (S, (3, 4), (0, 1), (1, 4)),
            (S, (5, 4), (1, 0), (8, -8)),
            (F, (6, 7), (0, 0), (0, 0)),
        ],
        {0: [0, 1]},
    )
    second["p/terminated"][3] = 1
    a, b = taken((first, whole(first)), (second, whole(second, lead_in=1)), spaces=TURNS).agents
    assert told(a) == [(1, 1, 3, False, True), (3, 3, 5, False, True), (5, 5, 6, True, False)]
    assert told(b) == [(2, 2, 4, False, True), (4, 4, 7, True, False)]
    assert (a.steps.tolist(), a.reward.tolist(), a.forced.tolist()) == ([2, 2, 1], [1.5, 1, 8], [False, True, False])
    assert (b.steps.tolist(), b.reward.tolist()) == ([2, 2], [2.25, -4])
    assert a.mask is not None and a.mask.shape == (3, 99) and a.mask[:, 7].all()


def test_decisions_that_an_earlier_policy_made_are_left_out() -> None:
    """The round begins with a fragment that repeats the row of an open decision: it was made in the round before."""
    columns = turns(
        [(L, (1, 2), (0, 1), (0, 1)), (S, (3, 2), (1, 0), (1, 1)), (T, (3, 4), (0, 1), (0, 0))], {0: [0, 1]}
    )
    a, b = taken((columns, whole(columns, lead_in=1)), spaces=TURNS).agents
    assert told(a) == told(b) == []


def test_a_fragment_of_several_members_is_told_apart() -> None:
    columns = solo([(S, 1), (T, 2), (S, 3), (T, 4), (S, 5), (T, 6)])
    streams = [Stream(i, 3 + i % 2, 2 * i, 2, 0, 1, False) for i in range(3)]
    rollouts = Rollouts(SOLO)
    for m in (3, 4):
        rollouts.insert(m, columns, [s for s in streams if s.member_id == m], "actor", ("tag", m))
    assert (rollouts.steps(3), rollouts.steps(4), rollouts.steps(5), len(rollouts)) == (2, 1, 0, 3)
    assert (rollouts.positions(3), rollouts.positions(5)) == ([("tag", 3)], [])
    assert [x[0] for x in told(rollouts.take(3).agents[0])] == [1, 5]
    assert (rollouts.steps(3), rollouts.positions(3), len(rollouts)) == (0, [], 1)
    rollouts.drop(4)
    rollouts.drop(4)
    assert len(rollouts) == 0


def test_agents_of_groups_are_given_in_the_environments_order() -> None:
    columns = RowSchema.of(SPACES).empty(2)
    columns["kind"][:] = [S, T]
    for group in SPACES.groups:
        columns[f"{group.group_id}/active"][:] = 1
        for n, agent in enumerate(group.agents):
            columns[f"{group.group_id}/reward"][0, n] = agent
    rollout = taken((columns, whole(columns)), spaces=SPACES)
    assert [float(d.reward[0]) for d in rollout.agents] == [0, 1, 2]
    assert [d.view.shape for d in rollout.agents] == [(2, 4), (2, 4), (2, 3)]
