"""Building the slots of an environment, as its kind and the configuration ask for."""

from __future__ import annotations

from covey.envs.arrays import SlotArrays
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
    """Slots of an environment, for actions within its spaces.

    Args:
        make_env: Builds it; the factory of a batched environment gives the slots themselves.
        spaces: Its spaces.
        count: How many.
        vectorisation: "sync": one after the other in this process; "async": in processes of their own.
        step_timeout_s: Of the latter: a process that takes longer for a step or reset of its slots is replaced.

    Raises:
        EnvironmentLoadError: a batched environment cannot be built.
    """
    if isinstance(make_env, EnvironmentFactory) and make_env.batched:
        batch = make_env.batch(count)
        batch.attach(spaces, SlotArrays.zeros(spaces, count))
        return batch
    make = Direct(make_env)
    if vectorisation == "async":
        from covey.envs.processes import AsyncSlots

        return AsyncSlots(make, spaces, count, timeout_s=step_timeout_s)
    return SyncSlots(make, spaces, count)
