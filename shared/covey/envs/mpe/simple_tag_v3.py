"""simple_tag: adversaries have to catch good agents, which are faster, among obstacles.

Dims: S copies, G good agents and V adversaries, A = V + G agents, L landmarks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from covey.envs.mpe.arguments import check_arguments
from covey.envs.mpe.chase import beyond_bounds, chasers, place_within, touching
from covey.envs.mpe.neighbours import keep_nearest, take
from covey.envs.mpe.task import Seen, Task, fill
from covey.envs.mpe.world import Body, Floats, State, World, others, relative

SHOWN_BY = "mpe2.simple_tag_v3"
"""The environment that draws a copy of this one."""

OBSTACLE = Body(0.2, collides=True)
SLOW = 0.5
"""How fast good agents are in the curriculum, beside what they are else."""


def parallel_env(
    num_envs: int,
    num_good: int = 1,
    num_adversaries: int = 3,
    num_obstacles: int = 2,
    max_cycles: int = 25,
    continuous_actions: bool = False,
    render_mode: str | None = None,
    dynamic_rescaling: bool = True,
    benchmark_data: bool = False,
    curriculum: bool = False,
    terminate_on_success: bool = False,
    num_agent_neighbors: int | None = None,
    num_landmark_neighbors: int | None = None,
) -> Tag:
    """Make `num_envs` copies of mpe2's simple_tag_v3 as one object.

    Args:
        num_envs: How many copies.
        num_good: How many good agents.
        num_adversaries: How many adversaries.
        num_obstacles: How many obstacles.
        max_cycles: Env steps of an episode.
        continuous_actions: Whether actions are Box instead of Discrete.
        render_mode: None, as arrays draw nothing.
        dynamic_rescaling: How `covey render` draws it.
        benchmark_data: False, as arrays carry no infos.
        curriculum: Whether good agents are half as fast: the first stage of mpe2's curriculum, and the only one that
            its version 1.1.1 ever reaches.
        terminate_on_success: Whether an episode ends when all good agents are caught at once.
        num_agent_neighbors: How many other agents each one sees, nearest first; None: all.
        num_landmark_neighbors: How many landmarks each agent sees, nearest first; None: all.

    Raises:
        ConfigError: an argument has a value that it cannot have.
    """
    check_arguments("simple_tag_v3", locals())
    return Tag(
        num_envs,
        num_good,
        num_adversaries,
        num_obstacles,
        max_cycles,
        continuous_actions,
        curriculum,
        terminate_on_success,
        (num_landmark_neighbors, num_agent_neighbors),
    )


class Tag(Task):
    """Copies of the task; the arguments are those of `parallel_env`, neighbours being landmarks and agents."""

    def __init__(
        self,
        num_envs: int,
        good: int,
        adversaries: int,
        obstacles: int,
        max_cycles: int,
        continuous_actions: bool,
        curriculum: bool,
        terminate_on_success: bool,
        neighbours: tuple[int | None, int | None],
    ) -> None:
        agents = adversaries + good
        world = World(chasers(adversaries, good, 0.05, SLOW if curriculum else 1.0), [OBSTACLE] * obstacles)
        names = [*(f"adversary_{i}" for i in range(adversaries)), *(f"agent_{i}" for i in range(good))]
        around = 4 + 2 * (neighbours[0] or obstacles)
        if neighbours[1] is None:
            around += 2 * (agents - 1)
            kinds = [(adversaries, around + 2 * good), (good, around + 2 * (good - 1))]
        else:
            kinds = [(number, around + 4 * neighbours[1]) for number in (adversaries, good)]
        super().__init__(num_envs, world, names, kinds, max_cycles, continuous_actions)
        self._agents, self._adversaries, self._good = agents, slice(0, adversaries), slice(adversaries, agents)
        self._others = others(agents)
        self._terminates, self._neighbours = terminate_on_success, neighbours

    def place(self, drawn: Floats) -> Floats:
        """Where the bodies are at first: obstacles not at the edge."""
        return place_within(drawn, self._agents)

    def observe(self, state: State, seen: Sequence[Seen]) -> None:
        """Show each agent its velocity and position, obstacles, other agents, and the velocities of good ones."""
        agents, velocity, n = state.position[: self._agents], state.velocity, self._neighbours[1]
        landmarks, _ = keep_nearest(relative(state.position[self._agents :], agents), self._neighbours[0])
        away, order = keep_nearest(agents[self._others] - agents[:, None], n)
        first_good = self._good.start
        if order is None or n is None:
            # The others of an adversary are one adversary less and then the good agents; those of a good agent are
            # all adversaries and then the other good ones.
            chased = velocity[self._others[self._adversaries, first_good - 1 :]]
            good = velocity[self._others[self._good, first_good:]]
        else:
            shown = velocity[self._others] * (self._others >= first_good)[..., None, None]
            shown = take(shown, order, n)
            chased, good = shown[self._adversaries], shown[self._good]
        for array, own, moving in ((seen[0], self._adversaries, chased), (seen[1], self._good, good)):
            fill(array, velocity[own], agents[own], landmarks[own], away[own], moving)

    def reward(self, state: State) -> Floats:
        """Reward adversaries for all that are caught, good agents for not being caught and for staying inside."""
        caught = touching(self.world, state.position, self._good, self._adversaries)
        outside = beyond_bounds(state.position[self._good])
        reward = np.empty((self._agents, len(state.time)))
        reward[self._adversaries] = 10.0 * caught.sum(axis=(0, 1))
        reward[self._good] = -10.0 * caught.sum(axis=0) - outside[:, 0] - outside[:, 1]
        return reward

    def finished(self, state: State) -> NDArray[np.bool_] | None:
        """Return where all good agents are caught at once, if that ends episodes."""
        if not self._terminates:
            return None
        caught = touching(self.world, state.position, self._good, self._adversaries)
        all_are: NDArray[np.bool_] = np.logical_and.reduce(caught.any(axis=0))
        return all_are
