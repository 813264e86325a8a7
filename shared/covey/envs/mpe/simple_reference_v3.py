"""simple_reference: two agents know each other's goal landmark, and have to say which it is.

Dims: S copies.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from covey.envs.mpe.arguments import check_arguments
from covey.envs.mpe.task import Seen, Task, fill
from covey.envs.mpe.world import Body, Floats, State, World, length, relative

SHOWN_BY = "mpe2.simple_reference_v3"
"""The environment that draws a copy of this one."""

COLORS = np.array([[0.75, 0.25, 0.25], [0.25, 0.75, 0.25], [0.25, 0.25, 0.75]])


def parallel_env(
    num_envs: int,
    local_ratio: float = 0.5,
    max_cycles: int = 25,
    continuous_actions: bool = False,
    render_mode: str | None = None,
    dynamic_rescaling: bool = True,
    benchmark_data: bool = False,
) -> Reference:
    """Make `num_envs` copies of mpe2's simple_reference_v3 as one object.

    Args:
        num_envs: How many copies.
        local_ratio: Weight of how near an agent's goal is reached; the rest is that of both agents' mean.
        max_cycles: Env steps of an episode.
        continuous_actions: Whether actions are Box instead of Discrete.
        render_mode: None, as arrays draw nothing.
        dynamic_rescaling: How `covey render` draws it.
        benchmark_data: False, as arrays carry no infos.

    Raises:
        ConfigError: an argument has a value that it cannot have.
    """
    check_arguments("simple_reference_v3", locals())
    return Reference(num_envs, local_ratio, max_cycles, continuous_actions)


class Reference(Task):
    """Copies of the task; the arguments are those of `parallel_env`."""

    def __init__(self, num_envs: int, local_ratio: float, max_cycles: int, continuous_actions: bool) -> None:
        world = World([Body(moves=True, speaks=True)] * 2, [Body()] * 3, words=10)
        names = ["agent_0", "agent_1"]
        super().__init__(num_envs, world, names, [(2, 21)], max_cycles, continuous_actions, goals=[3, 3])
        self._local_ratio = local_ratio

    def observe(self, state: State, seen: Sequence[Seen]) -> None:
        """Show each agent its velocity, the landmarks, the colour of the other's goal and what the other said."""
        color = COLORS[:, state.goal].swapaxes(0, 1)
        fill(seen[0], state.velocity, relative(state.position[2:], state.position[:2]), color, state.said[::-1])

    def reward(self, state: State) -> Floats:
        """Reward each agent for the other being near the goal that it knows, and both for the mean of that."""
        own = np.stack([-length(state.position[1 - i] - state.place_of(2 + state.goal[i])) for i in range(2)])
        reward: Floats = own.sum(axis=0) / 2 * (1 - self._local_ratio) + own * self._local_ratio
        return reward
