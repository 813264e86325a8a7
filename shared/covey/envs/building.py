"""Builds copies of an environment to be stepped together: in this process, in worker processes, or batched."""

from __future__ import annotations

from covey.envs.batched import BatchedSlots
from covey.envs.batched_parts import BatchedParts
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
    evaluation: tuple[MakeEnv, int] | None = None,
) -> Slots:
    """Build `count` copies of an environment that are stepped together into shared arrays.

    Args:
        make_env: Builds a copy of the environment; a batched environment steps all its copies itself.
        spaces: Spaces of the environment.
        count: How many slots.
        vectorisation: "sync" steps them one after the other in this process, "async" in worker processes.
        step_timeout_s: A worker process that takes longer for a step or reset of its slots is replaced.
        evaluation: What builds the environment of evaluations, if that is another one, and how many of the slots, the
            last ones, evaluate.

    Raises:
        EnvironmentLoadError: a batched environment cannot be built.
    """
    makes = [(make_env, count)] if evaluation is None else [(make_env, count - evaluation[1]), evaluation]
    if isinstance(make_env, EnvironmentFactory) and make_env.batched:
        batches = [(m.batch(n), n) for m, n in makes if n and isinstance(m, EnvironmentFactory)]
        if len(batches) > 1:
            return BatchedParts(batches, spaces)
        return BatchedSlots(batches[0][0], spaces, count)
    make = [direct for m, n in makes for direct in [Direct(m)] * n]
    if vectorisation == "async":
        from covey.envs.processes import AsyncSlots

        return AsyncSlots(make, spaces, count, timeout_s=step_timeout_s)
    return SyncSlots(make, spaces, count)
