"""Environments without PettingZoo's layers do to the bit what they do with them."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from pettingzoo import AECEnv
from pettingzoo.utils.conversions import aec_to_parallel_wrapper
from tests.support.environments import counter

from covey.envs import SyncSlots, load_environment, read_spaces
from covey.envs.direct import Direct, DirectEnv

CONVERTED: dict[str, dict[str, Any]] = {
    "mpe2.simple_v3": {},
    "mpe2.simple_adversary_v3": {"continuous_actions": True},
    "mpe2.simple_crypto_v3": {},
    "mpe2.simple_push_v3": {"continuous_actions": True},
    "mpe2.simple_reference_v3": {},
    "mpe2.simple_speaker_listener_v4": {"continuous_actions": True},
    "mpe2.simple_spread_v3": {},
    "mpe2.simple_tag_v3": {"continuous_actions": True},
    "mpe2.simple_world_comm_v3": {"max_cycles": 7},
    "pettingzoo.classic.rps_v2": {"max_cycles": 7},
    "pettingzoo.butterfly.knights_archers_zombies_v11": {"max_cycles": 60},
    "pettingzoo.sisl.pursuit_v5": {"max_cycles": 20, "surround": False},
}


def assert_equal(one: Any, other: Any) -> None:
    """Dictionaries of arrays, numbers, dictionaries."""
    assert list(one) == list(other)
    for key, value in one.items():
        if isinstance(value, dict):
            assert_equal(value, other[key])
        else:
            np.testing.assert_array_equal(value, other[key])


@pytest.mark.parametrize("name", CONVERTED)
def test_trajectories_are_those_of_the_converted_environment(name: str) -> None:
    make = load_environment(name, CONVERTED[name])
    wrapped, direct = make(), pickle.loads(pickle.dumps(Direct(make)))()
    assert type(wrapped) is aec_to_parallel_wrapper and type(direct) is DirectEnv
    rng = np.random.default_rng(0)
    spaces = {agent: wrapped.action_space(agent) for agent in wrapped.possible_agents}
    for agent, space in spaces.items():
        space.seed(int(rng.integers(100)))
        assert direct.action_space(agent) == space
    ended = 0
    one: Any
    other: Any
    for seed in range(3):
        begun = wrapped.reset(seed=seed), direct.reset(seed=seed)
        for one, other in zip(*begun, strict=True):
            assert_equal(one, other)
        for _ in range(30):
            assert wrapped.agents == direct.agents
            if not wrapped.agents:
                ended += 1
                break
            actions = {agent: spaces[agent].sample() for agent in wrapped.agents}
            for one, other in zip(wrapped.step(dict(actions)), direct.step(actions), strict=True):
                assert_equal(one, other)
    assert ended or "zombies" in name
    direct.close()
    wrapped.close()


def test_slots_hold_what_they_hold_with_the_layers() -> None:
    make = load_environment("mpe2.simple_speaker_listener_v4", {"continuous_actions": True})
    spaces = read_spaces(make())
    both = [SyncSlots(make, spaces, 2), SyncSlots(Direct(make), spaces, 2)]
    rng = np.random.default_rng(0)
    for slots in both:
        assert not slots.reset([0, 1], [3, 4])
    for _ in range(25):
        actions = [rng.random((2, len(g), *g.action.shape), np.float32) for g in spaces.groups]
        for slots in both:
            assert not slots.step([0, 1], actions)
        assert np.array_equal(both[0].arrays.memory, both[1].arrays.memory)
    assert not both[0].arrays.living.any()


def test_other_environments_stay_as_they_are() -> None:
    env = counter()
    assert Direct(lambda: env)() is env

    class Changed(aec_to_parallel_wrapper):  # type: ignore[misc]
        """May do anything."""

    made = Changed(load_environment("mpe2.simple_v3:env", {})._build({}))
    assert Direct(lambda: made)() is made


class Growing(AECEnv):  # type: ignore[misc]
    """Agent "b" appears while "a" acts in the second cycle."""

    def __init__(self) -> None:
        self.metadata, self.render_mode = {"is_parallelizable": True}, None
        self.possible_agents = ["a", "b"]

    def reset(self, seed: int | None = None, options: Any = None) -> None:
        del seed, options
        self.agents, self.cycles, self.agent_selection = ["a"], 0, "a"
        self.rewards = self._cumulative_rewards = {"a": 0.0, "b": 0.0}
        self.terminations = self.truncations = {"a": False, "b": False}
        self.infos: dict[str, Any] = {"a": {}, "b": {}}

    def observe(self, agent: str) -> str:
        return f"{agent} sees {self.agents}"

    def step(self, action: Any) -> None:
        del action
        if self.agent_selection == "a":
            self.cycles += 1
            if self.cycles == 2:
                self.agents = ["a", "b"]
        self.agent_selection = self.agents[-1] if self.cycles > 2 and self.agent_selection == "a" else "a"


def test_agents_that_appear_in_a_cycle_are_seen_in_its_end() -> None:
    wrapped, direct = (aec_to_parallel_wrapper(Growing()) for _ in range(2))
    direct = DirectEnv(direct)
    for env in (wrapped, direct):
        env.reset()
    one: Any = None
    for _ in range(4):
        actions = dict.fromkeys(wrapped.agents, 0)
        one, other = wrapped.step(actions), direct.step(actions)
        assert one == other
        assert (wrapped.agents, wrapped.num_agents) == (direct.agents, direct.num_agents)
    assert list(one[0]) == ["a", "b"]


def test_checks_are_left_out() -> None:
    direct = Direct(load_environment("mpe2.simple_v3", {}))()
    assert direct._aec is direct.unwrapped


@pytest.mark.parametrize("layer", ["outermost", "checking"])
def test_methods_that_somebody_replaced_are_called(layer: str) -> None:
    made: Any = load_environment("mpe2.simple_v3", {})()
    replaced = made if layer == "outermost" else made.aec_env.env
    calls: list[Any] = []
    inner = replaced.step

    def step(action: Any) -> Any:
        calls.append(action)
        return inner(action)

    replaced.step = step
    direct = Direct(lambda: made)()
    assert (direct is made) == (layer == "outermost")
    direct.reset(seed=0)
    for _ in range(3):
        direct.step({"agent_0": 1})
    assert len(calls) == 3
