"""The state of one environment of an actor: its episode, its next seed, and what the current order wants of it."""

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


def joint_episodes_seed(seeds: Sequence[int]) -> int:
    """The seed of training episodes that are drawn together: 30 bits of SHA-256 of the seeds that each would take."""
    digest = hashlib.sha256(b"".join(seed.to_bytes(8) for seed in seeds)).digest()
    return int.from_bytes(digest[:4]) >> 2


class SlotState(ABC):
    """What training and evaluation environments (slots) of an actor share: their episode and remaining env steps.

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
        """Note that the environment was reset, so that an episode of length 0 runs."""
        self.running, self.length = True, 0

    def end_episode(self) -> None:
        """Note that the environment's episode is over, or was ended by an error."""
        self.running, self.length = False, 0

    def add_steps(self, steps: int) -> None:
        """Count env steps, made without error, of the running episode."""
        self.length += steps
        self.steps_left -= steps
        if steps:
            self.faults_in_a_row = 0

    @property
    @abstractmethod
    def next_seed(self) -> int:
        """The seed with which the environment's next episode is reset."""

    @property
    @abstractmethod
    def most_steps(self) -> int:
        """Env steps that the environment can make before the order, or the episode's time limit, ends."""

    @abstractmethod
    def report_episode(self, fragment: fragment_pb2.Fragment, returns: Sequence[float]) -> None:
        """Add the episode that is ending to the actor's message; `returns` are the agents', in environment order."""

    @abstractmethod
    def report_fault(self, fragment: fragment_pb2.Fragment, message: str) -> None:
        """Add what an environment raised, as one line, to the actor's message."""


class TrainingSlot(SlotState):
    """A training environment (slot) of an actor, whose timesteps are sent to the learner.

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
        """Take over what the learner's new order says about this environment."""
        self._work, self.stream, self.players = work, stream, players
        self.steps_left = work.steps

    @property
    def restarts(self) -> bool:
        """Whether the environment is reset as the order begins: the order says so, or it is the environment's first."""
        return self._work.restart or self._seed is None

    def restart(self) -> None:
        """Abandon the episode, and begin the sequence of episodes that follows from the order's seed."""
        self._seed, self._episode = self._work.seed, 0
        self.running, self.length = False, 0

    def end_episode(self) -> None:
        """Note that the episode is over, or ended by an error; the next one takes the next seed."""
        super().end_episode()
        self._episode += 1

    @property
    def stops_with_episode(self) -> bool:
        """Whether this environment is done with the order when its episode ends."""
        return self._work.until_episode_end

    @property
    def next_seed(self) -> int:
        """The seed of the running or next episode; all seeds follow from that of the order."""
        return training_episode_seed(self._seed or 0, self._episode)

    @property
    def most_steps(self) -> int:
        """Env steps of the learner's order that this environment has still to make."""
        return self.steps_left

    def report_episode(self, fragment: fragment_pb2.Fragment, returns: Sequence[float]) -> None:
        """Add the training episode that is ending to the actor's message."""
        fragment.episodes.add(slot=self.index, returns=returns, length=self.length, member_id=self._work.member_id)

    def report_fault(self, fragment: fragment_pb2.Fragment, message: str) -> None:
        """Add what the environment raised in a training episode to the actor's message."""
        fragment.faults.add(slot=self.index, message=message)


class EvaluationSlot(SlotState):
    """An evaluation environment (slot) of an actor, which plays one episode for each seed; only returns are sent.

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
        """Whether the evaluation environment has no episode to play."""
        return self._playing is None

    def assign(self, task: Task, seed: int) -> None:
        """Give the evaluation environment its next episode: the evaluation that it is of, and its seed."""
        self._playing, self.players = (task, seed), task.players
        self.running = False

    def end_episode(self) -> None:
        """Note that the evaluation episode is over, or ended by an error; the environment is idle then."""
        super().end_episode()
        self._playing = None

    @property
    def next_seed(self) -> int:
        """The seed of the evaluation episode that this environment plays."""
        return self._assigned[1]

    @property
    def most_steps(self) -> int:
        """Env steps of the order that are left for this environment, or those until its episode is cut off if fewer."""
        return min(self.steps_left, self._longest - self.length)

    @property
    def cut_off(self) -> bool:
        """Whether the evaluation episode has reached its largest allowed length."""
        return self.length >= self._longest

    def report_episode(self, fragment: fragment_pb2.Fragment, returns: Sequence[float]) -> None:
        """Add the evaluation episode that is ending, with its returns, to the actor's message."""
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
        """Add what the environment raised in an evaluation episode to the actor's message."""
        task, seed = self._assigned
        fragment.faults.add(evaluation=True, slot=self._number, task_id=task.task_id, seed=seed, message=message)

    @property
    def _longest(self) -> int:
        """Env steps after which the evaluation episode is cut off."""
        return self._assigned[0].max_episode_steps or sys.maxsize

    @property
    def _assigned(self) -> tuple[Task, int]:
        """The evaluation and the seed of the episode that this environment plays."""
        assert self._playing is not None  # asked only of slots that have one
        return self._playing
