"""Evaluation tasks of an actor: seeds queue for evaluation slots and go on from order to order."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from covey.acting import LoadedPolicy
from covey.errors import RefusedError
from covey.spaces import EnvironmentSpaces
from covey.v1 import order_pb2
from covey.wire.limits import BUILTIN_RANDOM, POLICY_PREFIX_BYTES

Players = Sequence[LoadedPolicy | None]
"""Who plays each agent, in environment order; None plays at random."""


def resolve_players(
    order: order_pb2.Order,
    agent_policies: Sequence[int],
    policies: Mapping[bytes, LoadedPolicy],
    spaces: EnvironmentSpaces,
) -> Players:
    """Who plays each agent, from an order's indices.

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
            if (policy.spec.observation, policy.spec.action) != (agent.observation, agent.action):
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


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """One Evaluation of an order, its policies pinned until its seeds are done."""

    task_id: int
    players: Players
    max_episode_steps: int  # 0: until the environment ends the episode

    @property
    def policies(self) -> bytes:
        """First 16 bytes of each agent's policy hash; zeros for a built-in."""
        return b"".join((bytes(32) if p is None else p.sha256)[:POLICY_PREFIX_BYTES] for p in self.players)


class EvaluationQueue:
    """Which episode each evaluation slot plays; slots are counted from 0 here."""

    def __init__(self, slots: int) -> None:
        self._waiting: deque[tuple[Task, deque[int]]] = deque()
        self.playing: list[tuple[Task, int] | None] = [None] * slots  # task and seed

    def add(self, task: Task, seeds: Sequence[int]) -> None:
        """Queue the episodes of a task behind those that wait."""
        if seeds:
            self._waiting.append((task, deque(seeds)))

    def fill(self) -> list[int]:
        """Give the next episodes to idle slots; returns those slots, which need a reset."""
        begun = []
        for slot, playing in enumerate(self.playing):
            if playing is None and self._waiting:
                task, seeds = self._waiting[0]
                self.playing[slot] = task, seeds.popleft()
                begun.append(slot)
                if not seeds:
                    self._waiting.popleft()
        return begun

    def done(self, slot: int) -> None:
        """The slot's episode is over."""
        self.playing[slot] = None

    def clear(self) -> None:
        """Forget all tasks."""
        self._waiting.clear()
        self.playing = [None] * len(self.playing)

    @property
    def idle(self) -> bool:
        """Whether nothing is left to play."""
        return not self._waiting and all(p is None for p in self.playing)
