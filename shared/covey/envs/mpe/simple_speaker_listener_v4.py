"""simple_speaker_listener: a speaker, who cannot move, sees the goal's colour; a listener has to go there.

Dims: S copies.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from covey.envs.mpe.arguments import check_arguments
from covey.envs.mpe.task import Seen, Task, fill
from covey.envs.mpe.world import Body, Floats, State, World, relative

SHOWN_BY = "mpe2.simple_speaker_listener_v4"
"""The environment that draws a copy of this one."""

COLORS = np.array([[0.65, 0.15, 0.15], [0.15, 0.65, 0.15], [0.15, 0.15, 0.65]])


def parallel_env(
    num_envs: int,
    max_cycles: int = 25,
    continuous_actions: bool = False,
    render_mode: str | None = None,
    dynamic_rescaling: bool = True,
    benchmark_data: bool = False,
) -> SpeakerListener:
    """Make `num_envs` copies of mpe2's simple_speaker_listener_v4 as one object.

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
    check_arguments("simple_speaker_listener_v4", locals())
    return SpeakerListener(num_envs, max_cycles, continuous_actions)


class SpeakerListener(Task):
    """Copies of the task; the arguments are those of `parallel_env`."""

    def __init__(self, num_envs: int, max_cycles: int, continuous_actions: bool) -> None:
        world = World([Body(0.075, speaks=True), Body(0.075, moves=True)], [Body(0.04)] * 3, words=3)
        names = ["speaker_0", "listener_0"]
        super().__init__(num_envs, world, names, [(1, 3), (1, 11)], max_cycles, continuous_actions, goals=[3])

    def observe(self, state: State, seen: Sequence[Seen]) -> None:
        """Show the speaker the goal's colour, the listener its velocity, the landmarks and what was said."""
        speaker, listener = seen
        speaker[0] = COLORS.T[:, state.goal[0]]
        fill(listener, state.velocity[1:], relative(state.position[2:], state.position[1:2]), state.said)

    def reward(self, state: State) -> Floats:
        """Reward both with the negative squared distance from listener to goal."""
        dx, dy = state.position[1] - state.place_of(2 + state.goal[0])
        return np.broadcast_to(-(dx * dx + dy * dy), (2, len(dx)))
