"""simple_spread: agents have to cover all landmarks, without running into each other.

Dims: S copies, N agents and as many landmarks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from covey.envs.mpe.arguments import check_arguments
from covey.envs.mpe.neighbours import keep_nearest
from covey.envs.mpe.task import Seen, Task, fill
from covey.envs.mpe.world import Body, Floats, State, World, length, others, relative

SHOWN_BY = "mpe2.simple_spread_v3"
"""The environment that draws a copy of this one."""

AGENT = Body(0.15, collides=True, moves=True)
COVERED = 0.1
"""How near an agent has to be to a landmark to cover it."""


def parallel_env(
    num_envs: int,
    N: int = 3,
    local_ratio: float = 0.5,
    max_cycles: int = 25,
    continuous_actions: bool = False,
    render_mode: str | None = None,
    dynamic_rescaling: bool = True,
    benchmark_data: bool = False,
    curriculum: bool = False,
    terminate_on_success: bool = False,
    num_agent_neighbors: int | None = None,
    num_landmark_neighbors: int | None = None,
) -> Spread:
    """Make `num_envs` copies of mpe2's simple_spread_v3 as one object.

    Args:
        num_envs: How many copies.
        N: How many agents, and how many landmarks.
        local_ratio: Weight of an agent's own collisions; the rest is that of what all are rewarded for.
        max_cycles: Env steps of an episode.
        continuous_actions: Whether actions are Box instead of Discrete.
        render_mode: None, as arrays draw nothing.
        dynamic_rescaling: How `covey render` draws it.
        benchmark_data: False, as arrays carry no infos.
        curriculum: Whether collisions cost nothing: the first stage of mpe2's curriculum, and the only one that its
            version 1.1.1 ever reaches.
        terminate_on_success: Whether an episode ends when all landmarks are covered.
        num_agent_neighbors: How many other agents each one sees, nearest first; None: all.
        num_landmark_neighbors: How many landmarks each agent sees, nearest first; None: all.

    Raises:
        ConfigError: an argument has a value that it cannot have.
    """
    check_arguments("simple_spread_v3", locals())
    neighbours = (num_landmark_neighbors, num_agent_neighbors)
    return Spread(
        num_envs, N, local_ratio, max_cycles, continuous_actions, curriculum, terminate_on_success, neighbours
    )


class Spread(Task):
    """Copies of the task; the arguments are those of `parallel_env`, neighbours being landmarks and agents."""

    def __init__(
        self,
        num_envs: int,
        agents: int,
        local_ratio: float,
        max_cycles: int,
        continuous_actions: bool,
        curriculum: bool,
        terminate_on_success: bool,
        neighbours: tuple[int | None, int | None],
    ) -> None:
        world = World([AGENT] * agents, [Body()] * agents)
        landmarks_seen, others_seen = neighbours[0] or agents, neighbours[1] or agents - 1
        # Agents have two words, but say nothing: the last numbers stay zero.
        width = 4 + 2 * landmarks_seen + 2 * others_seen + 2 * others_seen
        names = [f"agent_{i}" for i in range(agents)]
        super().__init__(num_envs, world, names, [(agents, width)], max_cycles, continuous_actions)
        self._agents, self._others = agents, others(agents)
        self._local_ratio, self._collisions_cost = local_ratio, not curriculum
        self._terminates, self._neighbours = terminate_on_success, neighbours

    def observe(self, state: State, seen: Sequence[Seen]) -> None:
        """Show each agent its velocity and position, the landmarks and the other agents."""
        agents, landmarks = state.position[: self._agents], state.position[self._agents :]
        goals, _ = keep_nearest(relative(landmarks, agents), self._neighbours[0])
        away, _ = keep_nearest(agents[self._others] - agents[:, None], self._neighbours[1])
        fill(seen[0], state.velocity, agents, goals, away)

    def reward(self, state: State) -> Floats:
        """Reward all with the landmarks' distances to their nearest agents, and each with its collisions, negated."""
        common: Floats = -self._uncovered(state).sum(axis=0)
        own = np.zeros((self._agents, len(state.time)))
        if self._collisions_cost:
            agents = state.position[: self._agents]
            apart = length(agents[self._others] - agents[:, None])
            own -= (apart < 2 * AGENT.size).sum(axis=1)
        common *= 1 - self._local_ratio
        return common + own * self._local_ratio

    def finished(self, state: State) -> NDArray[np.bool_] | None:
        """Return where all landmarks are covered, if that ends episodes."""
        if not self._terminates:
            return None
        covered: NDArray[np.bool_] = np.logical_and.reduce(self._uncovered(state) < COVERED)
        return covered

    def _uncovered(self, state: State) -> Floats:
        """How far the nearest agent is from each landmark (N, S)."""
        landmarks = relative(state.position[self._agents :], state.position[: self._agents])
        nearest_agent: Floats = length(landmarks).min(axis=0)
        return nearest_agent
