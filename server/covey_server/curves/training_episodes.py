"""How training episodes go: returns and lengths of those that ended since somebody looked."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(slots=True)
class _Sums:
    """Sums over a member's episodes."""

    episodes: int = 0
    env_steps: int = 0
    returns: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))


class TrainingEpisodes:
    """Training episodes that ended since they were looked at last: given by one thread, read by another."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sums: dict[int, _Sums] = {}

    def add(self, member_id: int, returns: Sequence[float], env_steps: int) -> None:
        """Add an episode of a member: each agent's return, and its length."""
        with self._lock:
            sums = self._sums.setdefault(member_id, _Sums(returns=np.zeros(len(returns))))
            sums.episodes += 1
            sums.env_steps += env_steps
            sums.returns += returns

    def take(
        self, places: Mapping[int, int], agent_ids: Sequence[str]
    ) -> Iterator[tuple[dict[str, float], int | None]]:
        """Yield curves of the episodes since the last call: those of all, then each living member's with its id.

        Args:
            places: Each living member's place in the population, by its id.
            agent_ids: The environment's agents, in its order.
        """
        with self._lock:
            taken, self._sums = self._sums, {}
        episodes = sum(sums.episodes for sums in taken.values())
        if not episodes:
            return
        returns = np.sum([sums.returns for sums in taken.values()], axis=0) / episodes
        curves = {
            "train/return": float(returns.sum()),
            "train/episode_length": sum(sums.env_steps for sums in taken.values()) / episodes,
            "train/episodes": float(episodes),
        }
        yield curves | {f"train/return/{a}": float(r) for a, r in zip(agent_ids, returns, strict=True)}, None
        for member_id, sums in taken.items():
            if member_id in places:
                mean = float(sums.returns.sum()) / sums.episodes
                yield {f"place_{places[member_id]}/train_return": mean}, member_id
