"""Collecting agents that act at different times: what rows hold while they wait, and what is carried on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from tests.support.asynchronous_play import Part, RhythmsEnv, policy

from covey.acting import LoadedPolicy
from covey.collect import Collector, evaluate
from covey.envs import SyncSlots, load_environment, read_spaces
from covey.errors import RefusedError, SpaceError
from covey.rows import Columns, RowKind, RowSchema
from covey.spaces import EnvironmentSpaces
from covey.v1 import fragment_pb2, order_pb2

STEP, FINAL, CUT, TAIL, LEAD_IN = RowKind.STEP, RowKind.FINAL, RowKind.CUT, RowKind.TAIL, RowKind.LEAD_IN
SAMPLE = order_pb2.Exploration(kind=order_pb2.Exploration.KIND_SAMPLE)


class Stage:
    """A collector with one training slot, and policies of one member."""

    def __init__(self, make: Callable[[], Any], *, head: str = "deterministic", evaluation: int = 0) -> None:
        self.spaces: EnvironmentSpaces = read_spaces(make())
        self.schema = RowSchema.of(self.spaces)
        slots = SyncSlots(make, self.spaces, 1 + evaluation)
        self.collector = Collector(slots, self.spaces, self.schema, 1, compression_level=1)
        self.members = [policy(agent, i, head=head) for i, agent in enumerate(self.spaces.agents)]
        self.policies = {p.sha256: p for p in self.members}
        self.orders = 0

    def order(self, steps: int, plays: Sequence[LoadedPolicy | None] | None = None, **slot: Any) -> order_pb2.Order:
        self.orders += 1
        order = order_pb2.Order(order_id=self.orders, noise_seed=self.orders)
        for p in self.members if plays is None else plays:
            order.policies.add(builtin="random") if p is None else order.policies.add(sha256=p.sha256)
        if steps:
            order.slots.add(slot=0, steps=steps, agent_policies=range(len(self.members)), seed=3, **slot)
        return order

    def run(
        self, order: order_pb2.Order, stop: Callable[[], bool] = lambda: False
    ) -> tuple[fragment_pb2.Fragment, Columns]:
        fragment = self.collector.run(order, self.policies, stop)
        rows = sum(s.rows + s.lead_in_rows for s in fragment.streams)
        return fragment, self.schema.decode(fragment.blob, rows, fragment.raw_bytes) if rows else {}

    def rows(self, steps: int, **slot: Any) -> Columns:
        return self.run(self.order(steps, **slot))[1]


def steps_seen(columns: Columns, group: str, n: int = 0) -> list[int]:
    """The env step of each row's observation."""
    return [int(x) for x in np.asarray(columns[f"{group}/observation"])[:, n, 1]]


def test_an_agent_that_waits_repeats_what_it_saw_did_and_could_do() -> None:
    rows = Stage(lambda: RhythmsEnv(20, {"walker_0": Part(1), "chooser_0": Part(3)})).rows(7)
    assert rows["kind"].tolist() == [STEP] * 7 + [TAIL]
    assert rows["walker/active"][:, 0].tolist() == [1] * 8
    assert rows["chooser/active"][:, 0].tolist() == [1, 0, 0, 1, 0, 0, 1, 0]
    assert steps_seen(rows, "chooser") == [0, 0, 0, 3, 3, 3, 6, 6]
    action, mask = np.asarray(rows["chooser/action"], np.int64)[:, 0], rows["chooser/action_mask"][:, 0]
    assert (action >= 10).all()
    for first, last in ((0, 3), (3, 6), (6, 8)):
        assert (action[first:last] == action[first]).all()
        assert mask[first].tolist() == [k != first % 4 for k in range(4)]
        assert (mask[first:last] == mask[first]).all()
    assert not rows["walker/action"][7].any(), "it is to act"


def test_on_a_tail_row_an_agent_that_is_to_act_shows_its_mask_and_no_action() -> None:
    rows = Stage(lambda: RhythmsEnv(20, {"walker_0": Part(1), "chooser_0": Part(3)})).rows(6)
    assert rows["chooser/active"][-1, 0] == 1 and rows["chooser/action"][-1, 0] == 0
    assert rows["chooser/action_mask"][-1, 0].tolist() == [1, 1, 0, 1]


def test_agents_that_appear_later_or_have_ended_are_zeros() -> None:
    parts = {"walker_0": Part(2), "walker_1": Part(2, birth=3, death=6)}
    rows = Stage(lambda: RhythmsEnv(9, parts)).rows(9)
    assert rows["kind"].tolist() == [STEP] * 9 + [FINAL]
    assert rows["walker/active"][:, 1].tolist() == [0, 0, 0, 1, 0, 1, 0, 0, 0, 0]
    # It ends in step 6, while it waits; the row after holds its true last observation.
    assert rows["walker/terminated"][:, 1].tolist() == [0] * 6 + [1, 0, 0, 0]
    assert steps_seen(rows, "walker", 1) == [0, 0, 0, 3, 3, 5, 5, 7, 0, 0]
    did = rows["walker/action"][:, 1].any(axis=1)
    assert did.tolist() == [False] * 3 + [True] * 4 + [False] * 3
    assert rows["walker/reward"][7:, 1].tolist() == [0, 0, 0]
    assert rows["walker/truncated"][:, 0].tolist() == [0] * 8 + [1, 0]
    assert not rows["walker/action"][-1].any() and steps_seen(rows, "walker")[-1] == 9


def test_steps_in_which_nobody_acts_are_steps() -> None:
    fragment, rows = (stage := Stage(lambda: RhythmsEnv(8, {"walker_0": Part(4), "chooser_0": Part(4)}))).run(
        stage.order(8)
    )
    assert rows["kind"].tolist() == [STEP] * 8 + [FINAL]
    assert rows["walker/active"][:, 0].tolist() == [1, 0, 0, 0] * 2 + [0]
    assert (fragment.streams[0].steps, fragment.episodes[0].length) == (8, 8)
    assert fragment.episodes[0].returns[0] == pytest.approx(float(rows["walker/reward"].sum()))


def test_forced_actions_are_written_as_forced() -> None:
    parts = {"sleeper_0": Part(2), "walker_0": Part(1)}
    stage = Stage(lambda: RhythmsEnv(20, parts))
    rows = stage.rows(6)
    # Forced in every second turn; on the tail row it is about to be.
    assert rows["sleeper/active"][:, 0].tolist() == [1, 0, 2, 0, 1, 0, 2]
    assert rows["sleeper/action"][2:4, 0].tolist() == [[1, 2], [1, 2]]
    assert rows["sleeper/action"][6, 0].tolist() == [0, 0]


def test_forced_actions_and_masks_where_everybody_acts_in_every_step() -> None:
    stage = Stage(lambda: RhythmsEnv(5, {"sleeper_0": Part(1), "chooser_0": Part(1, death=2)}))
    assert not stage.spaces.asynchronous
    rows = stage.rows(5)
    assert rows["sleeper/active"][:, 0].tolist() == [1, 2, 1, 2, 1, 0]
    assert rows["sleeper/action"][[1, 3], 0].tolist() == [[1, 1], [1, 3]]
    assert rows["chooser/active"][:, 0].tolist() == [1, 1, 1, 0, 0, 0]
    assert rows["chooser/action"].any(axis=1).tolist() == [True] * 3 + [False] * 3
    assert rows["chooser/action_mask"][:, 0].sum(axis=1).tolist() == [3, 3, 3, 0, 0, 0]


def test_a_decision_that_stays_open_is_carried_from_fragment_to_fragment() -> None:
    parts = {"walker_0": Part(2), "walker_1": Part(9), "chooser_0": Part(9)}
    stage = Stage(lambda: RhythmsEnv(40, parts))
    whole = Stage(lambda: RhythmsEnv(40, parts)).rows(20)
    reward = {g: np.asarray(whole[f"{g}/reward"], np.float64) for g in ("walker", "chooser")}
    at = 0
    told = []
    for steps in (4, 3, 1, 3, 2):
        fragment, rows = stage.run(stage.order(steps))
        lead = fragment.streams[0].lead_in_rows
        assert rows["kind"].tolist() == [LEAD_IN] * lead + [STEP] * steps + [TAIL]
        told.append(rows["walker/age"][:lead].tolist())
        for row in range(lead):
            for g, n in (("walker", 0), ("walker", 1), ("chooser", 0)):
                age = int(rows[f"{g}/age"][row, n])
                if age:
                    assert rows[f"{g}/reward"][row, n] == pytest.approx(reward[g][at - age : at, n].sum())
                    assert rows[f"{g}/active"][row, n] == 1
                    for column in ("observation", "action"):
                        np.testing.assert_array_equal(
                            rows[f"{g}/{column}"][row, n], whole[f"{g}/{column}"][at - age, n]
                        )
                else:
                    assert rows[f"{g}/reward"][row, n] == 0
            # One row serves both that decided in it.
            assert rows["chooser/age"][row, 0] == rows["walker/age"][row, 1]
        at += steps
    assert told == [[], [[0, 4]], [[0, 7], [1, 0]], [[0, 8]], [[0, 2], [1, 0]]]


def test_orders_that_move_nothing_leave_open_decisions_as_they_are() -> None:
    stage = Stage(lambda: RhythmsEnv(40, {"walker_0": Part(1), "walker_1": Part(9)}))
    stage.rows(4)
    fragment, _ = stage.run(stage.order(3), stop=lambda: True)
    assert not fragment.streams and fragment.shortfall == fragment_pb2.SHORTFALL_DRAIN
    stage.run(stage.order(0))
    assert stage.rows(1)["walker/age"].tolist() == [[0, 4], [0, 0], [0, 0]]


def test_an_abandoned_episode_is_told_of_by_the_next_stream_that_there_is() -> None:
    stage = Stage(lambda: RhythmsEnv(40, {"walker_0": Part(1), "walker_1": Part(9)}))
    stage.rows(4)
    fragment, _ = stage.run(stage.order(3, restart=True), stop=lambda: True)
    assert not fragment.streams
    fragment, rows = stage.run(stage.order(2))
    assert fragment.streams[0].cut_before and not fragment.streams[0].lead_in_rows
    assert steps_seen(rows, "walker") == [0, 1, 2]
    assert not stage.run(stage.order(2))[0].streams[0].cut_before


def test_a_fault_drops_what_was_open() -> None:
    stage = Stage(lambda: RhythmsEnv(40, {"walker_0": Part(1), "walker_1": Part(9)}, raise_at=5))
    stage.rows(4)
    fragment, rows = stage.run(stage.order(3))
    assert fragment.streams[0].cut_before and len(fragment.faults) == 1 and not fragment.streams[0].lead_in_rows
    assert rows["kind"].tolist() == [STEP] * 3 + [TAIL]
    fragment, rows = stage.run(stage.order(3))
    assert rows["kind"].tolist() == [LEAD_IN, STEP, CUT, STEP, STEP, TAIL]
    # On the cut row one is to act; the other goes on showing what it did.
    assert rows["walker/active"][2].tolist() == [1, 0]
    np.testing.assert_array_equal(rows["walker/action"][2], [[0, 0], rows["walker/action"][0, 1]])


def test_samples_are_stored_unclipped_and_environments_get_them_clipped() -> None:
    stage = Stage(lambda: RhythmsEnv(40, {"walker_0": Part(1), "walker_1": Part(1)}), head="stochastic")
    rows = stage.rows(40, exploration=SAMPLE)  # the environment asserts that its actions lie within bounds
    action = np.asarray(rows["walker/action"], np.float64)[:40]
    assert ((action < 1) | (action > 3)).any() and ((action > 1) & (action < 3)).any()


TICTACTOE = load_environment("pettingzoo.classic.tictactoe_v3", {})


def test_a_task_with_both_heads_and_the_random_policy() -> None:
    stage = Stage(RhythmsEnv, evaluation=2)
    plays: list[LoadedPolicy | None] = [
        policy(a, 50 + i, head=("deterministic", "stochastic")[i % 2]) for i, a in enumerate(stage.spaces.agents)
    ]
    plays[1] = None
    stage.policies |= {p.sha256: p for p in plays if p is not None}
    order = stage.order(5)
    for p in plays:
        order.policies.add(builtin="random") if p is None else order.policies.add(sha256=p.sha256)
    order.eval_steps = 16
    order.evaluations.add(task_id=1, agent_policies=range(5, 10), seeds=[1, 2, 3])
    fragment, rows = stage.run(order)
    episodes = [e for e in fragment.episodes if e.evaluation]
    assert sorted(e.seed for e in episodes) == [1, 2] and stage.collector.evaluating
    assert all(e.length == 11 and e.policies[16:32] == bytes(16) for e in episodes)
    assert fragment.eval_steps == 22 + 5 and rows["kind"].tolist() == [STEP] * 5 + [TAIL]


def test_turn_based_games_are_evaluated_against_random_from_both_seats() -> None:
    spaces = read_spaces(TICTACTOE())
    assert spaces.asynchronous and all(g.masked for g in spaces.groups)
    for seat in (0, 1):
        plays: list[LoadedPolicy | None] = [None, None]
        plays[seat] = policy(spaces.agents[seat], 3, head="stochastic")
        episodes = evaluate(TICTACTOE, spaces, plays, list(range(20)), max_episode_steps=0, slots=8)
        assert all(5 <= e.length <= 9 for e in episodes)
        # Illegal moves would cost the mover alone.
        assert all(sum(e.returns) == 0 for e in episodes)
        assert len({tuple(e.returns) for e in episodes}) > 1


def test_a_policy_that_tells_other_numbers_of_agents_apart_is_refused() -> None:
    stage = Stage(lambda: RhythmsEnv(9, {"walker_0": Part(1), "walker_1": Part(1)}))
    for indicator, fits in ((2, True), (3, False), (1, False)):
        stage.members = [policy(a, head="stochastic", indicator=indicator) for a in stage.spaces.agents]
        stage.policies = {p.sha256: p for p in stage.members}
        if fits:
            assert stage.rows(2)["kind"].tolist() == [STEP, STEP, TAIL]
            continue
        with pytest.raises(RefusedError, match="apart, expected 2"):
            stage.rows(2)


def test_room_for_lead_in_rows_is_asked_for_beforehand() -> None:
    spaces = read_spaces(RhythmsEnv())
    schema = RowSchema.of(spaces)
    slots = (32 << 20) // schema.row_bytes // 8
    with pytest.raises(SpaceError, match=r"lower actors\.max_slots"):
        Collector(SyncSlots(RhythmsEnv, spaces, 1), spaces, schema, slots, compression_level=1)
