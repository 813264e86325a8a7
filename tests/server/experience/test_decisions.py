"""Closing decisions: hand-made rows, and what actors collect, cut into orders of every length."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from tests.support.asynchronous_play import Decision, Part, Recorder, RhythmsEnv, policy
from tests.support.fragments import SPACES, C, F, L, S, T, columns, fragment

from covey.acting import LoadedPolicy
from covey.collect import Collector
from covey.envs import SyncSlots, load_environment, read_spaces
from covey.rows import Active, Columns, RowSchema
from covey.spaces import EnvironmentSpaces
from covey.v1.fragment_pb2 import Fragment
from covey.v1.order_pb2 import Order
from covey_server.experience.decisions import ClosedDecisions, close_decisions
from covey_server.ingest.validation import check_fragment

WALKERS, SPEAKER = "walker", "speaker"


def closed(
    kinds: list[list[int]], change: Callable[[Columns], None] = lambda _: None
) -> tuple[Columns, ClosedDecisions]:
    values = columns([k for stream in kinds for k in stream])
    for g in (WALKERS, SPEAKER):
        values[f"{g}/age"][:] = 0
    change(values)
    return values, close_decisions(values, fragment(kinds, values).streams, SPACES)


def test_where_everybody_acts_every_row_closes_the_one_before() -> None:
    def change(values: Columns) -> None:
        values["walker/terminated"][2, 1] = 1
        values["speaker/truncated"][7] = 1

    values, found = closed([[S, S, S, F, S, T], [S, S, C, S, T]], change)
    step = values["kind"] == S
    assert (found.closes == step[:, None]).all()
    assert (found.next_row[step] == np.flatnonzero(step)[:, None] + 1).all()
    assert (found.steps == 1).all()
    np.testing.assert_array_equal(found.reward[:, 2], values["speaker/reward"][:, 0])
    assert np.argwhere(found.terminated).tolist() == [[2, 1]]
    assert np.argwhere(found.ended).tolist() == [[2, 0], [2, 1], [2, 2], [7, 2]]


def test_the_example_in_the_module_docstring() -> None:
    def change(values: Columns) -> None:
        values["walker/active"][:] = [[1, 1], [0, 1], [0, 1], [1, 0], [1, 0]]
        values["walker/reward"][:4] = [[1, 5], [2, 5], [3, 5], [4, 5]]

    _, found = closed([[S, S, S, S, T]], change)
    assert np.argwhere(found.closes[:, :2]).tolist() == [[0, 0], [0, 1], [1, 1], [3, 0]]
    at = found.closes[:, :2]
    assert found.next_row[:, :2][at].tolist() == [3, 1, 2, 4]
    assert found.steps[:, :2][at].tolist() == [3, 1, 1, 1]
    assert found.reward[:, :2][at].tolist() == [6, 5, 5, 4]


def test_a_decision_closes_where_the_agent_acts_again_and_its_rewards_are_summed() -> None:
    def change(values: Columns) -> None:
        values["walker/active"][1:3, 0] = 0  # waits for two steps, and acts again in row 3
        values["walker/active"][4, 1] = 0  # waits where the fragment ends: open
        values["walker/reward"][:, 0] = [1, 2, 4, 8, 0]

    _, found = closed([[S, S, S, S, T]], change)
    assert found.closes[:, 0].tolist() == [True, False, False, True, False]
    assert found.closes[:, 1].tolist() == [True, True, True, False, False]
    assert found.next_row[:, 0].tolist() == [3, 1, 2, 4, 4]
    assert found.steps[[0, 3], 0].tolist() == [3, 1]
    assert found.reward[[0, 3], 0].tolist() == [7, 8]
    assert not found.ended.any() and not found.terminated.any()


def test_waiting_at_the_tail_alone_leaves_a_decision_open() -> None:
    def change(values: Columns) -> None:
        values["walker/active"][1, 0] = 0

    _, found = closed([[S, T]], change)
    assert found.closes.tolist() == [[False, True, True], [False, False, False]]


def test_a_decision_of_an_agent_that_ends_while_it_waits() -> None:
    def change(values: Columns) -> None:
        values["walker/active"][1:, 0] = 0
        values["walker/terminated"][2, 0] = 1
        values["walker/reward"][:, 0] = [1, 2, 4, 0, 0]

    _, found = closed([[S, S, S, S, T]], change)
    assert found.closes[:, 0].tolist() == [True, False, False, False, False]
    assert (found.next_row[0, 0], found.steps[0, 0], found.reward[0, 0]) == (3, 3, 7)
    assert found.terminated[0, 0] and found.ended[0, 0]


def test_an_episodes_end_closes_and_a_cut_closes_only_what_is_to_act() -> None:
    def change(values: Columns) -> None:
        values["walker/active"][[1, 3, 4], 0] = 0
        values["walker/active"][2] = 0  # the final row

    _, found = closed([[S, S, F, S, C]], change)
    assert found.next_row[0, 0] == 2 and found.closes[0, 0] and found.ended[0, 0] and not found.terminated[0, 0]
    assert found.closes[3].tolist() == [False, True, True]
    assert not found.ended[3].any()


def test_decisions_that_came_in_count_from_where_they_were_made() -> None:
    def change(values: Columns) -> None:
        values["walker/age"][0, 1] = 5
        values["speaker/age"][1, 0] = 2
        values["walker/reward"][:, 1] = [10, 99, 1, 2, 0]
        values["speaker/reward"][:, 0] = [99, 20, 3, 4, 0]
        values["walker/active"][2, 1] = 0
        values["speaker/active"][2:4] = 0

    _, found = closed([[L, L, S, S, T]], change)
    assert found.closes[:2].tolist() == [[False, True, False], [False, False, True]]
    assert (found.next_row[0, 1], found.steps[0, 1], found.reward[0, 1]) == (3, 6, 11)
    assert (found.next_row[1, 2], found.steps[1, 2], found.reward[1, 2]) == (4, 4, 27)


def test_streams_are_apart() -> None:
    def change(values: Columns) -> None:
        values["walker/active"][2, 0] = 0  # the first stream's tail: what is open there is not closed by the second

    _, found = closed([[S, S, T], [S, T]], change)
    assert found.closes[:, 0].tolist() == [True, False, False, True, False]


# -- what actors collect --------------------------------------------------------------


class Collected:
    """Slots that are recorded, and everything closed in the fragments of the orders they are given."""

    def __init__(self, make: Callable[[], Any], slots: int = 1) -> None:
        self.spaces: EnvironmentSpaces = read_spaces(make())
        self.schema = RowSchema.of(self.spaces)
        self.recorders: list[Recorder] = []

        def recorded() -> Any:
            self.recorders.append(Recorder(make()))
            return self.recorders[-1]

        environments = SyncSlots(recorded, self.spaces, slots)
        self.collector = Collector(environments, self.spaces, self.schema, slots, compression_level=1)
        self.members = [policy(agent, i) for i, agent in enumerate(self.spaces.agents)]
        self.policies: dict[bytes, LoadedPolicy] = {p.sha256: p for p in self.members}
        self.closed: Counter[tuple[Any, ...]] = Counter()
        self.lead_in_rows = 0
        self.orders = 0
        self.fragments: list[tuple[Fragment, Columns]] = []

    def run(self, steps: dict[int, int], **slot: Any) -> None:
        self.orders += 1
        order = Order(order_id=self.orders, noise_seed=self.orders)
        for p in self.members:
            order.policies.add(sha256=p.sha256)
        for s, n in steps.items():
            order.slots.add(slot=s, steps=n, agent_policies=range(len(self.members)), seed=5 + s, **slot)
        fragment = self.collector.run(order, self.policies)
        accepted = check_fragment(fragment, order, self.schema, self.spaces)
        self.fragments.append((fragment, accepted.columns))
        found = close_decisions(accepted.columns, fragment.streams, self.spaces)
        for stream in accepted.streams:
            self.lead_in_rows += stream.lead_in_rows
            for row in range(stream.first_row, stream.first_row + stream.rows):
                for decision in self._closed(found, accepted.columns, row):
                    self.closed[decision] += 1

    def _closed(self, found: ClosedDecisions, values: Columns, row: int) -> Iterator[tuple[Any, ...]]:
        for group in self.spaces.groups:
            seen, done = values[f"{group.group_id}/observation"], values[f"{group.group_id}/action"]
            for i, n in enumerate(group.agents):
                if found.closes[row, n]:
                    yield (
                        self.spaces.agent_ids[n],
                        seen[row, i].tobytes(),
                        done[row, i].tobytes(),
                        float(found.reward[row, n]),
                        int(found.steps[row, n]),
                        seen[found.next_row[row, n], i].tobytes(),
                        bool(found.terminated[row, n]),
                        bool(found.ended[row, n]),
                    )

    def expected(self) -> Counter[tuple[Any, ...]]:
        """What the recorders tell of; which episode it was is not told by rows."""

        def told(d: Decision) -> tuple[Any, ...]:
            return (d.agent, *d[2:])

        return Counter(told(d) for r in self.recorders for d in r.decisions)


TAKING_TURNS = {"walker_0": Part(2), "walker_1": Part(2, birth=1)}
MEETING_AGAIN = {"walker_0": Part(1), "chooser_0": Part(4), "chooser_1": Part(6, death=9), "walker_1": Part(6, death=5)}
WITH_IDLE_STEPS = {"walker_0": Part(3), "chooser_0": Part(6), "sleeper_0": Part(9)}

WORLDS: dict[str, Callable[[], Any]] = {
    "everything": RhythmsEnv,
    "turns": lambda: RhythmsEnv(9, TAKING_TURNS),
    "together now and then": lambda: RhythmsEnv(14, MEETING_AGAIN),
    "idle steps": lambda: RhythmsEnv(20, WITH_IDLE_STEPS),
    "tictactoe": load_environment("pettingzoo.classic.tictactoe_v3", {}),
}


@pytest.mark.parametrize("world", WORLDS)
def test_however_orders_cut_it_the_same_decisions_close(world: str) -> None:
    total = 29
    for length in range(1, total + 1):
        collected = Collected(WORLDS[world])
        assert collected.spaces.asynchronous
        for begin in range(0, total, length):
            collected.run({0: min(length, total - begin)})
        expected = collected.expected()
        assert collected.closed == expected, f"orders of {length} steps"
        assert expected.total() > 8
        assert length > 4 or collected.lead_in_rows


def test_slots_out_of_phase_that_pause_meanwhile() -> None:
    rng = np.random.default_rng(1)
    collected = Collected(RhythmsEnv, slots=3)
    for _ in range(30):
        moving = rng.permutation(3)[: rng.integers(1, 4)].tolist()
        collected.run({slot: int(rng.integers(1, 8)) for slot in moving}, until_episode_end=bool(rng.integers(2)))
    assert collected.closed == collected.expected()
    assert collected.lead_in_rows > 10


def test_what_was_open_is_dropped_where_an_episode_is_abandoned() -> None:
    collected = Collected(RhythmsEnv)
    for i in range(12):
        collected.run({0: 4}, restart=i % 3 == 2)
    assert collected.closed == collected.expected()
    assert [f.streams[0].cut_before for f, _ in collected.fragments] == [i % 3 == 2 for i in range(12)]
    assert all(f.streams[0].lead_in_rows == 0 for f, _ in collected.fragments[2::3])


@pytest.mark.parametrize("length", range(1, 12))
def test_faults_cut_and_close_only_what_was_to_act(length: int) -> None:
    collected = Collected(lambda: RhythmsEnv(raise_at=6))
    for _ in range(24 // length):
        collected.run({0: length})
    # At the cut the two that act every and every second step are to act, and the recorder, which closes a decision
    # when its agent is shown something, has closed theirs in the step before.
    assert collected.closed == collected.expected()
    assert sum(len(f.faults) for f, _ in collected.fragments) >= 3


def test_forced_actions_are_told_as_what_they_were() -> None:
    collected = Collected(lambda: RhythmsEnv(40, {"sleeper_0": Part(2), "walker_0": Part(3)}))
    collected.run({0: 20})
    _, values = collected.fragments[0]
    forced = np.flatnonzero(values["sleeper/active"][:, 0] == Active.FORCED)
    steps = forced[forced < 20]
    assert steps.tolist() == [2, 6, 10, 14, 18]
    assert values["sleeper/action"][steps, 0].tolist() == [[1, row % 5] for row in steps]
