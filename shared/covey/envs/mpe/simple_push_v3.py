"""simple_push: a good agent has to reach the goal landmark, an adversary has to push it away.

Dims: S copies.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from covey.envs.mpe.arguments import check_arguments
from covey.envs.mpe.task import Seen, Task, fill
from covey.envs.mpe.world import Body, Floats, State, World, length, relative

SHOWN_BY = "mpe2.simple_push_v3"
"""The environment that draws a copy of this one."""

ADVERSARY, GOOD = slice(0, 1), slice(1, 2)
AGENT_COLORS = np.array([[0.25, 0.25], [0.75, 0.25], [0.25, 0.75]])
"""The good agent's colour by the goal: (3, 2)."""

LANDMARK_COLORS = np.array([0.1, 0.9, 0.1, 0.1, 0.1, 0.9]).reshape(1, 6, 1)
"""The colours of the first and the second landmark."""


def parallel_env(
    num_envs: int,
    max_cycles: int = 25,
    continuous_actions: bool = False,
    render_mode: str | None = None,
    dynamic_rescaling: bool = True,
    benchmark_data: bool = False,
) -> Push:
    """Make `num_envs` copies of mpe2's simple_push_v3 as one object.

    Args:
        num_envs: How many copies.
        max_cycles: Env steps of an episode.
        continuous_actions: Whether actions are Box instead of Discrete.
        render_mode: None, as arrays draw nothing.
        dynamic_rescaling: How `covey render` draws it.
        benchmark_data: False, as arrays carry no infos.

    Raises:
        ConfigError: an argument has a value that it cannot have.
    """
    check_arguments("simple_push_v3", locals())
    return Push(num_envs, max_cycles, continuous_actions)


class Push(Task):
    """Copies of the task; the arguments are those of `parallel_env`."""

    def __init__(self, num_envs: int, max_cycles: int, continuous_actions: bool) -> None:
        world = World([Body(collides=True, moves=True)] * 2, [Body()] * 2)
        names, kinds = ["adversary_0", "agent_0"], [(1, 8), (1, 19)]
        super().__init__(num_envs, world, names, kinds, max_cycles, continuous_actions, goals=[2])

    def observe(self, state: State, seen: Sequence[Seen]) -> None:
        """Show both their velocity, the landmarks and the other one; the good agent also the goal, and colours."""
        agents, landmarks = state.position[:2], relative(state.position[2:], state.position[:2])
        goal = state.place_of(2 + state.goal[0]) - agents
        color = AGENT_COLORS[None, :, state.goal[0]]
        other = agents[::-1] - agents
        fill(seen[0], state.velocity[ADVERSARY], landmarks[ADVERSARY], other[ADVERSARY])
        fill(seen[1], state.velocity[GOOD], goal[GOOD], color, landmarks[GOOD], LANDMARK_COLORS, other[GOOD])

    def reward(self, state: State) -> Floats:
        """Reward the good agent for being near the goal, the adversary for being nearer."""
        adversary, good = length(state.place_of(2 + state.goal[0]) - state.position[:2])
        return np.stack([good - adversary, -good])
