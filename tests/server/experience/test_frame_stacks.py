"""Stacks of frames: what the learner joins from single observations is what policies read when they acted."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete
from numpy.typing import NDArray
from pettingzoo import ParallelEnv

from covey.acting import LoadedPolicy
from covey.collect import Collector
from covey.envs import SyncSlots, read_spaces
from covey.errors import FragmentError
from covey.networks import MLP, Input, NetworkSpec
from covey.observations import ObservationEncoding
from covey.rows import Columns, RowKind, RowSchema
from covey.spaces import AgentSpec, EnvironmentSpaces, join_frames, leaf_arrays, leaves
from covey.v1 import fragment_pb2, order_pb2
from covey.wire.policy_file import PolicySpec, encode_policy
from covey_server.experience.frames import earlier_frames, frame_rows, stream_rows
from covey_server.experience.replay import Replay
from covey_server.experience.replay_layout import RowLayout
from covey_server.experience.rollouts import Rollouts
from covey_server.ingest.validation import check_fragment
from covey_server.packing import counter_rng

S, F, C, T, X = RowKind.STEP, RowKind.FINAL, RowKind.CUT, RowKind.TAIL, RowKind.CONTEXT
SHAPES = {"hwc": (5, 6, 2), "chw": (2, 6, 5), "hw": (6, 5)}
SAMPLE = order_pb2.Exploration(kind=order_pb2.Exploration.KIND_SAMPLE)
EPISODES = itertools.count(1)


class Counted(ParallelEnv[str, Any, int]):  # type: ignore[misc]
    """No two of its observations are equal: each says its episode and env step. Agent 0 of some episodes ends early."""

    metadata: dict[str, Any] = {"name": "counted"}  # noqa: RUF012 - PettingZoo's form

    def __init__(self, shape: str) -> None:
        self.possible_agents = ["a_0", "a_1"]
        self._shape = SHAPES[shape]

    def observation_space(self, agent: str) -> Any:
        del agent
        clock = Box(-1e6, 1e6, (), np.float64)
        return Dict({"image": Box(0, 255, self._shape, np.uint8), "clock": clock, "turn": Discrete(4, start=2)})

    def action_space(self, agent: str) -> Any:
        del agent
        return Discrete(3)

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        del options
        rng = np.random.default_rng(seed)
        self.episode, self._time, self.agents = next(EPISODES), 0, list(self.possible_agents)
        self._length, self._early, self._raises = (int(x) for x in rng.integers((1, 1, 1), (12, 30, 30)))
        return {a: seen(self._shape, self.episode, 0, a) for a in self.agents}, {a: {} for a in self.agents}

    def step(self, actions: dict[str, int]) -> Any:
        self._time += 1
        if self._time == self._raises:
            raise RuntimeError("spoilt")
        acted, over = list(self.agents), self._time >= self._length
        ended = {a: over or (a == "a_0" and self._time == self._early) for a in acted}
        self.agents = [a for a in acted if not ended[a]]
        return (
            {a: seen(self._shape, self.episode, self._time, a) for a in acted},
            dict.fromkeys(acted, 1.0),
            {a: ended[a] and not over for a in acted},
            dict.fromkeys(acted, over),
            {a: {} for a in acted},
        )


def seen(shape: tuple[int, ...], episode: int, time: int, agent: str) -> dict[str, Any]:
    numbers = np.arange(int(np.prod(shape))) * 7 + 31 * episode + 11 * time + 5 * int(agent[-1])
    return {
        "image": (numbers % 256).astype(np.uint8).reshape(shape),
        "clock": episode + time / 100,
        "turn": 2 + time % 4,
    }


def policy(agent: AgentSpec, seed: int) -> LoadedPolicy:
    net = NetworkSpec(
        inputs=(Input("observation", agent.stacked.width, MLP(hidden_size=(4,), min_mlp_nodes=1)),),
        head=MLP(hidden_size=(4,)),
        outputs=agent.action.width,
        latent_dim=4,
    )
    params = net.init(np.random.default_rng(seed))
    return LoadedPolicy.decode(encode_policy(PolicySpec(net, agent.stacked, agent.action), params))


@dataclass
class Stage:
    """An actor of 3 training slots and 1 for evaluation, and a learner that takes what it sends."""

    shape: str
    frames: int
    seed: int
    sent: list[tuple[fragment_pb2.Fragment, Columns]] = field(default_factory=list)
    acted: dict[tuple[int, float], NDArray[Any]] = field(default_factory=dict)  # by agent and newest clock

    def __post_init__(self) -> None:
        self.spaces = read_spaces(Counted(self.shape), frame_stack=self.frames)
        self.schema = RowSchema.of(self.spaces)
        self.rng = np.random.default_rng(self.seed)
        self.replay, self.rollouts = Replay(self.spaces, 10_000, 1 << 26), Rollouts(self.spaces)
        self.members = [policy(agent, i) for i, agent in enumerate(self.spaces.agents)]
        self.steps = self.orders = self.lives = 0
        self.start()

    def start(self) -> None:
        slots = SyncSlots(lambda: Counted(self.shape), self.spaces, 4)
        self.collector = Collector(slots, self.spaces, self.schema, 3, compression_level=1)
        self.lives += 1
        decisions = self.collector._decisions
        decide = decisions.decide

        def noted(observation: Any, *rest: Any) -> Any:
            for s, n in np.ndindex(observation[0].shape[:2]):
                stack = observation[0][s, n]
                self.acted[n, float(stack["clock"][-1])] = stack.copy()
            return decide(observation, *rest)

        decisions.decide = noted  # type: ignore[method-assign, assignment]

    def order(self) -> None:
        """An order of random steps to some of the slots, with restarts now and then, and its fragment."""
        self.orders += 1
        order = order_pb2.Order(order_id=self.orders, noise_seed=self.orders, eval_steps=int(self.rng.integers(3)))
        for p in self.members:
            order.policies.add(sha256=p.sha256)
        for slot in np.flatnonzero(self.rng.random(3) < 0.8).tolist():
            order.slots.add(
                slot=slot,
                steps=int(self.rng.integers(1, 9)),
                agent_policies=[0, 1],
                member_id=3,
                seed=int(self.rng.integers(1 << 30)),
                restart=bool(self.rng.random() < 0.1),
                until_episode_end=bool(self.rng.random() < 0.1),
                exploration=SAMPLE,
            )
        if order.eval_steps:
            seed = int(self.rng.integers(1 << 20))
            order.evaluations.add(task_id=self.orders, agent_policies=[0, 1], seeds=[seed], max_episode_steps=20)
        calls = itertools.count()
        last = int(self.rng.integers(1, 40))
        fragment = self.collector.run(order, {p.sha256: p for p in self.members}, lambda: next(calls) >= last)
        accepted = check_fragment(fragment, order, self.schema, self.spaces)
        self.steps += accepted.steps
        if accepted.rows:
            self.sent.append((fragment, accepted.columns))
            self.replay.insert(accepted.columns, fragment.streams)
            self.rollouts.insert(3, accepted.columns, accepted.streams, self.lives)

    def expected(self, clock: float, agent: int) -> NDArray[Any]:
        """The stack that ends with what an agent saw at this clock, as episodes were."""
        episode, time = divmod(round(clock * 100), 100)
        group = self.spaces.groups[0]
        shown = [seen(SHAPES[self.shape], episode, max(0, time - j), f"a_{agent}") for j in range(self.frames)]
        stack = np.zeros((), group.stacked.dtype)
        for leaf, target in zip(leaves(group.observation), leaf_arrays(group.stacked, stack), strict=True):
            target[...] = join_frames(leaf.space, np.array([frame[leaf.name] for frame in reversed(shown)]))
        return stack


@pytest.mark.parametrize(("shape", "frames", "seed"), [("hwc", 3, 0), ("chw", 2, 1), ("hw", 4, 2), ("hwc", 16, 3)])
def test_the_learner_joins_what_the_policy_read(shape: str, frames: int, seed: int) -> None:
    stage = Stage(shape, frames, seed)
    for i in range(60):
        if i % 20 == 19:  # killed: another process begins, whose environments begin anew
            stage.start()
        stage.order()
    kinds = np.concatenate([columns["kind"] for _, columns in stage.sent])
    assert {S, F, C, T, X} == set(kinds.tolist())
    assert any(s.cut_before for fragment, _ in stage.sent for s in fragment.streams)

    closed = 0
    rollout = stage.rollouts.take(3)
    for agent, its in enumerate(rollout.agents):
        for here, after, terminated in zip(its.here, its.after, its.terminated, strict=True):
            view: Any = its.view
            clock = float(view[here]["clock"][-1])
            assert its.view[here] == stage.acted[agent, clock] == stage.expected(clock, agent)
            assert its.view[after] == stage.expected(clock + 0.01, agent) or terminated
            closed += 1
    assert closed > 200

    keys = counter_rng.keys(0, [0], [0], torch.device("cpu"))
    batch = stage.replay.sample(keys, torch.tensor([512]), 512)
    group, encoding = stage.spaces.groups[0], ObservationEncoding.of(stage.spaces.groups[0].stacked)
    now = batch.observation[0].numpy().reshape(512, 2, -1)
    assert leaves(group.stacked)[0].name == "clock"  # so that a stack's newest clock is number `frames - 1`
    for n in range(2):
        after = batch.next_observation[0].numpy()
        after = after.reshape(*after.shape[:-1], 2, -1)
        after = after[n, 0, :, n] if after.ndim == 5 else after[0, :, n]
        counts = batch.weight[0, :, n].numpy() > 0
        for i in np.flatnonzero(counts).tolist():
            clock = round(float(now[i, n, frames - 1]), 2)
            assert (now[i, n] == encoding.encode(stage.acted[n, clock].reshape(1, 1))[0]).all()
            assert (after[i] == encoding.encode(stage.expected(clock + 0.01, n).reshape(1, 1))[0]).all()
        assert counts.sum() > 200


def test_decisions_read_stacks_of_the_first_observation_when_an_episode_begins() -> None:
    stage = Stage("hw", 4, 0)
    stage.order()
    first = [stack for (_, clock), stack in stage.acted.items() if clock == int(clock) and clock]
    assert first
    for stack in first:
        assert (stack["clock"] == stack["clock"][0]).all() and (stack["image"] == stack["image"][0]).all()


def test_rows_of_stacks() -> None:
    kind = np.array([X, X, S, S, F, S, T], np.uint8)
    earlier = earlier_frames(kind, [0], 3)
    assert earlier.tolist() == [0, 1, 2, 2, 2, 0, 1]
    assert frame_rows(earlier, np.arange(7), 3).T.tolist() == [
        [0, 0, 0],
        [0, 0, 1],
        [0, 1, 2],
        [1, 2, 3],
        [2, 3, 4],
        [5, 5, 5],
        [5, 5, 6],
    ]


def test_an_image_is_stored_once() -> None:
    """At 32 env steps a slot an image transition takes at most 1.15 times the bytes of one set of frames."""
    spaces = read_spaces(Images(), frame_stack=4)
    schema = RowSchema.of(spaces)
    steps, slots = 32, 8
    collector = Collector(SyncSlots(Images, spaces, slots + 1), spaces, schema, slots, compression_level=1)
    replay = Replay(spaces, 1000, 1 << 28)
    fragments = []
    for number in range(2):
        order = order_pb2.Order(order_id=number + 1, noise_seed=number)
        order.policies.add(builtin="random")
        for slot in range(slots):
            order.slots.add(slot=slot, steps=steps, agent_policies=[0, 0])
        fragments.append(collector.run(order, {}))
    fragment = fragments[-1]
    rows = sum(map(stream_rows, fragment.streams))
    replay.insert(schema.decode(fragment.blob, rows, fragment.raw_bytes), fragment.streams)
    assert fragment.streams[0].context_rows == 3
    frame_set = 2 * 84 * 84
    stored = rows * RowLayout(spaces, torch.device("cpu")).row_bytes / len(replay)
    print(f"{stored:,.0f} bytes a transition, {stored / frame_set:.3f} times the {frame_set:,} of its images")
    assert stored / frame_set <= 1.15


class Images(Counted):
    """Images of 84 x 84 pixels, in episodes without end."""

    def __init__(self) -> None:
        super().__init__("hw")

    def observation_space(self, agent: str) -> Any:
        del agent
        return Box(0, 255, (84, 84), np.uint8)

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        del seed, options
        self.agents = list(self.possible_agents)
        return {a: np.zeros((84, 84), np.uint8) for a in self.agents}, {a: {} for a in self.agents}

    def step(self, actions: dict[str, int]) -> Any:
        no = dict.fromkeys(actions, False)
        seen = {a: np.zeros((84, 84), np.uint8) for a in actions}
        return seen, dict.fromkeys(actions, 0.0), no, no, {a: {} for a in actions}


SPACES = EnvironmentSpaces.build(read_spaces(Counted("hw")).agents, frame_stack=3)


def fragment_of(
    kinds: Sequence[int], claims: dict[str, int], **flags: Any
) -> tuple[fragment_pb2.Fragment, order_pb2.Order]:
    """A fragment of one stream of these rows, in which both agents act, and the order that it answers."""
    schema = RowSchema.of(SPACES)
    columns = schema.empty(len(kinds))
    columns["kind"][:] = kinds
    columns["a/active"][:] = np.isin(kinds, (S, T, C))[:, None]
    columns["a/observation.turn"][:] = 2
    for name, at in flags.items():
        row, agent, value = at
        columns[f"a/{name}"][row, agent] = value
    order = order_pb2.Order(order_id=1)
    order.policies.add(builtin="random")
    order.slots.add(slot=0, steps=8, agent_policies=[0, 0], member_id=3)
    fragment = fragment_pb2.Fragment(order_id=1, schema_hash=schema.hash)
    fragment.blob, fragment.raw_bytes = schema.encode(columns, 1)
    rows = {"steps": kinds.count(S), "rows": len(kinds) - kinds.count(X), "context_rows": kinds.count(X)}
    fragment.streams.add(slot=0, **rows | claims)
    return fragment, order


@pytest.mark.parametrize(
    ("kinds", "claims", "flags", "reason", "says"),
    [
        ([X, X, X, S, T], {}, {}, "rows", "3 context rows, expected at most 2"),
        ([X, S, T], {"cut_before": 1}, {}, "rows", "1 context rows behind a cut"),
        ([X, S, T], {"context_rows": 0, "rows": 3}, {}, "rows", "1 context rows, expected the 1, 0 and 0"),
        ([S, X, S, T], {}, {}, "rows", "of kind 6 after kind 1"),
        ([X, S, T], {}, {"active": (0, 1, 1)}, "flags", "a/active: set in context rows"),
        ([X, S, T], {}, {"reward": (0, 1, 1)}, "flags", "a/reward: set in context rows"),
        ([S, S, T], {}, {"active": (1, 1, 0)}, "flags", "row 1: agent 'a_1' waits"),
        ([RowKind.LEAD_IN, S, T], {"lead_in_rows": 1, "rows": 2}, {}, "rows", "a lead-in row for each of 0 agents"),
    ],
)
def test_rows_that_make_no_stacks_are_refused(
    kinds: Sequence[int], claims: dict[str, int], flags: dict[str, Any], reason: str, says: str
) -> None:
    with pytest.raises(FragmentError, match=says) as refused:
        check_fragment(*fragment_of(kinds, claims, **flags), RowSchema.of(SPACES), SPACES)
    assert refused.value.reason == reason


@pytest.mark.parametrize("kinds", [[X, X, S, T], [X, S, F], [S, F, S, S, T], [X, X, C]])
def test_rows_that_make_stacks_are_taken(kinds: Sequence[int]) -> None:
    accepted = check_fragment(*fragment_of(kinds, {}), RowSchema.of(SPACES), SPACES)
    assert accepted.streams[0].context_rows == kinds.count(X) and accepted.rows == len(kinds)


def test_an_agent_that_ended_does_not_wait() -> None:
    kinds = [X, S, S, T]
    flags = {"terminated": (1, 1, 1), "active": (slice(2, None), 1, 0)}
    assert check_fragment(*fragment_of(kinds, {}, **flags), RowSchema.of(SPACES), SPACES).steps == 2
