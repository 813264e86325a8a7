"""What agents remember, over orders, policies, members and waiting, as fragments tell it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.support.asynchronous_play import Part, RhythmsEnv
from tests.support.cue_environment import CueEnv
from tests.support.remembering import remembered, remembering

from covey.acting import LoadedPolicy
from covey.collect import Collector
from covey.collect.stream_states import check_memory
from covey.envs import SyncSlots, read_spaces
from covey.envs.loading import MakeEnv
from covey.errors import RefusedError
from covey.rows import Columns, RowKind, RowSchema
from covey.spaces import EnvironmentSpaces
from covey.v1.fragment_pb2 import Fragment
from covey.v1.order_pb2 import Order
from covey_server.experience.states import read_states, state_bytes
from covey_server.ingest.validation import check_fragment

States = Sequence[NDArray[np.float32]]


class Actor:
    """One training slot."""

    def __init__(self, make: MakeEnv) -> None:
        self.spaces: EnvironmentSpaces = read_spaces(make())
        self.schema = RowSchema.of(self.spaces)
        self.collector = Collector(SyncSlots(make, self.spaces, 1), self.spaces, self.schema, 1, 1)
        self.orders = 0

    def play(
        self, players: Sequence[LoadedPolicy | None], steps: int, member: int = 1, restart: bool = False
    ) -> tuple[Columns, States, Fragment]:
        """Rows, and what agents remembered where they begin."""
        self.orders += 1
        order = Order(order_id=self.orders)
        known: dict[bytes, LoadedPolicy] = {}
        for player in players:
            if player is None:
                order.policies.add(builtin="random")
            else:
                order.policies.add(sha256=player.sha256, member_id=member)
                known[player.sha256] = player
        order.slots.add(
            slot=0, member_id=member, steps=steps, agent_policies=range(len(players)), seed=7, restart=restart
        )
        fragment = self.collector.run(order, known)
        sizes: Mapping[bytes, int] = {sha: p.spec.network.state_size for sha, p in known.items()}
        accepted = check_fragment(
            fragment, order, self.schema, self.spaces, unclipped=True, state_size=lambda sha: sizes[sha]
        )
        (states,) = read_states(accepted.raw, fragment.streams)
        return accepted.columns, states, fragment


def seen_of(columns: Columns, agent: int) -> NDArray[np.float32]:
    """What an agent of `CueEnv` saw in the step rows of a stream."""
    steps = np.asarray(columns["kind"]) == RowKind.STEP
    return np.asarray(columns["agent/observation"][steps, agent], np.float32)


def cue() -> Any:
    return CueEnv(delay=8)


def test_states_begin_at_nothing_and_go_on_over_orders_and_updates_of_a_member() -> None:
    actor = Actor(cue)
    old = [remembering(agent, seed=i) for i, agent in enumerate(actor.spaces.agents)]
    new = [remembering(agent, seed=9 + i) for i, agent in enumerate(actor.spaces.agents)]
    first, states, _ = actor.play(old, 3)
    assert [s.tolist() for s in states] == [[0.0] * 5] * 2
    expected = [remembered(p, seen_of(first, i), states[i]) for i, p in enumerate(old)]
    second, states, _ = actor.play(new, 2)  # the same member with other weights
    np.testing.assert_allclose(states, expected, atol=1e-6)
    assert np.abs(states).min() > 1e-4
    expected = [remembered(p, seen_of(second, i), states[i]) for i, p in enumerate(new)]
    _, states, _ = actor.play(new, 4)
    np.testing.assert_allclose(states, expected, atol=1e-6)
    # The episode has 9 steps: it is over.
    _, states, _ = actor.play(new, 2)
    assert not np.any(states), "the first row of this stream begins an episode"
    assert actor.play(new, 1, restart=True)[2].streams[0].cut_before
    _, states, _ = actor.play(new, 1)
    assert np.abs(states).min() > 1e-4


@pytest.mark.parametrize("between", ["other member", "other size", "random"])
def test_who_takes_over_an_episode_begins_with_nothing(between: str) -> None:
    actor = Actor(cue)
    own = [remembering(agent, seed=i) for i, agent in enumerate(actor.spaces.agents)]
    other = [remembering(agent, seed=5, state=4 if between == "other size" else 5) for agent in actor.spaces.agents]
    actor.play(own, 2)
    match between:
        case "random":
            _, states, fragment = actor.play([None, own[1]], 2)
            assert list(fragment.streams[0].state_sizes) == [0, 5] and np.abs(states[1]).min() > 1e-4
            _, states, _ = actor.play(own, 2)
            assert not states[0].any() and np.abs(states[1]).min() > 1e-4
        case "other size":
            _, states, fragment = actor.play(other, 2)
            assert list(fragment.streams[0].state_sizes) == [4, 4] and not np.any(states)
        case _:
            _, states, _ = actor.play(other, 2, member=2)
            assert not np.any(states)


def test_nothing_is_sent_where_nobody_has_memory() -> None:
    actor = Actor(cue)
    plain = [remembering(agent, seed=i, state=0) for i, agent in enumerate(actor.spaces.agents)]
    columns, states, fragment = actor.play(plain, 3)
    assert not fragment.streams[0].state_sizes and not states and not state_bytes(fragment.streams)
    assert fragment.raw_bytes == len(columns["kind"]) * actor.schema.row_bytes
    with_memory = [remembering(actor.spaces.agents[0], seed=3), plain[1]]
    columns, states, fragment = actor.play(with_memory, 3)
    assert list(fragment.streams[0].state_sizes) == [5, 0]
    assert fragment.raw_bytes == len(columns["kind"]) * actor.schema.row_bytes + 20


def test_agents_that_wait_remember_what_they_did_and_streams_begin_behind_their_lead_in_rows() -> None:
    parts = {"walker_0": Part(1), "walker_1": Part(3)}

    def rhythms() -> Any:
        return RhythmsEnv(length=20, parts=parts)

    actor = Actor(rhythms)
    own = [remembering(agent, seed=i) for i, agent in enumerate(actor.spaces.agents)]
    columns, states, _ = actor.play(own, 2)  # walker_1 acts in step 0 alone
    observation = np.asarray(columns["walker/observation"], np.float32)
    expected = remembered(own[0], observation[:2, 0], states[0]), remembered(own[1], observation[:1, 1], states[1])
    columns, states, fragment = actor.play(own, 3)  # and in step 3
    assert fragment.streams[0].lead_in_rows == 1 and columns["kind"][0] == RowKind.LEAD_IN
    np.testing.assert_allclose(states, expected, atol=1e-6)
    observation = np.asarray(columns["walker/observation"], np.float32)
    active = np.asarray(columns["walker/active"])
    assert active[1:4].tolist() == [[1, 0], [1, 1], [1, 0]]
    expected = remembered(own[0], observation[1:4, 0], states[0]), remembered(own[1], observation[2:3, 1], states[1])
    _, states, _ = actor.play(own, 1)
    np.testing.assert_allclose(states, expected, atol=1e-6)


def test_an_agent_that_comes_back_begins_with_nothing() -> None:
    parts = {"walker_0": Part(1), "walker_1": Part(1, death=2)}

    class Returning(RhythmsEnv):
        """Walker 1 ends in step 2 and is there again from step 5 on."""

        def step(self, actions: dict[str, Any]) -> Any:
            result = super().step(actions)
            if self.count == 5:
                self.agents = [a for a in self.possible_agents if a == "walker_1" or a in self.agents]
                seen, infos = self._next()
                return seen, *result[1:4], infos
            return result

    def returning() -> Any:
        return Returning(length=20, parts=parts)

    actor = Actor(returning)
    own = [remembering(agent, seed=i) for i, agent in enumerate(actor.spaces.agents)]
    actor.play(own, 2)
    assert np.abs(actor.play(own, 3)[1][1]).min() > 1e-4
    columns, states, _ = actor.play(own, 1)
    assert not states[1].any() and np.asarray(columns["walker/active"])[0].tolist() == [1, 1]


def test_a_broken_episode_leaves_nothing_behind() -> None:
    def breaks() -> Any:
        return RhythmsEnv(length=20, parts={"walker_0": Part(1), "walker_1": Part(1)}, raise_at=4)

    actor = Actor(breaks)
    own = [remembering(agent, seed=i) for i, agent in enumerate(actor.spaces.agents)]
    actor.play(own, 3)
    _, states, fragment = actor.play(own, 2)  # raises at once, then begins anew
    assert fragment.streams[0].cut_before and not np.any(states)


def test_states_that_no_sensible_run_has_are_refused_before_memory_is_taken() -> None:
    large = [remembering(read_spaces(cue()).agents[0], seed=1, state=4096)]
    assert check_memory(large, 400, 40) and not check_memory([], 400, 40)
    with pytest.raises(
        RefusedError, match="policies with states of 4096 numbers: 81,920,000 for 500 environments of 40"
    ):
        check_memory(large, 500, 40)
