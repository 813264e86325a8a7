"""Running orders: all slots of an order step together, decided by one forward pass per group and structure.

Slots 0 .. train_slots - 1 train, the evaluation slots follow them in the same arrays.
Dims: S slots of both kinds, A agents (group by group, see `covey.envs.arrays`).
"""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from covey.acting import Decisions, LoadedPolicy
from covey.acting.noise import bounded
from covey.collect.carried import Carried
from covey.collect.finite import not_finite
from covey.collect.fragment import FragmentBuilder, as_index, most_lead_in_rows
from covey.collect.history import History
from covey.collect.tasks import EvaluationQueue, Players, Task, resolve_players
from covey.envs.slots import Fault, Slots
from covey.errors import RefusedError, SpaceError, one_line
from covey.rows import MAX_RAW_BYTES, MAX_ROWS, Active, RowKind, RowSchema
from covey.spaces import EnvironmentSpaces
from covey.v1 import fragment_pb2, order_pb2
from covey.wire.limits import MAX_FAULT_CHARACTERS, MAX_ORDER_STEPS

MAX_FAULTS_IN_A_ROW = 3
"""An environment that raises so often without one good step between is given up for the order."""


def training_episode_seed(seed: int, episode: int) -> int:
    """The seed that a slot's episode is reset with: 31 bits of SHA-256 of the order's seed and the episode's index."""
    digest = hashlib.sha256(seed.to_bytes(8) + episode.to_bytes(8)).digest()
    return int.from_bytes(digest[:4]) >> 1


class Collector:
    """The environments of one actor; `run` moves them as an order says and returns what came of it.

    A training slot keeps its episode, its noise and its place in the sequence of seeds from order to order. Its first
    order works like one with `restart`: it takes the order's seed.

    Args:
        slots: The environments; closed by `close`.
        spaces: Theirs.
        schema: Of the rows.
        train_slots: So many train, the others evaluate.
        compression_level: Of zstd.

    Raises:
        SpaceError: rows too large for a fragment.
    """

    def __init__(
        self, slots: Slots, spaces: EnvironmentSpaces, schema: RowSchema, train_slots: int, compression_level: int
    ) -> None:
        self._lead = most_lead_in_rows(spaces)
        if (4 + self._lead) * schema.row_bytes * train_slots > MAX_RAW_BYTES:
            raise SpaceError(
                f"environment: {schema.row_bytes} bytes a row for {train_slots} slots, expected two steps of all slots "
                f"to fit into {MAX_RAW_BYTES} bytes; lower actors.max_slots or shrink the observations"
            )
        total = slots.count
        self._spaces, self._schema, self._level = spaces, schema, compression_level
        self._train = train_slots
        self._slots = slots
        self._decisions = Decisions(spaces, total)
        self._carried = Carried(spaces, train_slots)
        self._queue = EvaluationQueue(total - train_slots)
        # From an agent's place in the environment's order to its column in (S, A).
        columns = [agent for g in spaces.groups for agent in g.agents]
        self._column = [columns.index(agent) for agent in range(len(columns))]
        self._returns = np.zeros((total, len(columns)))
        self._history = History(slots.arrays)
        self._length = [0] * total  # env steps of the running episode
        self._fresh = [False] * total  # reset, and not at its episode's end
        self._faults_in_a_row = [0] * total
        self._episode = [0] * train_slots  # index of the slot's running or next episode
        self._seed: list[int | None] = [None] * train_slots
        self._work: dict[int, order_pb2.SlotWork] = {}  # of the order at hand, by training slot
        self._ended_at = time.perf_counter()

    def run(
        self,
        order: order_pb2.Order,
        policies: Mapping[bytes, LoadedPolicy],
        stop: Callable[[], bool] = lambda: False,
    ) -> fragment_pb2.Fragment:
        """Carry an order out.

        Args:
            order: What to do.
            policies: Every policy that it names by hash.
            stop: Asked before every step; True ends the order there (shortfall DRAIN).

        Returns:
            The fragment, its `seq` left 0.

        Raises:
            RefusedError: the order breaks the protocol, or a policy does not fit its agent's spaces.
            EnvironmentLoadError: the environment turns out to be of a kind that is not served.
        """
        began = time.perf_counter()
        fragment = fragment_pb2.Fragment(order_id=order.order_id, schema_hash=self._schema.hash)
        fragment.wait_s = began - self._ended_at
        players = self._begin(order, policies)
        self._restart()
        builder = self._builder(order)
        self._move(order, players, builder, fragment, stop)
        builder.carry(self._slots.arrays)
        standing = {i: slot for i, slot in enumerate(self._work) if builder.open(i)}
        builder.end(list(standing), list(standing.values()), RowKind.TAIL, self._slots.arrays)
        builder.encode(fragment, self._level)
        self._ended_at = time.perf_counter()
        fragment.work_s = self._ended_at - began
        return fragment

    @property
    def evaluating(self) -> bool:
        """Whether evaluation tasks are unfinished; they go on in the next order."""
        return not self._queue.idle

    def forget_evaluations(self) -> None:
        """Drop all evaluation tasks: the learner that gave them does not know them any more."""
        self._queue.clear()
        self._fresh[self._train :] = [False] * (len(self._fresh) - self._train)

    def close(self) -> None:
        """Close the environments."""
        self._slots.close()

    def _begin(self, order: order_pb2.Order, policies: Mapping[bytes, LoadedPolicy]) -> dict[int, Players]:
        """Check the order, queue its evaluations, set the slots' exploration; returns who plays in training slots."""
        self._work = {w.slot: w for w in order.slots}
        if len(self._work) < len(order.slots) or any(
            w.slot >= self._train or not 1 <= w.steps <= MAX_ORDER_STEPS for w in order.slots
        ):
            raise RefusedError(
                f"order {order.order_id}: slots {[(w.slot, w.steps) for w in order.slots]}, expected distinct slots "
                f"below {self._train} with 1 to {MAX_ORDER_STEPS} steps; the learner breaks the protocol"
            )
        if order.eval_steps > MAX_ORDER_STEPS:
            raise RefusedError(
                f"order {order.order_id}: {order.eval_steps} evaluation steps, expected at most {MAX_ORDER_STEPS}; "
                "the learner breaks the protocol"
            )
        for slot, work in self._work.items():
            if not bounded(work.exploration):
                raise RefusedError(
                    f"order {order.order_id}: exploration of slot {slot} would grow without end or is not made of "
                    "numbers; the learner breaks the protocol"
                )
        resolved: dict[tuple[int, ...], Players] = {}  # most slots are played by few different sets of policies
        players: dict[int, Players] = {}
        for w in order.slots:
            indices = tuple(w.agent_policies)
            if indices not in resolved:
                resolved[indices] = resolve_players(order, indices, policies, self._spaces)
            players[w.slot] = resolved[indices]
        for e in order.evaluations:
            who = resolve_players(order, e.agent_policies, policies, self._spaces)
            self._queue.add(Task(e.task_id, who, e.max_episode_steps), e.seeds)
        for slot, work in self._work.items():
            self._decisions.explore(slot, work.exploration)
        return players

    def _builder(self, order: order_pb2.Order) -> FragmentBuilder:
        streams = max(1, len(self._work))
        # Every step may end an episode, whose final row takes room too; all streams together must fit a fragment.
        most = min(MAX_ROWS, MAX_RAW_BYTES // self._schema.row_bytes) // streams
        room = min(most, self._lead + 2 * max((w.steps for w in order.slots), default=0) + 1)
        return FragmentBuilder(self._schema, self._spaces, list(self._work), room, self._carried)

    def _restart(self) -> None:
        """Abandon episodes where the order says so, and give new slots their seed."""
        for slot, work in self._work.items():
            if work.restart or self._seed[slot] is None:
                if self._length[slot]:
                    self._carried.cut.add(slot)
                self._carried.lead_in.pop(slot, None)
                self._seed[slot], self._episode[slot] = work.seed, 0
                self._fresh[slot], self._length[slot] = False, 0

    @np.errstate(invalid="ignore")  # numbers that are none are found behind a stretch, not in its every step
    def _move(
        self,
        order: order_pb2.Order,
        players: Mapping[int, Players],
        builder: FragmentBuilder,
        fragment: fragment_pb2.Fragment,
        stop: Callable[[], bool],
    ) -> None:
        """Step all slots until none has anything left to do."""
        rng = np.random.Generator(np.random.Philox(order.noise_seed))
        stream = {slot: i for i, slot in enumerate(self._work)}
        left = {slot: w.steps for slot, w in self._work.items()}
        left |= {self._train + e: order.eval_steps for e in range(len(self._queue.playing))}
        self._faults_in_a_row = [0] * len(self._faults_in_a_row)
        planned: dict[int, Players] = {}
        while who := self._who(players, left):
            if due := [s for s in who if not self._fresh[s]]:
                for fault in self._reset(due):
                    self._fault(fault, fragment, left)
                if not all(self._fresh[s] for s in due):
                    continue
            if who != planned:
                self._decisions.plan(who)
                planned = who
            if self._stretch(list(who), left, stream, rng, builder, fragment, stop):
                fragment.shortfall = fragment_pb2.SHORTFALL_DRAIN
                return

    def _who(self, players: Mapping[int, Players], left: Mapping[int, int]) -> dict[int, Players]:
        """Slots that have something to do, and who plays in them: training slots first, in the order's sequence."""
        for e in self._queue.fill():
            self._fresh[self._train + e] = False
        who = {s: players[s] for s in self._work if left[s]}
        for e, playing in enumerate(self._queue.playing):
            if playing and left[self._train + e]:
                who[self._train + e] = playing[0].players
        return who

    def _stretch(
        self,
        moving: list[int],
        left: dict[int, int],
        stream: Mapping[int, int],
        rng: np.random.Generator,
        builder: FragmentBuilder,
        fragment: fragment_pb2.Fragment,
        stop: Callable[[], bool],
    ) -> bool:
        """Step these slots together until one of them ends an episode or its steps; returns whether to stop.

        What depends only on who moves is worked out once, here: a step costs little more than its environments.
        """
        slots, arrays, decide = self._slots, self._slots.arrays, self._decisions.decide
        train = [s for s in moving if s < self._train]
        limits = [left[s] for s in moving]
        limits += [self._cap(s) - self._length[s] for s in moving[len(train) :]]
        limits += [builder.room - 1 - int(builder.rows[stream[s]]) for s in train]
        limits.append(self._history.room)
        at = as_index(moving)
        everybody_chose = bytes([Active.CHOSE]) * arrays.present[at].size
        history = self._history
        history.begin()
        self._decisions.prepare(rng, min(limits))
        done = 0  # steps that all of them made
        stopped, faults = False, list[Fault]()
        for _ in range(min(limits)):
            if stopped := stop():
                break
            given, stored = decide(arrays.observation, arrays.mask, rng)
            faults = slots.step(moving, given)
            history.add(stored)
            if faults:
                break
            done += 1
            if arrays.present[at].tobytes() != everybody_chose and not arrays.living[at].any(axis=1).all():
                break
        made = dict.fromkeys(moving, done + bool(faults)) | {f.slot: done for f in faults}
        for s, (first, message) in not_finite(history.before(0, done + 1 + bool(faults)), moving, self._spaces).items():
            if first <= made[s]:  # a slot that raised shows nothing after its last step
                made[s] = max(0, first - 1)
                faults.append(Fault(s, message))
        for steps in sorted(set(made.values())):
            self._write(builder, stream, [s for s in moving if made[s] == steps], 0, steps)
        for s, steps in made.items():
            self._length[s] += steps
            left[s] -= steps
            if steps:
                self._faults_in_a_row[s] = 0
            if s >= self._train:
                fragment.eval_steps += steps
        raised = {f.slot: f for f in faults}
        for s, fault in raised.items():
            if s in stream:
                builder.cut(stream[s], s, self._length[s] > 0, history.at(made[s]))
            self._fault(fault, fragment, left)
        good = [s for s in moving if s not in raised]
        self._settle(good, stream, left, builder, fragment)
        return stopped

    def _write(
        self, builder: FragmentBuilder, stream: Mapping[int, int], moved: list[int], first: int, end: int
    ) -> None:
        """Add these steps of the history to the slots' returns and streams."""
        if first == end:
            return
        came = self._history.after(first, end)
        # One after the other, as if each had been added when it came.
        rewards = np.concatenate([self._returns[None, moved], came.reward[:, moved]])
        self._returns[moved] = np.add.accumulate(rewards)[-1]
        train = [s for s in moved if s < self._train]
        builder.write(
            [stream[s] for s in train],
            train,
            self._history.before(first, end),
            self._history.actions(first, end),
            came.reward,
            came.terminated,
            came.truncated,
        )

    def _settle(
        self,
        moved: Sequence[int],
        stream: Mapping[int, int],
        left: dict[int, int],
        builder: FragmentBuilder,
        fragment: fragment_pb2.Fragment,
    ) -> None:
        """After a stretch: end episodes that are over, and the order of slots without room for more rows."""
        going: list[bool] = np.logical_or.reduce(self._slots.arrays.living, axis=1).tolist()
        ended = [s for s in moved if s < self._train and not going[s]]
        builder.end([stream[s] for s in ended], ended, RowKind.FINAL, self._slots.arrays)
        for s in ended:
            self._end_episode(s, fragment)
            if self._work[s].until_episode_end:
                left[s] = 0
        for s in moved:
            if s < self._train:
                if builder.rows[stream[s]] + 2 > builder.room:
                    left[s] = 0
            elif not going[s] or self._length[s] >= self._cap(s):
                self._end_evaluation(s, fragment)

    def _cap(self, slot: int) -> int:
        """Steps after which an evaluation slot's episode is cut off."""
        return self._playing(slot)[0].max_episode_steps or sys.maxsize

    def _playing(self, slot: int) -> tuple[Task, int]:
        """Task and seed of an evaluation slot that plays."""
        playing = self._queue.playing[slot - self._train]
        assert playing is not None  # only asked of slots that play
        return playing

    def _reset(self, due: Sequence[int]) -> list[Fault]:
        """Begin episodes in these slots."""
        seeds = [
            training_episode_seed(self._seed[s] or 0, self._episode[s]) if s < self._train else self._playing(s)[1]
            for s in due
        ]
        faults = self._slots.reset(due, seeds)
        raised = {f.slot for f in faults}
        begun = [s for s in due if s not in raised]
        for s in begun:
            self._fresh[s], self._length[s] = True, 0
            if s < self._train:
                self._carried.begin_episode(s)
        self._returns[begun] = 0
        self._decisions.begin_episodes(begun)
        return faults

    def _fault(self, fault: Fault, fragment: fragment_pb2.Fragment, left: dict[int, int]) -> None:
        """Report that an environment raised, in a step or a reset; its slot needs a new episode."""
        s = fault.slot
        self._fresh[s], self._length[s] = False, 0
        report = fragment.faults.add(message=one_line(fault.message, MAX_FAULT_CHARACTERS))
        if s < self._train:
            report.slot = s
            self._episode[s] += 1
        else:
            task, seed = self._playing(s)
            report.evaluation, report.slot = True, s - self._train
            report.task_id, report.seed = task.task_id, seed
            self._queue.done(s - self._train)
        self._faults_in_a_row[s] += 1
        if self._faults_in_a_row[s] >= MAX_FAULTS_IN_A_ROW:
            left[s] = 0
            fragment.shortfall = fragment_pb2.SHORTFALL_ENVIRONMENT

    def _end_episode(self, slot: int, fragment: fragment_pb2.Fragment) -> None:
        fragment.episodes.add(
            slot=slot,
            returns=self._returns[slot, self._column].tolist(),
            length=self._length[slot],
            member_id=self._work[slot].member_id,
        )
        self._fresh[slot], self._length[slot] = False, 0
        self._episode[slot] += 1

    def _end_evaluation(self, slot: int, fragment: fragment_pb2.Fragment) -> None:
        task, seed = self._playing(slot)
        fragment.episodes.add(
            evaluation=True,
            slot=slot - self._train,
            seed=seed,
            returns=self._returns[slot, self._column].tolist(),
            length=self._length[slot],
            task_id=task.task_id,
            policies=task.policies,
        )
        self._queue.done(slot - self._train)
        self._fresh[slot], self._length[slot] = False, 0
