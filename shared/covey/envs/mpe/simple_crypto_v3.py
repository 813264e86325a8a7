"""simple_crypto: Alice tells Bob a message by a key that both know, and Eve, who hears them, must not understand it.

Dims: S copies, W = 4 words.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from covey.envs.mpe.arguments import check_arguments
from covey.envs.mpe.task import Seen, Task, fill
from covey.envs.mpe.world import Body, Floats, State, World

SHOWN_BY = "mpe2.simple_crypto_v3"
"""The environment that draws a copy of this one."""

EVE, BOB, ALICE = range(3)
COLORS = np.eye(4)[:, :2]
"""What stands for each of two landmarks, as messages and as keys: (W, 2)."""


def parallel_env(
    num_envs: int,
    max_cycles: int = 25,
    continuous_actions: bool = False,
    render_mode: str | None = None,
    dynamic_rescaling: bool = True,
    benchmark_data: bool = False,
) -> Crypto:
    """Make `num_envs` copies of mpe2's simple_crypto_v3 as one object.

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
    check_arguments("simple_crypto_v3", locals())
    return Crypto(num_envs, max_cycles, continuous_actions)


class Crypto(Task):
    """Copies of the task; the arguments are those of `parallel_env`."""

    def __init__(self, num_envs: int, max_cycles: int, continuous_actions: bool) -> None:
        world = World([Body(speaks=True)] * 3, [Body()] * 2, words=4)
        names, kinds = ["eve_0", "bob_0", "alice_0"], [(1, 4), (1, 8), (1, 8)]
        super().__init__(num_envs, world, names, kinds, max_cycles, continuous_actions, goals=[2, 2])

    def observe(self, state: State, seen: Sequence[Seen]) -> None:
        """Show Eve what Alice said, Bob the key and that, Alice the message and the key."""
        message, key = (COLORS[None, :, drawn] for drawn in state.goal)
        heard = state.said[ALICE:]
        fill(seen[EVE], heard)
        fill(seen[BOB], key, heard)
        fill(seen[ALICE], message, key)

    def reward(self, state: State) -> Floats:
        """Reward Eve for the message that she says, the others for that of Bob and against that of Eve.

        Who says nothing at all counts for nothing.
        """
        said = state.said[:ALICE]
        wrong = np.square(said - COLORS[:, state.goal[0]]).sum(axis=1)
        wrong *= said.any(axis=1)
        reward = np.empty((3, wrong.shape[1]))
        reward[EVE] = -wrong[EVE]
        reward[BOB:] = wrong[EVE] - wrong[BOB]
        return reward
