"""Evaluates policies in this process, without a learner."""

from __future__ import annotations

from collections.abc import Sequence

from covey.acting import LoadedPolicy
from covey.collect.collector import Collector
from covey.envs.building import build_slots
from covey.envs.loading import MakeEnv
from covey.envs.slots import Slots
from covey.errors import EnvironmentLoadError
from covey.rows import RowSchema
from covey.spaces import EnvironmentSpaces
from covey.v1 import fragment_pb2, order_pb2
from covey.wire.limits import BUILTIN_RANDOM

_ORDER_STEPS = 256  # of each slot, until the collector returns; what is unfinished goes on in the next order


def evaluate(
    make_env: MakeEnv,
    spaces: EnvironmentSpaces,
    policies_by_agent: Sequence[LoadedPolicy | None],
    seeds: Sequence[int],
    max_episode_steps: int,
    slots: int,
) -> list[fragment_pb2.Episode]:
    """Play one episode per seed without exploration.

    Args:
        make_env: Builds the environment.
        spaces: Its spaces.
        policies_by_agent: Who plays each agent, in environment order; None plays at random.
        seeds: One for each episode.
        max_episode_steps: Episodes are cut off after this many env steps; 0: never.
        slots: Environments stepped together.

    Returns:
        Episodes in the order of `seeds`.

    Raises:
        EnvironmentLoadError: the environment raised.
        RefusedError: a policy does not fit its agent's spaces.
    """
    environments = build_slots(make_env, spaces, min(slots, len(seeds)))
    try:
        return play(environments, spaces, policies_by_agent, seeds, max_episode_steps)
    finally:
        environments.close()


def play(
    slots: Slots,
    spaces: EnvironmentSpaces,
    policies_by_agent: Sequence[LoadedPolicy | None],
    seeds: Sequence[int],
    max_episode_steps: int,
) -> list[fragment_pb2.Episode]:
    """Play one episode per seed, without exploration, in environments that exist already and stay open.

    Arguments, result and errors are those of `evaluate`.
    """
    order = order_pb2.Order(eval_steps=_ORDER_STEPS)
    known: dict[bytes, LoadedPolicy] = {}
    task = order.evaluations.add(task_id=1, seeds=seeds, max_episode_steps=max_episode_steps)
    for i, policy in enumerate(policies_by_agent):
        if policy is None:
            order.policies.add(builtin=BUILTIN_RANDOM)
        else:
            order.policies.add(sha256=policy.sha256)
            known[policy.sha256] = policy
        task.agent_policies.append(i)
    collector = Collector(slots, spaces, RowSchema.of(spaces), 0, compression_level=1)
    by_seed: dict[int, fragment_pb2.Episode] = {}
    while True:
        fragment = collector.run(order, known)
        if fragment.faults:
            fault = fragment.faults[0]
            raise EnvironmentLoadError(f"the environment raised in the episode of seed {fault.seed}: {fault.message}")
        by_seed |= {e.seed: e for e in fragment.episodes}
        if not collector.evaluating:
            return [by_seed[seed] for seed in seeds]
        order = order_pb2.Order(order_id=order.order_id + 1, noise_seed=order.noise_seed + 1, eval_steps=_ORDER_STEPS)
