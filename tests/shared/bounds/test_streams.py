"""What streams of an actor repeat, frames for stacks and what agents remember, is counted as it is sent and held."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from pettingzoo import ParallelEnv

from covey.acting import LoadedPolicy
from covey.bounds.experience import planned_replay, round_bytes, state_bytes, stream_steps
from covey.bounds.memory import experience_line
from covey.collect import Collector
from covey.config import Config, parse_config
from covey.envs import SyncSlots, read_spaces
from covey.rows import RowSchema
from covey.spaces import EnvironmentSpaces
from covey.v1.fragment_pb2 import Fragment
from covey.v1.order_pb2 import Exploration, Order
from covey.wire.policy_file import PolicySpec, encode_policy
from covey_server.algorithms import ALGORITHMS
from covey_server.experience.replay import Replay
from covey_server.experience.rollouts import Rollouts
from covey_server.experience.states import read_states
from covey_server.experience.stream import Stream

SLOTS = 2


class Endless(ParallelEnv):  # type: ignore[misc,type-arg,unused-ignore]
    """Two agents that see 300 numbers and never end."""

    metadata: dict[str, Any] = {"name": "endless"}  # noqa: RUF012
    possible_agents = ["walker_0", "talker_0"]  # noqa: RUF012

    def observation_space(self, agent: str) -> Any:
        return spaces.Box(-1, 1, (300 if agent == "walker_0" else 7,), np.float32)

    def action_space(self, agent: str) -> Any:
        del agent
        return spaces.Discrete(3)

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        del seed, options
        self.agents = list(self.possible_agents)
        return self.seen(), {a: {} for a in self.agents}

    def step(self, actions: Any) -> Any:
        del actions
        none = dict.fromkeys(self.agents, False)
        return self.seen(), dict.fromkeys(self.agents, 1.0), none, dict(none), {a: {} for a in self.agents}

    def seen(self) -> Any:
        return {a: np.zeros(self.observation_space(a).shape, np.float32) for a in self.agents}


def run_of(name: str, frames: int, fragment_steps: int | None, recurrent: bool, **sections: Any) -> Config:
    encoder = {"recurrent": True, "hidden_state_size": 24} if recurrent else {}
    return parse_config(
        {
            "algorithm": {"name": name, "share_parameters": False, **({"learn_step": 64} if name == "IPPO" else {})},
            "environment": {"name": "none", "num_envs": SLOTS, "frame_stack": frames},
            "network": {"encoder_config": encoder},
            "training": {"pop_size": 2},
            "actors": {} if fragment_steps is None else {"fragment_steps": fragment_steps},
            **sections,
        }
    )


def collected(config: Config, made: EnvironmentSpaces, steps: int) -> list[Fragment]:
    """The answers to orders of as many steps as are planned, until both slots together have made so many."""
    specs = ALGORITHMS[config.algorithm.name].network_specs(config, made)
    rng = np.random.default_rng(0)
    policies = [_policy(specs[f"actor/{agent.agent_id}"], agent, rng) for agent in made.agents]
    collector = Collector(SyncSlots(Endless, made, SLOTS), made, RowSchema.of(made), SLOTS, 1)
    sent: list[Fragment] = []
    each = stream_steps(config, made)
    while steps > 0:
        order = Order(order_id=len(sent) + 1, noise_seed=1)
        for policy in policies:
            order.policies.add(sha256=policy.sha256, member_id=1)
        for slot in range(SLOTS):
            work = order.slots.add(slot=slot, steps=each, agent_policies=[0, 1], member_id=1, seed=slot)
            work.exploration.kind = Exploration.KIND_SAMPLE
        sent.append(collector.run(order, {p.sha256: p for p in policies}))
        steps -= SLOTS * each
    return sent


def _policy(spec: Any, agent: Any, rng: np.random.Generator) -> LoadedPolicy:
    return LoadedPolicy.decode(encode_policy(PolicySpec(spec, agent.stacked, agent.action), spec.init(rng)))


@pytest.mark.parametrize("fragment_steps", [None, 4, 16])
@pytest.mark.parametrize("recurrent", [False, True])
@pytest.mark.parametrize("frames", [1, 4])
def test_a_round_is_as_many_bytes_as_are_sent_and_held(
    frames: int, recurrent: bool, fragment_steps: int | None
) -> None:
    config = run_of("IPPO", frames, fragment_steps, recurrent)
    made = read_spaces(Endless(), frame_stack=frames)
    schema = RowSchema.of(made)
    rollouts, sent = Rollouts(made), collected(config, made, config.algorithm.learn_step)
    held = 0
    for fragment in sent:
        rows = sum(s.rows + s.context_rows for s in fragment.streams)
        states = fragment.raw_bytes - rows * schema.row_bytes
        raw = schema.decompress(fragment.blob, rows, fragment.raw_bytes, states)
        assert states == len(fragment.streams) * state_bytes(config, made)
        streams, first = [], 0
        for s in fragment.streams:
            streams.append(Stream(s.slot, 1, first, s.rows + s.context_rows, 0, s.steps, False, s.context_rows))
            first += s.rows + s.context_rows
        rollouts.insert(1, schema.view(raw, rows), streams, "actor", None, read_states(raw, fragment.streams))
    for part in rollouts._rounds[1].fragments:
        held += sum(column.nbytes for column in part.columns.values())
        held += sum(values.nbytes for agents in part.states for values in agents)
    assert rollouts.steps(1) == config.algorithm.learn_step
    # Each slot's first stream begins an episode, and so with no frames of before.
    begins = SLOTS * (frames - 1) * schema.row_bytes
    assert sum(f.raw_bytes for f in sent) == held == round_bytes(config, made) - begins
    assert (state_bytes(config, made) > 0) == recurrent
    assert ("remember" in experience_line(config, made)) == recurrent


@pytest.mark.parametrize("fragment_steps", [None, 4, 16])
@pytest.mark.parametrize("frames", [1, 4, 16])
@pytest.mark.parametrize("tight", [False, True])
def test_replay_holds_the_env_steps_that_are_planned(tight: bool, frames: int, fragment_steps: int | None) -> None:
    memory = {"max_size": 1024, "max_bytes": 1 << (20 if tight else 30)}
    config = run_of("MATD3", frames, fragment_steps, False, replay_buffer=memory)
    made = read_spaces(Endless(), frame_stack=frames)
    schema, replay = RowSchema.of(made), ALGORITHMS["MATD3"].experience(config, made, torch.device("cpu"))
    assert isinstance(replay, Replay)
    for fragment in collected(config, made, 2500):
        rows = sum(s.rows + s.context_rows for s in fragment.streams)
        replay.insert(schema.decode(fragment.blob, rows, fragment.raw_bytes), fragment.streams)
    planned = planned_replay(config, made)
    assert tight == (planned.steps < 1024)
    message = SLOTS * stream_steps(config, made)  # whole messages are dropped, and an end of the memory stays unused
    assert planned.steps - 2 * message <= len(replay) <= planned.steps * 33 // 32
