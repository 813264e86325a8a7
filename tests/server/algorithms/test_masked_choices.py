"""Masks of actions that are no tree: several choices keep to them in every algorithm, switches refuse them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from pettingzoo import ParallelEnv

from covey.acting import LoadedPolicy
from covey.collect import Collector
from covey.config import parse_config
from covey.envs import SyncSlots, read_spaces
from covey.errors import SpaceError
from covey.rows import RowSchema
from covey.v1.order_pb2 import Exploration, Order
from covey.wire.policy_file import PolicySpec, encode_policy
from covey_server.algorithms import ALGORITHMS
from covey_server.build import PopulationFactory
from covey_server.experience.replay import Replay
from covey_server.experience.rollouts import Rollouts
from covey_server.ingest.validation import check_fragment

CHOICES = spaces.MultiDiscrete([3, 2])
SWITCHES = spaces.MultiBinary(3)
KINDS = {
    "choices": CHOICES,
    "switches": SWITCHES,
    "a tree of switches": spaces.Dict({"left": spaces.MultiBinary(2), "right": spaces.MultiBinary(1)}),
    "a tree of both": spaces.Dict({"choose": CHOICES, "switch": SWITCHES}),
}
WIDTH = {"choices": 5, "switches": 3, "a tree of switches": 3, "a tree of both": 5}


class Masked(ParallelEnv):  # type: ignore[misc,type-arg,unused-ignore]
    """Two agents whose first choice must be the number of the env step modulo 3 or one more, their second one 0.

    Args:
        kind: Of actions.
        where: "observation" or "infos", where masks are.
    """

    metadata: dict[str, Any] = {"name": "masked"}  # noqa: RUF012
    possible_agents = ["a_0", "a_1"]  # noqa: RUF012
    illegal = 0
    played = 0

    def __init__(self, kind: str, where: str) -> None:
        self._kind, self._where = kind, where

    def observation_space(self, agent: str) -> Any:
        del agent
        seen = spaces.Box(-1, 1, (3,), np.float32)
        if self._where == "infos":
            return seen
        return spaces.Dict({"observation": seen, "action_mask": spaces.Box(0, 1, (WIDTH[self._kind],), np.int8)})

    def action_space(self, agent: str) -> Any:
        del agent
        return KINDS[self._kind]

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        del options
        self._rng, self._time, self.agents = np.random.default_rng(seed), 0, list(self.possible_agents)
        return self._shown()

    def step(self, actions: Any) -> Any:
        for action in actions.values():
            first, second = action["choose"] if isinstance(action, dict) else action[:2]
            Masked.played += 1
            Masked.illegal += bool(first not in {self._time % 3, (self._time + 1) % 3} or second)
        self._time += 1
        its, over = self.agents, self._time == 7
        seen, infos = self._shown()
        self.agents = [] if over else its
        no = dict.fromkeys(its, False)
        return seen, dict.fromkeys(its, 1.0), no, dict.fromkeys(its, over), infos

    def _shown(self) -> Any:
        mask = np.ones(WIDTH[self._kind], np.int8)
        if WIDTH[self._kind] == 5:
            mask[[(self._time + 2) % 3, 4]] = 0
        seen: Any = {a: self._rng.uniform(-1, 1, 3).astype(np.float32) for a in self.agents}
        if self._where == "infos":
            return seen, {a: {"action_mask": mask} for a in self.agents}
        return {a: {"observation": x, "action_mask": mask} for a, x in seen.items()}, {a: {} for a in self.agents}


@pytest.mark.parametrize("where", ["observation", "infos"])
@pytest.mark.parametrize("kind", ["choices", "a tree of both"])
@pytest.mark.parametrize("name", ["IPPO", "MAPPO", "MADDPG", "MATD3"])
def test_several_choices_keep_to_their_masks_while_they_learn(name: str, kind: str, where: str) -> None:
    made = read_spaces(Masked(kind, where))
    schema = RowSchema.of(made)
    rounds = name in ("IPPO", "MAPPO")
    config = parse_config(
        {
            "algorithm": {
                "name": name,
                "share_parameters": False,
                **({"learn_step": 40} if rounds else {"batch_size": 16}),
            },
            "environment": {"name": "none"},
            "network": {"latent_dim": 8, "encoder_config": {"hidden_size": [8]}, "head_config": {"hidden_size": [8]}},
            "training": {"pop_size": 1},
        }
    )
    assert name in ALGORITHMS
    population = PopulationFactory(config).fresh(made)
    member, algorithm, experience = population.members[0], population.algorithm, population.experience
    collector = Collector(SyncSlots(lambda: Masked(kind, where), made, 1), made, schema, 1, 1)
    explores = Exploration(kind=Exploration.KIND_SAMPLE if rounds else Exploration.KIND_GAUSSIAN, scale=0.3)
    Masked.illegal = Masked.played = 0
    for number in range(1, 4):
        algorithm.unpack()
        order = Order(order_id=number, noise_seed=number)
        policies = {}
        for agent in made.agents:
            network = member.networks[f"actor/{agent.agent_id}"]
            file = encode_policy(PolicySpec(network.spec, agent.stacked, agent.action), network.params)
            policy = LoadedPolicy.decode(file)
            policies[policy.sha256] = policy
            order.policies.add(sha256=policy.sha256, member_id=member.member_id)
        order.slots.add(
            slot=0, steps=40, agent_policies=[0, 1], member_id=member.member_id, seed=number, exploration=explores
        )
        fragment = collector.run(order, policies)
        assert not fragment.faults
        accepted = check_fragment(fragment, order, schema, made)
        if isinstance(experience, Replay):
            experience.insert(accepted.columns, fragment.streams)
        elif isinstance(experience, Rollouts):
            experience.insert(member.member_id, accepted.columns, accepted.streams, "actor")
        for _ in range(1 if rounds else 4):
            algorithm.update([0], experience)
    algorithm.unpack()
    assert Masked.played == 3 * 40 * 2 and Masked.illegal == 0
    assert all(np.isfinite(p).all() for n in member.networks.values() for p in n.params.values())


@pytest.mark.parametrize("where", ["observation", "infos"])
@pytest.mark.parametrize("kind", ["switches", "a tree of switches"])
def test_switches_that_come_with_masks_are_refused_with_what_can_be_masked(kind: str, where: str) -> None:
    with pytest.raises(SpaceError) as refused:
        read_spaces(Masked(kind, where))
    told = str(refused.value)
    assert "agent 'a_0': action mask" in told and "expected Discrete or MultiDiscrete" in told
    assert "leave the mask out of its observations and infos" in told and "MultiDiscrete([2, 2" in told
