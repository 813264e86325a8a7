"""How far the MPE tasks as arrays (covey.envs.mpe) are from mpe2 itself: both play the same seeds and actions.

    .venv/bin/python -m benchmarks.array_parity [--episodes 200] [--task NAME]

Prints a row for each task, kind of actions and arguments: episodes, env steps, and the largest differences of
observations and rewards. Agents, spaces, and which step ended an episode how, have to be equal.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pettingzoo.utils.env_logger import EnvLogger

from covey.envs import build_slots, load_environment, read_spaces
from covey.envs.mpe import TASKS

NEIGHBOURS = ("num_agent_neighbors", "num_landmark_neighbors")
ARGUMENTS: dict[str, tuple[dict[str, Any], ...]] = {
    "simple_v3": (),
    "simple_adversary_v3": ({"N": 1}, {"N": 4}, *({"N": 3, a: n} for a in NEIGHBOURS for n in (1, 5))),
    "simple_crypto_v3": (),
    "simple_push_v3": (),
    "simple_reference_v3": ({"local_ratio": 0.2}, {"local_ratio": 1.0}),
    "simple_speaker_listener_v4": (),
    "simple_spread_v3": (
        *({"N": 1}, {"N": 5}, {"local_ratio": 0.1}, {"local_ratio": 0}, {"curriculum": True}),
        {"N": 1, "terminate_on_success": True},
        *({a: n} for a in NEIGHBOURS for n in (1, 5)),
    ),
    "simple_tag_v3": (
        *({"num_good": 3}, {"num_adversaries": 1}, {"num_obstacles": 0}, {"num_obstacles": 4}, {"curriculum": True}),
        {"num_adversaries": 6, "terminate_on_success": True},
        *({"num_good": 2, a: n} for a in NEIGHBOURS for n in (2, 7)),
    ),
    "simple_world_comm_v3": (
        *({"num_good": 1}, {"num_good": 3}, {"num_adversaries": 1}, {"num_adversaries": 2}, {"num_obstacles": 0}),
        *({"num_obstacles": 3}, {"num_food": 1}, {"num_food": 4}, {"num_forests": 0}, {"num_forests": 3}),
    ),
}
"""Arguments of each task besides those of all tasks, every one at another value than its default."""

OF_ALL: tuple[dict[str, Any], ...] = ({"max_cycles": 40}, {"dynamic_rescaling": False})
"""Arguments that all tasks take."""


@dataclass(frozen=True)
class Difference:
    """What comparing episodes has shown.

    Attributes:
        episodes: How many were played.
        steps: Their env steps.
        observation: The largest difference between two numbers that agents saw, as float32.
        reward: The largest difference between two rewards, over the larger of them or 1.
        ended_early: Episodes that terminated.
    """

    episodes: int
    steps: int
    observation: float
    reward: float
    ended_early: int


def cases(task: str) -> Iterator[dict[str, Any]]:
    """All arguments with which a task is compared: its defaults, and every argument at other values, in both kinds."""
    for continuous in (False, True):
        for config in ({}, *ARGUMENTS[task], *OF_ALL):
            yield {"continuous_actions": continuous, **config}


def compare(task: str, config: Mapping[str, Any], episodes: int, first_seed: int = 0) -> Difference:
    """Play episodes in both.

    Args:
        task: The task, "simple_spread_v3".
        config: Arguments of its function.
        episodes: How many; all of them are stepped together as arrays, and one after another in mpe2.
        first_seed: Seed of the first one; the others follow.

    Raises:
        AssertionError: agents or spaces are not equal, or an episode ended in another way.
    """
    EnvLogger.suppress_output()  # of actions outside of their Box
    single = importlib.import_module(f"mpe2.{task}").parallel_env(**config)
    factory = load_environment(f"covey.envs.mpe.{task}", dict(config))
    spaces = read_spaces(factory())
    slots: Any = build_slots(factory, spaces, episodes)
    agents, alike = list(single.possible_agents), factory.batch(1)
    assert list(alike.possible_agents) == agents
    for agent in agents:
        assert alike.observation_space(agent) == single.observation_space(agent), agent
        assert alike.action_space(agent) == single.action_space(agent), agent
    seeds = [first_seed + k for k in range(episodes)]
    rng = np.random.default_rng(first_seed)
    column = {a: c for c, a in enumerate(a for group in spaces.groups for a in group.agents)}
    place = {a: (g, n) for g, group in enumerate(spaces.groups) for n, a in enumerate(group.agents)}
    arrays = slots.arrays
    slots.reset(range(episodes), seeds)
    shown, given = [arrays.copy()], list[list[NDArray[Any]]]()
    running = np.arange(episodes)
    while running.size:
        given.append([_actions(group.action, (episodes, len(group)), rng) for group in spaces.groups])
        slots.step(running.tolist(), given[-1])
        shown.append(arrays.copy())
        running = np.flatnonzero(arrays.living.any(axis=1))
    steps, observation, reward, early = 0, 0.0, 0.0, 0
    for k, seed in enumerate(seeds):
        seen, _ = single.reset(seed=seed)
        for t, now in enumerate(shown):
            for i, agent in enumerate(agents):
                g, n = place[i]
                observation = max(observation, float(np.abs(now.observation[g][k, n] - seen[agent]).max()))
            if not now.living[k].any():
                break
            chosen = {a: given[t][place[i][0]][k, place[i][1]] for i, a in enumerate(agents)}
            seen, rewards, terminated, truncated, _ = single.step(chosen)
            steps, after = steps + 1, shown[t + 1]
            for i, agent in enumerate(agents):
                c = column[i]
                gap = abs(after.reward[k, c] - rewards[agent])
                reward = max(reward, gap / max(1.0, abs(rewards[agent])))
                assert after.terminated[k, c] == terminated[agent], (seed, t, agent)
                assert after.truncated[k, c] == truncated[agent], (seed, t, agent)
            early += any(terminated.values())
            assert bool(single.agents) == after.living[k].any(), (seed, t)
    single.close()
    return Difference(episodes, steps, observation, reward, early)


def _actions(space: Any, shape: tuple[int, int], rng: np.random.Generator) -> NDArray[Any]:
    """Actions at random, some of them outside of a Box."""
    if space.shape:
        return rng.uniform(-0.2, 1.2, (*shape, *space.shape)).astype(np.float32)
    return rng.integers(space.n, size=shape)


def main() -> None:
    """Compare all tasks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=200, help="of each task, kind of actions and arguments")
    parser.add_argument("--task", choices=TASKS, action="append", help="repeatable; all if left out")
    options = parser.parse_args()
    print("| task | arguments | episodes | env steps | observations | rewards |\n|---|---|---|---|---|---|", flush=True)
    for task in options.task or TASKS:
        for config in cases(task):
            found = compare(task, config, options.episodes)
            words = ", ".join(f"{key}={value}" for key, value in config.items())
            gaps = f"{found.observation:.1e} | {found.reward:.1e}"
            print(f"| {task} | {words} | {found.episodes} | {found.steps} | {gaps} |", flush=True)


if __name__ == "__main__":
    main()
