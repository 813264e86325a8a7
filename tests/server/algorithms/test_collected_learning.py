"""What actors collect in real environments, in the replay memory, and learned from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from covey.collect import Collector
from covey.config import parse_config
from covey.envs import SyncSlots, load_environment, read_spaces
from covey.rows import RowSchema
from covey.spaces import EnvironmentSpaces
from covey.v1.order_pb2 import Order
from covey_server.algorithms import ALGORITHMS, build_networks
from covey_server.experience.batch import Batch
from covey_server.experience.replay import Replay
from covey_server.ingest.validation import check_fragment
from covey_server.member import Member
from covey_server.packing import counter_rng


def collected(name: str, orders: int, steps: int, **arguments: Any) -> tuple[Replay, EnvironmentSpaces]:
    """Two slots of an environment, played at random, `steps` env steps an order and slot."""
    make = load_environment(name, arguments)
    spaces = read_spaces(make())
    schema = RowSchema.of(spaces)
    slots = SyncSlots(make, spaces, 2)
    collector = Collector(slots, spaces, schema, 2, compression_level=1)
    replay = Replay(spaces, 10_000, 1 << 28)
    for number in range(1, orders + 1):
        order = Order(order_id=number, noise_seed=number)
        order.policies.add(builtin="random")
        for slot in range(2):
            order.slots.add(
                slot=slot, steps=steps, agent_policies=[0] * len(spaces.agents), seed=slot, restart=number == 1
            )
        fragment = collector.run(order, {})
        replay.insert(check_fragment(fragment, order, schema, spaces).columns, fragment.streams)
    slots.close()
    return replay, spaces


def drawn(replay: Replay, size: int) -> Batch:
    return replay.sample(counter_rng.keys(0, [0], [0]), torch.tensor([size]), size)


@pytest.mark.parametrize("algorithm", ["MADDPG", "MATD3"])
def test_a_game_of_turns_is_learned_from_with_its_masks(algorithm: str) -> None:
    replay, spaces = collected("pettingzoo.classic.tictactoe_v3", orders=6, steps=20)
    batch = drawn(replay, 500)
    assert batch.part is not None and batch.steps is not None and batch.legal is not None
    assert batch.next_legal is not None
    assert len(replay) == 240
    # One player a row; a decision closes when the player moves again, or one step on at a game's end.
    assert (batch.weight.sum(2) == 1).all()
    k = batch.steps[batch.weight > 0]
    assert set(k.tolist()) == {1, 2} and float((k == 2).float().mean()) > 0.6
    for agent in (0, 1):
        own = batch.weight[0, :, agent] > 0
        chosen = batch.action[0, own, 9 * agent : 9 * agent + 9]
        assert (chosen.sum(1) == 1).all() and (chosen[~batch.legal[0, own, 9 * agent : 9 * agent + 9]] == 0).all()
        goes_on = own & (batch.terminated[0, :, agent] == 0)
        free = batch.next_legal[agent, 0, goes_on, 9 * agent : 9 * agent + 9].sum(1)
        assert torch.equal(free, batch.legal[0, goes_on, 9 * agent : 9 * agent + 9].sum(1) - 2)
        assert set(batch.reward[0, own, agent].tolist()) == {-1.0, 0.0, 1.0}
        assert (batch.reward[0, goes_on, agent] == 0).all()
    made = parse_config(
        {
            "algorithm": {"name": algorithm, "share_parameters": True, "agent_indicator": True, "batch_size": 32},
            "environment": {"name": "none"},
            "network": {"latent_dim": 8, "encoder_config": {"hidden_size": [16]}, "head_config": {"hidden_size": [16]}},
            "training": {},
        }
    )
    members = [
        Member(
            member_id=i,
            networks=build_networks(made, spaces, np.random.default_rng(i)),
            hyperparameters=made.algorithm.initial_hyperparameters(),
        )
        for i in range(2)
    ]
    learner = ALGORITHMS[algorithm](made, spaces, members)
    for _ in range(20):
        learner.update([0, 1], replay)
    learner.unpack()
    assert all(np.isfinite(p).all() for m in members for n in m.networks.values() for p in n.params.values())


def test_where_all_act_all_the_time_there_is_nothing_to_link() -> None:
    replay, _ = collected("mpe2.simple_spread_v3", orders=3, steps=30, continuous_actions=True)
    assert drawn(replay, 50).part is None and replay._links is None


def test_agents_that_die_are_nothing_to_a_critic_and_teach_nobody() -> None:
    replay, spaces = collected("tests.support.probes.simultaneous:early_death", orders=2, steps=9, kind="Discrete")
    assert not spaces.asynchronous
    batch = drawn(replay, 300)
    assert batch.part is not None and batch.next_part is not None
    dead = batch.weight[0, :, 1] == 0
    assert float(dead.float().mean()) == pytest.approx(2 / 3, abs=0.1)
    assert not batch.action[0, dead, 2:].any() and (batch.action[0, ~dead, 2:].sum(1) == 1).all()
    assert batch.steps is not None and (batch.steps == 1).all()
    assert (batch.weight[0, :, 0] == 1).all()
