"""AEC environments as asynchronous parallel ones, against PettingZoo's own loop over `last()`."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import gymnasium
import numpy as np
import pytest
from pettingzoo import AECEnv
from pettingzoo.utils import AgentSelector

from covey.envs import SyncSlots, TurnsEnv, load_environment, read_spaces
from covey.envs.random_actions import random_action
from covey.errors import EnvironmentLoadError

GAMES = {
    "tictactoe": "pettingzoo.classic.tictactoe_v3",
    "connect_four": "pettingzoo.classic.connect_four_v3",
    "rps": "pettingzoo.classic.rps_v2:env",
    "speaker_listener": "mpe2.simple_speaker_listener_v4:env",
    "spread": "mpe2.simple_spread_v3:env",
    "knights_archers_zombies": "pettingzoo.butterfly.knights_archers_zombies_v11:env",
}

Turn = tuple[Any, float, bool, bool]
"""What an agent saw, what it earned since its turn before, whether it ended and how."""


def legal_action(env: Any, agent: str, seen: Any, rng: np.random.Generator) -> int:
    """A random one."""
    mask = seen["action_mask"] if isinstance(seen, dict) else np.ones(env.action_space(agent).n)
    return int(rng.choice(np.flatnonzero(mask)))


def by_last(aec: Any, seed: int) -> dict[str, list[Turn]]:
    """Every agent's turns of an episode, as PettingZoo's loop tells them."""
    rng = np.random.default_rng(seed)
    turns = defaultdict(list)
    aec.reset(seed=seed)
    for agent in aec.agent_iter():
        seen, reward, terminated, truncated, _ = aec.last()
        turns[agent].append((seen, reward, terminated, truncated))
        aec.step(None if terminated or truncated else legal_action(aec, agent, seen, rng))
    return turns


def by_turns(env: Any, seed: int) -> tuple[dict[str, list[Turn]], int]:
    """The same from the adapter, and the env steps of the episode."""
    rng = np.random.default_rng(seed)
    turns = defaultdict(list)
    earned: dict[str, float] = defaultdict(float)
    ended: set[str] = set()
    seen, _ = env.reset(seed=seed)
    acting, action = "", 0
    steps = 0
    while True:
        assert len([a for a in env.agents if a in seen]) == (1 if env.agents else 0)
        assert not ended & set(env.agents)
        for agent, what in seen.items():
            if agent in env.agents:
                turns[agent].append((what, earned.pop(agent, 0.0), False, False))
                action = legal_action(env, agent, what, rng)
                acting = agent
        if not env.agents:
            return turns, steps
        seen, rewards, terminated, truncated, _ = env.step({acting: action})
        steps += 1
        for agent, reward in rewards.items():
            earned[agent] += reward
        for agent in [a for a in rewards if terminated[a] or truncated[a]]:
            assert agent not in ended, "flags appear once"
            ended.add(agent)
            turns[agent].append((seen[agent], earned.pop(agent), terminated[agent], truncated[agent]))


@pytest.mark.parametrize("game", GAMES)
def test_every_turn_is_as_last_tells_it(game: str) -> None:
    config = {"max_cycles": 60} if game == "knights_archers_zombies" else {}
    make = load_environment(GAMES[game], config)
    env: Any = make()
    other: Any = make()
    assert isinstance(env, TurnsEnv)
    lengths = set()
    ours: dict[str, list[Turn]] = {}
    for seed in range(2 if "knights" in game else 12):
        ours, steps = by_turns(env, seed)
        theirs = by_last(other.aec, seed)
        assert list(ours) == list(theirs)
        for agent in theirs:
            assert len(ours[agent]) == len(theirs[agent])
            for (seen, reward, *flags), (its, its_reward, *its_flags) in zip(ours[agent], theirs[agent], strict=True):
                assert reward == pytest.approx(its_reward)
                assert flags == its_flags
                # Masks of ended agents tell whose turn it would be: an environment's way to leave them.
                a, b = (x["observation"] if isinstance(x, dict) else x for x in (seen, its))
                np.testing.assert_array_equal(a, b)
        assert steps == sum(not (t[2] or t[3]) for turns in ours.values() for t in turns), "a step is a turn"
        lengths.add(steps)
    if game in ("tictactoe", "connect_four"):
        assert len(lengths) > 1
        assert any(t[1] for turns in ours.values() for t in turns), "somebody won or lost"


def test_a_game_through_slots_ends_for_the_one_who_waits() -> None:
    make = load_environment("pettingzoo.classic.tictactoe_v3", {})
    spaces = read_spaces(make())
    slots = SyncSlots(make, spaces, 1)
    arrays = slots.arrays
    assert arrays.mask[0] is not None
    slots.reset([0], [0])
    for square in (0, 3, 1, 4):
        mover = int(arrays.present[0].argmax())
        assert arrays.present[0].tolist() == [mover == 0, mover == 1] and arrays.living[0].tolist() == [1, 1]
        assert arrays.mask[0][0, mover, square]
        before = arrays.observation[0][0, 1 - mover].copy()
        slots.step([0], [np.full((1, 2), square)])
        assert not arrays.mask[0][0, 1 - mover, square]
        assert (arrays.observation[0][0, 1 - mover] != before).any(), "it is its turn, and it sees the move"
    slots.step([0], [np.full((1, 2), 2)])
    assert arrays.reward[0].tolist() == [1.0, -1.0]
    assert arrays.terminated[0].tolist() == [1, 1] and not arrays.living.any()
    won = arrays.observation[0][0]
    assert won[0, ..., 0].sum() == won[1, ..., 1].sum() == 3, "both see the last move"
    assert not arrays.mask[0].any()


class Relay(AECEnv[str, Any, Any]):  # type: ignore[misc]
    """Runners pass a baton; runner 1 leaves at its second turn; masks and forced actions come in infos."""

    metadata = {"name": "relay"}  # noqa: RUF012 - PettingZoo's form

    def __init__(self, leaves: bool = True) -> None:
        super().__init__()
        self.possible_agents = ["runner_0", "runner_1", "runner_2"]
        self.leaves = leaves
        self.taken: list[tuple[str, Any]] = []

    def observation_space(self, agent: str) -> gymnasium.spaces.Space[Any]:
        del agent
        return gymnasium.spaces.Discrete(50)

    def action_space(self, agent: str) -> gymnasium.spaces.Space[Any]:
        del agent
        return gymnasium.spaces.Discrete(3)

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> None:
        del seed, options
        self.agents = list(self.possible_agents)
        self.rewards = dict.fromkeys(self.agents, 0.0)
        self._cumulative_rewards = dict.fromkeys(self.agents, 0.0)
        self.terminations = dict.fromkeys(self.agents, False)
        self.truncations = dict.fromkeys(self.agents, False)
        self.infos: dict[str, dict[str, Any]] = {a: {"action_mask": np.array([0, 1, 1], np.int8)} for a in self.agents}
        self.infos["runner_2"]["env_defined_actions"] = 2
        self._order = AgentSelector(self.agents)
        self.agent_selection = self._order.next()
        self.turns = 0

    def observe(self, agent: str) -> int:
        return self.turns + 10 * self.possible_agents.index(agent)

    def step(self, action: Any) -> None:
        agent = self.agent_selection
        if self.terminations[agent] or self.truncations[agent]:
            if self.leaves:
                self._was_dead_step(action)
            return
        self.taken.append((agent, action))
        self.turns += 1
        self._cumulative_rewards[agent] = 0
        self._clear_rewards()
        self.rewards[agent] = 1.0
        if self.turns == 5:
            self.terminations["runner_1"] = True
            self.rewards["runner_0"] = -7.0
        self._accumulate_rewards()
        self.agent_selection = self._order.next()
        self._deads_step_first()
        if self.turns == 5:
            self._order.reinit(["runner_0", "runner_2"])
            self._skip_agent_selection = self._order.next()


def relay(aec: Relay) -> Any:
    """In turns."""
    return TurnsEnv(aec)


def test_an_agent_leaves_and_the_others_go_on_with_masks_and_forced_actions_of_infos() -> None:
    spaces = read_spaces(relay(Relay()))
    assert spaces.asynchronous and all(a.masked for a in spaces.agents)
    aec = Relay()
    slots = SyncSlots(lambda: relay(aec), spaces, 1)
    arrays = slots.arrays
    assert arrays.mask[0] is not None
    slots.reset([0], [0])
    rewards, present = [], []
    for _ in range(7):
        assert arrays.mask[0][0, arrays.present[0].argmax()].tolist() == [0, 1, 1]
        present.append(arrays.present[0].tolist())
        assert slots.step([0], [np.array([[1, 1, 1]])]) == []
        rewards.append(arrays.reward[0].tolist())
    assert present[:3] == [[1, 0, 0], [0, 1, 0], [0, 0, 2]]
    assert [a for a, _ in aec.taken] == [f"runner_{i}" for i in (0, 1, 2, 0, 1, 0, 2)]
    assert [int(v) for _, v in aec.taken] == [1, 1, 2, 1, 1, 1, 2]
    assert rewards[4] == [-7.0, 1.0, 0.0], "who waits is told its reward in the step in which it came"
    assert arrays.living[0].tolist() == [1, 0, 1]


def test_an_agent_that_does_not_leave_is_told() -> None:
    env = TurnsEnv(Relay(leaves=False))
    env.reset(seed=0)
    rng = np.random.default_rng(0)
    space = read_spaces(relay(Relay())).agents[0].action
    with pytest.raises(EnvironmentLoadError, match="agent 'runner_1' ended but stays after step"):
        for _ in range(9):
            env.step(dict.fromkeys(env.agents, random_action(space, rng)))
