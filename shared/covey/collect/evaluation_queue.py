"""Evaluation episodes that an actor still has to play, in the order in which they were asked for."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from covey.collect.orders import Players
from covey.wire.limits import POLICY_PREFIX_BYTES


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """One evaluation that the learner ordered: fixed policies, which play one episode for each of its seeds."""

    task_id: int
    players: Players
    max_episode_steps: int  # 0: until the environment ends the episode

    @property
    def policies(self) -> bytes:
        """The first bytes of each agent's policy hash, joined; zeros for a built-in policy."""
        hashes = (bytes(POLICY_PREFIX_BYTES) if p is None else p.sha256[:POLICY_PREFIX_BYTES] for p in self.players)
        return b"".join(hashes)


class EvaluationQueue:
    """Evaluation episodes that an actor has still to play, each an evaluation and a seed."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Task, deque[int]]] = deque()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, task: Task, seeds: Sequence[int]) -> None:
        """Append an evaluation episode for each seed to the queue."""
        if seeds:
            self._waiting.append((task, deque(seeds)))

    def take(self) -> tuple[Task, int]:
        """Remove the next episode from a queue that is not empty; returns its evaluation and seed."""
        task, seeds = self._waiting[0]
        seed = seeds.popleft()
        if not seeds:
            self._waiting.popleft()
        return task, seed

    def clear(self) -> None:
        """Drop all evaluation episodes that wait."""
        self._waiting.clear()
