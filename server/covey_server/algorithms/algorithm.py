"""What the trainer asks of an algorithm."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch

from covey.config import Config
from covey.spaces import EnvironmentSpaces
from covey_server.member import Member
from covey_server.packing.policy_snapshot import PolicySnapshot


class Algorithm(ABC):
    """A population, packed and learning; made anew after every change of the population.

    Attributes:
        passes: Batched critic passes made.
        member_updates: Members updated in them, summed: member_updates / passes is the mean number of members a pass.
    """

    name: ClassVar[str]
    passes: int
    member_updates: int

    @abstractmethod
    def __init__(
        self, config: Config, spaces: EnvironmentSpaces, members: Sequence[Member], device: torch.device | str = "cpu"
    ) -> None:
        """Pack the members; until `unpack` all but their counts of updates stays in the packs."""

    @abstractmethod
    def update(self, due: Sequence[int], experience: Any) -> None:
        """One update of each member in `due` (positions in the population), counted in `Member.updates`.

        Args:
            due: Who owes an update.
            experience: A `Replay` off-policy; on-policy `Rollouts`, in which the rounds of `due` are complete.
        """

    @abstractmethod
    def snapshot(self) -> PolicySnapshot:
        """The policies as they are now; cheap, and safe to unpack on another thread."""

    @abstractmethod
    def unpack(self) -> None:
        """Write weights, targets, moments and step counts back into the members."""

    @abstractmethod
    def metrics(self) -> dict[int, dict[str, float]]:
        """Means since the last call by member id and name; then reset."""
