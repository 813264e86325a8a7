"""simple_adversary: agents that know the goal landmark have to be near it, an adversary has to find out which it is.

Dims: S copies, N good agents and as many landmarks, A = 1 + N agents.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from covey.envs.mpe.arguments import check_arguments
from covey.envs.mpe.neighbours import keep_nearest
from covey.envs.mpe.task import Seen, Task, fill
from covey.envs.mpe.world import Body, Floats, State, World, length, others, relative

SHOWN_BY = "mpe2.simple_adversary_v3"
"""The environment that draws a copy of this one."""


def parallel_env(
    num_envs: int,
    N: int = 2,
    max_cycles: int = 25,
    continuous_actions: bool = False,
    render_mode: str | None = None,
    dynamic_rescaling: bool = True,
    benchmark_data: bool = False,
    num_agent_neighbors: int | None = None,
    num_landmark_neighbors: int | None = None,
) -> Adversary:
    """Make `num_envs` copies of mpe2's simple_adversary_v3 as one object.

    Args:
        num_envs: How many copies.
        N: How many good agents, and how many landmarks.
        max_cycles: Env steps of an episode.
        continuous_actions: Whether actions are Box instead of Discrete.
        render_mode: None, as arrays draw nothing.
        dynamic_rescaling: How `covey render` draws it.
        benchmark_data: False, as arrays carry no infos.
        num_agent_neighbors: How many other agents each one sees, nearest first; None: all.
        num_landmark_neighbors: How many landmarks each agent sees, nearest first; None: all.

    Raises:
        ConfigError: an argument has a value that it cannot have.
    """
    check_arguments("simple_adversary_v3", locals())
    return Adversary(num_envs, N, max_cycles, continuous_actions, num_agent_neighbors, num_landmark_neighbors)


class Adversary(Task):
    """Copies of the task; the arguments are those of `parallel_env`."""

    def __init__(
        self,
        num_envs: int,
        good: int,
        max_cycles: int,
        continuous_actions: bool,
        agent_neighbors: int | None,
        landmark_neighbors: int | None,
    ) -> None:
        world = World([Body(0.15, moves=True)] * (1 + good), [Body(0.08)] * good)
        names = ["adversary_0", *(f"agent_{i}" for i in range(good))]
        self._neighbours = (landmark_neighbors, agent_neighbors)
        width = 2 * (landmark_neighbors or good) + 2 * (agent_neighbors or good)
        kinds = [(1, width), (good, 2 + width)]
        super().__init__(num_envs, world, names, kinds, max_cycles, continuous_actions, goals=[good])
        self._agents, self._others = 1 + good, others(1 + good)

    def observe(self, state: State, seen: Sequence[Seen]) -> None:
        """Show all the landmarks and the other agents, and the good agents the goal first."""
        agents, landmarks = state.position[: self._agents], state.position[self._agents :]
        away = (relative(landmarks, agents), agents[self._others] - agents[:, None])
        parts = [keep_nearest(a, n)[0] for a, n in zip(away, self._neighbours, strict=True)]
        goal = state.place_of(self._agents + state.goal[0]) - agents
        fill(seen[0], *(part[:1] for part in parts))
        fill(seen[1], goal[1:], *(part[1:] for part in parts))

    def reward(self, state: State) -> Floats:
        """Reward the adversary for being near the goal, the others for one of them being so and it not."""
        distance = length(state.place_of(self._agents + state.goal[0]) - state.position[: self._agents])
        reward = np.empty_like(distance)
        reward[0] = -distance[0]
        reward[1:] = distance[0] - distance[1:].min(axis=0)
        return reward
