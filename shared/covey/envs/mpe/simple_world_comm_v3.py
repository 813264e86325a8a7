"""simple_world_comm: simple_tag with food, forests to hide in, and a leader who sees all and tells the adversaries.

Dims: S copies, A agents (the leader, other adversaries, good ones), F forests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from covey.envs.mpe.arguments import check_arguments
from covey.envs.mpe.chase import beyond_bounds, chasers, place_within, touching
from covey.envs.mpe.task import Seen, Task, fill
from covey.envs.mpe.world import Body, Floats, State, World, length, others, relative

SHOWN_BY = "mpe2.simple_world_comm_v3"
"""The environment that draws a copy of this one."""

OBSTACLE, FOOD, FOREST = Body(0.2, collides=True), Body(0.03), Body(0.3)


def parallel_env(
    num_envs: int,
    num_good: int = 2,
    num_adversaries: int = 4,
    num_obstacles: int = 1,
    num_food: int = 2,
    max_cycles: int = 25,
    num_forests: int = 2,
    continuous_actions: bool = False,
    render_mode: str | None = None,
    dynamic_rescaling: bool = True,
    benchmark_data: bool = False,
) -> WorldComm:
    """Make `num_envs` copies of mpe2's simple_world_comm_v3 as one object.

    Args:
        num_envs: How many copies.
        num_good: How many good agents.
        num_adversaries: How many adversaries, one of which is the leader.
        num_obstacles: How many obstacles.
        num_food: How many places with food, which good agents are rewarded for.
        max_cycles: Env steps of an episode.
        num_forests: How many forests, in which agents are hidden from those outside.
        continuous_actions: Whether actions are Box instead of Discrete.
        render_mode: None, as arrays draw nothing.
        dynamic_rescaling: How `covey render` draws it.
        benchmark_data: False, as arrays carry no infos.

    Raises:
        ConfigError: an argument has a value that it cannot have.
    """
    check_arguments("simple_world_comm_v3", locals())
    return WorldComm(
        num_envs, num_good, num_adversaries, (num_obstacles, num_food, num_forests), max_cycles, continuous_actions
    )


class WorldComm(Task):
    """Copies of the task; the arguments are those of `parallel_env`, landmarks being obstacles, food and forests."""

    def __init__(
        self,
        num_envs: int,
        good: int,
        adversaries: int,
        landmarks: tuple[int, int, int],
        max_cycles: int,
        continuous_actions: bool,
    ) -> None:
        obstacles, food, forests = landmarks
        agents, fixed = adversaries + good, sum(landmarks)
        bodies = chasers(adversaries, good, 0.045)
        bodies[0] = replace(bodies[0], speaks=True)
        world = World(bodies, [OBSTACLE] * obstacles + [FOOD] * food + [FOREST] * forests, words=4)
        names = ["leadadversary_0", *(f"adversary_{i}" for i in range(adversaries - 1))]
        names += [f"agent_{i}" for i in range(good)]
        around = 4 + 2 * fixed + 2 * (agents - 1) + forests
        kinds = [(adversaries, around + 2 * good + world.words), (good, around + 2 * (good - 1))]
        super().__init__(num_envs, world, names, kinds, max_cycles, continuous_actions)
        self._agents = slice(0, agents)
        self._adversaries, self._good = slice(0, adversaries), slice(adversaries, agents)
        self._fixed, self._obstacles = slice(agents, agents + fixed), slice(agents, agents + obstacles)
        self._food = slice(self._obstacles.stop, self._obstacles.stop + food)
        self._forests = slice(self._food.stop, self._food.stop + forests)
        self._others = others(agents)

    def places(self) -> int:
        """How many places an episode draws: those of food and forests twice."""
        return 2 * super().places() - self._obstacles.stop

    def place(self, drawn: Floats) -> Floats:
        """Where the bodies are at first: landmarks not at the edge, food and forests where they are drawn again."""
        again = np.concatenate([drawn[: self._obstacles.stop], drawn[self._fixed.stop :]])
        return place_within(again, self._agents.stop)

    def observe(self, state: State, seen: Sequence[Seen]) -> None:
        """Show each agent itself, the landmarks, whom it can see and how fast the good of them are, and the forests.

        Adversaries also hear what the leader said.
        """
        agents, velocity = state.position[self._agents], state.velocity
        landmarks = relative(state.position[self._fixed], agents)
        inside = touching(self.world, state.position, self._forests, self._agents)  # (A, F, S)
        visible = self._visible(inside)[:, :, None]  # (A, A - 1, 1, S)
        away = (agents[self._others] - agents[:, None]) * visible
        hidden = np.where(inside, 1.0, -1.0)
        # The others of an adversary are one adversary less and then the good agents; those of a good agent are all
        # adversaries and then the other good ones.
        first_good = self._good.start
        own = self._adversaries
        fast = velocity[self._others[own, first_good - 1 :]] * visible[own, first_good - 1 :]
        fill(seen[0], velocity[own], agents[own], landmarks[own], away[own], fast, hidden[own], state.said)
        own = self._good
        fast = velocity[self._others[own, first_good:]] * visible[own, first_good:]
        fill(seen[1], velocity[own], agents[own], landmarks[own], away[own], hidden[own], fast)

    def reward(self, state: State) -> Floats:
        """Reward adversaries for all that are caught and for being near a good agent.

        Good agents are rewarded for not being caught, for staying inside, and for being at food or near it.
        """
        position = state.position
        good = position[self._good]
        caught = touching(self.world, position, self._good, self._adversaries)  # (adversaries, good, S)
        eats = touching(self.world, position, self._food, self._good)
        outside = 2.0 * beyond_bounds(good)
        reward = np.empty((self._agents.stop, len(state.time)))
        reward[self._adversaries] = -0.1 * length(relative(good, position[self._adversaries])).min(axis=1)
        reward[self._adversaries] += 5.0 * caught.sum(axis=(0, 1))
        reward[self._good] = -5.0 * caught.sum(axis=0) - outside[:, 0] - outside[:, 1] + 2.0 * eats.sum(axis=1)
        reward[self._good] -= 0.05 * length(relative(position[self._food], good)).min(axis=1)
        return reward

    def _visible(self, inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Which agents can see which others (A, A - 1, S), from who is inside of which forest (A, F, S).

        Those see each other who are in the same forest, or both in none; the leader sees everybody.
        """
        visible: NDArray[np.bool_] = np.logical_or.reduce(inside[:, None] & inside[self._others], axis=2)
        outside = np.logical_not(inside.any(axis=1))
        visible |= outside[:, None] & outside[self._others]
        visible[0] = True
        return visible
