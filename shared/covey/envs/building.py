"""Builds copies of an environment to be stepped together: in this process, in worker processes, or batched."""

from __future__ import annotations

from covey.envs.batched import BatchedSlots
from covey.envs.direct import Direct
from covey.envs.loading import EnvironmentFactory, MakeEnv
from covey.envs.slots import Slots
from covey.envs.sync_slots import SyncSlots
from covey.spaces import EnvironmentSpaces


def build_slots(
    make_env: MakeEnv,
    spaces: EnvironmentSpaces,
    count: int,
    vectorisation: str = "sync",
    step_timeout_s: float = 60.0,
) -> Slots:
    """Build `count` copies of an environment that are stepped together into shared arrays.

    Args:
        make_env: Builds a copy of the environment; a batched environment steps all its copies itself.
        spaces: Spaces of the environment.
        count: How many slots.
        vectorisation: "sync" steps them one after the other in this process, "async" in worker processes.
        step_timeout_s: A worker process that takes longer for a step or reset of its slots is replaced.

    Raises:
        EnvironmentLoadError: a batched environment cannot be built.
    """
    if isinstance(make_env, EnvironmentFactory) and make_env.batched:
        return BatchedSlots(make_env.batch(count), spaces, count)
    make = Direct(make_env)
    if vectorisation == "async":
        from covey.envs.processes import AsyncSlots

        return AsyncSlots(make, spaces, count, timeout_s=step_timeout_s)
    return SyncSlots(make, spaces, count)
