"""Reads a learner's order: checks that it is allowed, and finds which policies play its agents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from covey.acting import LoadedPolicy
from covey.acting.noise import bounded
from covey.errors import RefusedError
from covey.spaces import EnvironmentSpaces
from covey.v1 import order_pb2
from covey.wire.limits import BUILTIN_RANDOM, MAX_ORDER_STEPS

Players = Sequence[LoadedPolicy | None]
"""Who plays each agent, in environment order; None plays at random."""


def check_order(order: order_pb2.Order, train_slots: int) -> None:
    """Refuse a learner's order that an actor with this many training environments cannot be sent.

    Raises:
        RefusedError: unknown or repeated environments (slots), too many steps, or noise that grows without end.
    """
    slots = [(w.slot, w.steps) for w in order.slots]
    if len({slot for slot, _ in slots}) < len(slots) or any(
        slot >= train_slots or not 1 <= steps <= MAX_ORDER_STEPS for slot, steps in slots
    ):
        raise RefusedError(
            f"order {order.order_id}: slots {slots}, expected distinct slots "
            f"below {train_slots} with 1 to {MAX_ORDER_STEPS} steps; the learner breaks the protocol"
        )
    if order.eval_steps > MAX_ORDER_STEPS:
        raise RefusedError(
            f"order {order.order_id}: {order.eval_steps} evaluation steps, expected at most {MAX_ORDER_STEPS}; "
            "the learner breaks the protocol"
        )
    for work in order.slots:
        if not bounded(work.exploration):
            raise RefusedError(
                f"order {order.order_id}: exploration of slot {work.slot} would grow without end or is not made of "
                "numbers; the learner breaks the protocol"
            )


def resolve_players(
    order: order_pb2.Order,
    agent_policies: Sequence[int],
    policies: Mapping[bytes, LoadedPolicy],
    spaces: EnvironmentSpaces,
) -> Players:
    """Return for each agent the policy that the order gives it; None for an agent that plays at random.

    Args:
        order: Lists the policies.
        agent_policies: For each agent, in environment order, an index into the order's policies.
        policies: Every policy that the order names by its hash.
        spaces: Spaces of the environment.

    Raises:
        RefusedError: indices out of range or too few, an unknown built-in, or a policy made for other spaces.
    """
    if len(agent_policies) != len(spaces.agents) or any(i >= len(order.policies) for i in agent_policies):
        raise RefusedError(
            f"order {order.order_id}: agent_policies {list(agent_policies)[:8]}, expected {len(spaces.agents)} indices "
            f"below {len(order.policies)}; the learner breaks the protocol"
        )
    players: list[LoadedPolicy | None] = []
    peers = {agent: len(group) for group in spaces.groups for agent in group.agents}
    for i, (index, agent) in enumerate(zip(agent_policies, spaces.agents, strict=True)):
        ref = order.policies[index]
        if ref.WhichOneof("source") == "sha256":
            policy = policies[ref.sha256]
            if (policy.spec.observation, policy.spec.action) != (agent.stacked, agent.action):
                raise RefusedError(
                    f"order {order.order_id}: policy {ref.sha256.hex()[:12]} is made for {policy.spec.observation} and "
                    f"{policy.spec.action}, expected those of agent {agent.agent_id!r}; the learner breaks the protocol"
                )
            if policy.spec.indicator not in (0, peers[i]):
                raise RefusedError(
                    f"order {order.order_id}: policy {ref.sha256.hex()[:12]} tells {policy.spec.indicator} agents "
                    f"apart, expected {peers[i]} as in the group of {agent.agent_id!r}; the learner breaks the protocol"
                )
            players.append(policy)
        elif ref.builtin == BUILTIN_RANDOM:
            players.append(None)
        else:
            raise RefusedError(
                f"order {order.order_id}: built-in policy {ref.builtin!r}, expected {BUILTIN_RANDOM!r}; "
                "update the actor's software"
            )
    return players
