"""simple: one agent has to go to a landmark.

Dims: S copies.
"""

from __future__ import annotations

from collections.abc import Sequence

from covey.envs.mpe.arguments import check_arguments
from covey.envs.mpe.task import Seen, Task, fill
from covey.envs.mpe.world import Body, Floats, State, World, relative

SHOWN_BY = "mpe2.simple_v3"
"""The environment that draws a copy of this one."""


def parallel_env(
    num_envs: int,
    max_cycles: int = 25,
    continuous_actions: bool = False,
    render_mode: str | None = None,
    dynamic_rescaling: bool = True,
    benchmark_data: bool = False,
) -> Simple:
    """Make `num_envs` copies of mpe2's simple_v3 as one object.

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
    check_arguments("simple_v3", locals())
    return Simple(num_envs, max_cycles, continuous_actions)


class Simple(Task):
    """Copies of the task; the arguments are those of `parallel_env`."""

    def __init__(self, num_envs: int, max_cycles: int, continuous_actions: bool) -> None:
        world = World([Body(moves=True)], [Body()])
        super().__init__(num_envs, world, ["agent_0"], [(1, 4)], max_cycles, continuous_actions)

    def observe(self, state: State, seen: Sequence[Seen]) -> None:
        """Show the agent its velocity and the landmark."""
        fill(seen[0], state.velocity, relative(state.position[1:], state.position[:1]))

    def reward(self, state: State) -> Floats:
        """Reward the agent with the negative squared distance to the landmark."""
        dx, dy = state.position[0] - state.position[1]
        reward: Floats = -(dx * dx + dy * dy)
        return reward[None]
