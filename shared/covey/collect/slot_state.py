"""Where one slot of a collector stands: its episode, the seed of the next, and what the order at hand wants of it."""

from __future__ import annotations

import hashlib
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence

from covey.collect.evaluation_queue import Task
from covey.collect.orders import Players
from covey.v1 import fragment_pb2, order_pb2


def training_episode_seed(seed: int, episode: int) -> int:
    """The seed of a training slot's episode: 30 bits of SHA-256 of the order's seed and the episode's index."""
    digest = hashlib.sha256(seed.to_bytes(8) + episode.to_bytes(8)).digest()
    return int.from_bytes(digest[:4]) >> 2


class SlotState(ABC):
    """What training and evaluation slots have in common.

    Attributes:
        index: The slot's position among all slots, and in their arrays.
        running: Whether an episode was begun and is not over; if not, a reset is due before the next step.
        length: Env steps of the running episode.
        steps_left: Env steps that the order at hand still wants.
        faults_in_a_row: How often the environment raised in this order without a good step between.
        players: Who plays the slot's agents.
    """

    def __init__(self, index: int) -> None:
        self.index = index
        self.running = False
        self.length = 0
        self.steps_left = 0
        self.faults_in_a_row = 0
        self.players: Players = ()

    def begin_episode(self) -> None:
        """Note that the environment was reset."""
        self.running, self.length = True, 0

    def end_episode(self) -> None:
        """Note that the episode is over, or was broken off by the environment."""
        self.running, self.length = False, 0

    def add_steps(self, steps: int) -> None:
        """Count good steps of the running episode."""
        self.length += steps
        self.steps_left -= steps
        if steps:
            self.faults_in_a_row = 0

    @property
    @abstractmethod
    def next_seed(self) -> int:
        """The seed that the next episode is reset with."""

    @property
    @abstractmethod
    def most_steps(self) -> int:
        """Env steps that the slot can make before its order or its episode is cut off."""

    @abstractmethod
    def report_episode(self, fragment: fragment_pb2.Fragment, returns: Sequence[float]) -> None:
        """Add the episode that is ending to a fragment; `returns` are the agents', in environment order."""

    @abstractmethod
    def report_fault(self, fragment: fragment_pb2.Fragment, message: str) -> None:
        """Add an environment's fault to a fragment; `message` is one line."""


class TrainingSlot(SlotState):
    """A slot whose steps become rows of a fragment.

    Attributes:
        stream: Position of the slot in the order at hand, and so of its rows in the fragment.
    """

    def __init__(self, index: int) -> None:
        super().__init__(index)
        self.stream = 0
        self._work = order_pb2.SlotWork()
        self._seed: int | None = None  # of the sequence of episodes; None before the first order
        self._episode = 0  # index in that sequence, of the running or the next episode

    def begin_order(self, work: order_pb2.SlotWork, stream: int, players: Players) -> None:
        """Take over what a new order says about this slot."""
        self._work, self.stream, self.players = work, stream, players
        self.steps_left = work.steps

    @property
    def restarts(self) -> bool:
        """Whether the order begins a new sequence of episodes: it says so, or it is the slot's first one."""
        return self._work.restart or self._seed is None

    def restart(self) -> None:
        """Abandon the episode, and begin the sequence of episodes that the order's seed gives."""
        self._seed, self._episode = self._work.seed, 0
        self.running, self.length = False, 0

    def end_episode(self) -> None:
        """Note that the episode is over, or was broken off; the next one has the next seed of the sequence."""
        super().end_episode()
        self._episode += 1

    @property
    def stops_with_episode(self) -> bool:
        """Whether the order ends for this slot when an episode does."""
        return self._work.until_episode_end

    @property
    def next_seed(self) -> int:
        """The seed of the running or next episode in the sequence that the order's seed gives."""
        return training_episode_seed(self._seed or 0, self._episode)

    @property
    def most_steps(self) -> int:
        """Env steps that the order still wants."""
        return self.steps_left

    def report_episode(self, fragment: fragment_pb2.Fragment, returns: Sequence[float]) -> None:
        """Add the training episode that is ending to a fragment."""
        fragment.episodes.add(slot=self.index, returns=returns, length=self.length, member_id=self._work.member_id)

    def report_fault(self, fragment: fragment_pb2.Fragment, message: str) -> None:
        """Add a fault in a training episode to a fragment."""
        fragment.faults.add(slot=self.index, message=message)


class EvaluationSlot(SlotState):
    """A slot that plays evaluation episodes, one for each seed of a task, and gives no rows.

    Args:
        index: Position among all slots.
        number: Position among the evaluation slots, by which reports name it.
    """

    def __init__(self, index: int, number: int) -> None:
        super().__init__(index)
        self._number = number
        self._playing: tuple[Task, int] | None = None  # the task and the seed

    @property
    def idle(self) -> bool:
        """Whether the slot has no episode to play."""
        return self._playing is None

    def assign(self, task: Task, seed: int) -> None:
        """Give the slot its next episode."""
        self._playing, self.players = (task, seed), task.players
        self.running = False

    def end_episode(self) -> None:
        """Note that the episode is over, or was broken off; the slot is idle then."""
        super().end_episode()
        self._playing = None

    @property
    def next_seed(self) -> int:
        """The seed of the evaluation episode."""
        return self._assigned[1]

    @property
    def most_steps(self) -> int:
        """Env steps that the order still wants, up to where the episode is cut off."""
        return min(self.steps_left, self._longest - self.length)

    @property
    def cut_off(self) -> bool:
        """Whether the episode has as many steps as its task allows."""
        return self.length >= self._longest

    def report_episode(self, fragment: fragment_pb2.Fragment, returns: Sequence[float]) -> None:
        """Add the evaluation episode that is ending to a fragment."""
        task, seed = self._assigned
        fragment.episodes.add(
            evaluation=True,
            slot=self._number,
            seed=seed,
            returns=returns,
            length=self.length,
            task_id=task.task_id,
            policies=task.policies,
        )

    def report_fault(self, fragment: fragment_pb2.Fragment, message: str) -> None:
        """Add a fault in an evaluation episode to a fragment."""
        task, seed = self._assigned
        fragment.faults.add(evaluation=True, slot=self._number, task_id=task.task_id, seed=seed, message=message)

    @property
    def _longest(self) -> int:
        """Env steps after which the episode is cut off."""
        return self._assigned[0].max_episode_steps or sys.maxsize

    @property
    def _assigned(self) -> tuple[Task, int]:
        """Task and seed of the episode."""
        assert self._playing is not None  # asked only of slots that have one
        return self._playing
