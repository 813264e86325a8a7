"""Runs a learner's orders: all environments of an actor step together, with few batched forward passes.

Slots 0 .. train_slots - 1 train; the evaluation slots follow them in the same arrays.
Dims: S slots of both kinds, A agents (group by group, see `covey.envs.arrays`), T steps.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from covey.acting import Decisions, FrameStacks, LoadedPolicy
from covey.collect.carried import Carried
from covey.collect.evaluation_queue import EvaluationQueue, Task
from covey.collect.finite import not_finite
from covey.collect.fragment import FragmentBuilder, as_index, most_repeated_rows
from covey.collect.history import History
from covey.collect.orders import Players, check_order, resolve_players
from covey.collect.slot_state import EvaluationSlot, SlotState, TrainingSlot, joint_episodes_seed
from covey.collect.stream_states import StreamStates, check_memory
from covey.envs.outside_bounds import OutsideBounds
from covey.envs.slots import Fault, Slots, batch_reset
from covey.errors import SpaceError, one_line
from covey.rows import MAX_RAW_BYTES, MAX_ROWS, Active, RowKind, RowSchema
from covey.spaces import EnvironmentSpaces
from covey.v1 import fragment_pb2, order_pb2
from covey.wire.limits import MAX_FAULT_CHARACTERS

MAX_FAULTS_IN_A_ROW = 3
"""An environment that raises so often without one good step between is given up for the order."""


@dataclass(frozen=True, slots=True)
class _OrderRun:
    """What is needed while one order of the learner is carried out.

    Attributes:
        training: The training slots that it moves, in its sequence, which is that of the fragment's streams.
        builder: Takes their rows.
        fragment: Takes everything else that is reported to the learner.
        rng: Draws exploration and samples.
        stop: Asked before every step; True ends the order there.
    """

    training: Sequence[TrainingSlot]
    builder: FragmentBuilder
    fragment: fragment_pb2.Fragment
    rng: np.random.Generator
    stop: Callable[[], bool]


def most_train_slots(spaces: EnvironmentSpaces, schema: RowSchema) -> int:
    """The most training slots whose two steps, with what they repeat, fit into one fragment; 0: not even one."""
    return MAX_RAW_BYTES // ((4 + most_repeated_rows(spaces)) * schema.row_bytes)


def check_slots(train_slots: int, spaces: EnvironmentSpaces, schema: RowSchema) -> None:
    """Refuse training slots whose rows do not fit into a fragment.

    Raises:
        SpaceError: too many, or rows of which not even one slot's fit.
    """
    if train_slots > (most := most_train_slots(spaces, schema)):
        raise SpaceError(
            f"environment: {schema.row_bytes} bytes a row for {train_slots} slots, expected at most {most}, so "
            f"that {4 + most_repeated_rows(spaces)} rows of each fit into a fragment of {MAX_RAW_BYTES} bytes; "
            + ("lower actors.max_slots" if most else "shrink the observations")
        )


class Collector:
    """The environments (slots) of one actor; `run` steps them as a learner's order says and returns what they gave.

    A training slot keeps its episode, its noise and its place in the sequence of seeds from order to order. Its first
    order works like one with `restart`: it takes the order's seed.

    Args:
        slots: The environments; closed by `close`.
        spaces: Spaces of the environments.
        schema: The columns of rows, that is, of timesteps.
        train_slots: How many of the slots train; the others evaluate.
        compression_level: zstd level of the fragments' blobs.
        joint_seeds: Whether training episodes that begin together may be drawn together, where the environments have
            `reset_batch`; else each follows from its own slot's seed alone.

    Raises:
        SpaceError: rows too large for a fragment.
    """

    def __init__(
        self,
        slots: Slots,
        spaces: EnvironmentSpaces,
        schema: RowSchema,
        train_slots: int,
        compression_level: int,
        *,
        joint_seeds: bool = False,
    ) -> None:
        check_slots(train_slots, spaces, schema)
        self._lead = most_repeated_rows(spaces)
        self._spaces, self._schema, self._level = spaces, schema, compression_level
        self._slots = slots
        self._reset_batch = batch_reset(slots) if joint_seeds else None
        self._decisions = Decisions(spaces, slots.count)
        self._training = [TrainingSlot(i) for i in range(train_slots)]
        self._evaluation = [EvaluationSlot(i, i - train_slots) for i in range(train_slots, slots.count)]
        self._states: list[SlotState] = [*self._training, *self._evaluation]
        self._queue = EvaluationQueue()
        self._carried = Carried(spaces, train_slots)
        self._stacks = FrameStacks(spaces, slots.count) if spaces.frame_stack > 1 else None
        self._history = History(slots.arrays)
        self._outside = OutsideBounds(spaces)
        # From an agent's place in the environment's order to its column in (S, A).
        columns = [agent for g in spaces.groups for agent in g.agents]
        self._column = [columns.index(agent) for agent in range(len(columns))]
        self._returns = np.zeros((slots.count, len(columns)))  # of the running episodes, (S, A)
        self._ended_at = time.perf_counter()

    def run(
        self,
        order: order_pb2.Order,
        policies: Mapping[bytes, LoadedPolicy],
        stop: Callable[[], bool] = lambda: False,
    ) -> fragment_pb2.Fragment:
        """Carry out an order, a piece of work from the learner: so many env steps of each environment it names.

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
        training = self._begin(order, policies)
        rng = np.random.Generator(np.random.Philox(order.noise_seed))
        builder = self._builder(order)
        self._move(_OrderRun(training, builder, fragment, rng, stop))
        builder.carry(self._slots.arrays)
        standing = [s for s in training if builder.open(s.stream)]
        builder.end([s.stream for s in standing], [s.index for s in standing], RowKind.TAIL, self._slots.arrays)
        builder.encode(fragment, self._level)
        self._ended_at = time.perf_counter()
        fragment.work_s = self._ended_at - began
        return fragment

    @property
    def evaluating(self) -> bool:
        """Whether evaluation episodes are unfinished; they go on with the next order."""
        return bool(self._queue) or not all(slot.idle for slot in self._evaluation)

    def forget_evaluations(self) -> None:
        """Drop all evaluation episodes, as the learner that asked for them has restarted."""
        self._queue.clear()
        for slot in self._evaluation:
            slot.end_episode()

    def close(self) -> None:
        """Close the environments."""
        self._slots.close()

    def _begin(self, order: order_pb2.Order, policies: Mapping[bytes, LoadedPolicy]) -> list[TrainingSlot]:
        """Check an order and give each environment its share of it.

        Returns the training environments in its sequence.
        """
        check_order(order, len(self._training))
        resolved: dict[tuple[int, ...], Players] = {}  # most slots are played by few different sets of policies
        training: list[TrainingSlot] = []
        remember = check_memory(policies.values(), self._slots.count, len(self._column))
        remember |= self._decisions.states.any
        for stream, work in enumerate(order.slots):
            indices = tuple(work.agent_policies)
            if indices not in resolved:
                resolved[indices] = resolve_players(order, indices, policies, self._spaces)
            training.append(self._training[work.slot])
            training[-1].begin_order(work, stream, resolved[indices])
            if remember:
                members = [order.policies[i].member_id for i in indices]
                self._decisions.states.assign(work.slot, resolved[indices], members)
        for e in order.evaluations:
            who = resolve_players(order, e.agent_policies, policies, self._spaces)
            self._queue.add(Task(e.task_id, who, e.max_episode_steps), e.seeds)
        for work in order.slots:
            self._decisions.explore(work.slot, work.exploration)
        for slot in training:
            if slot.restarts:
                self._carried.abandon(slot.index, began=slot.length > 0)
                slot.restart()
        for evaluation in self._evaluation:
            evaluation.steps_left = order.eval_steps
        for state in self._states:
            state.faults_in_a_row = 0
        return training

    def _builder(self, order: order_pb2.Order) -> FragmentBuilder:
        """Make the buffers for the timesteps of an order, as large as all of them and as a fragment may be.

        n steps are at most 2 n + 1 rows behind lead-in rows: each may end an episode, and the tail is one row more.
        """
        slots = [w.slot for w in order.slots]
        if self._stacks is not None:
            self._carried.context = {s: self._stacks.earlier(s) for s in slots if self._training[s].running}
        states = StreamStates(self._decisions.states, slots) if self._decisions.states.any else None
        room = states.room((4 + self._lead) * len(slots) * self._schema.row_bytes) if states else MAX_RAW_BYTES
        most = min(MAX_ROWS, room // self._schema.row_bytes) // max(1, len(slots))
        rows = min(most, self._lead + 2 * max((w.steps for w in order.slots), default=0) + 1)
        return FragmentBuilder(self._schema, self._spaces, slots, rows, self._carried, states)

    @np.errstate(invalid="ignore", over="ignore")  # NaN and infinities are looked for once behind each block of steps
    def _move(self, run: _OrderRun) -> None:
        """Step the environments until none has any env steps of the order left to make."""
        planned: dict[int, Players] = {}
        while moving := self._moving(run):
            if due := [slot for slot in moving if not slot.running]:
                for fault in self._reset(due):
                    self._fault(fault, run)
                for slot in due:
                    if isinstance(slot, TrainingSlot) and slot.running:
                        run.builder.begin_episode(slot.stream)
                if not all(slot.running for slot in due):
                    continue
            players = {slot.index: slot.players for slot in moving}
            if players != planned:
                self._decisions.plan(players)
                planned = players
            if self._step_block(moving, run):
                run.fragment.shortfall = fragment_pb2.SHORTFALL_DRAIN
                return

    def _moving(self, run: _OrderRun) -> list[SlotState]:
        """Return the environments that have steps to make: training ones first, in the order's sequence."""
        for slot in self._evaluation:
            if slot.idle and self._queue:
                slot.assign(*self._queue.take())
        moving: list[SlotState] = [slot for slot in run.training if slot.steps_left]
        moving += [slot for slot in self._evaluation if slot.steps_left and not slot.idle]
        return moving

    def _step_block(self, moving: list[SlotState], run: _OrderRun) -> bool:
        """Step these environments together until one of them ends its episode or steps; returns whether to stop.

        What depends only on who moves is worked out once for the block: a step costs little more than its environments.
        """
        slots, arrays, decide = self._slots, self._slots.arrays, self._decisions.decide
        history, builder, stacks = self._history, run.builder, self._stacks
        seen = arrays.observation if stacks is None else stacks.stacked  # both change in place
        indices = [slot.index for slot in moving]
        at = as_index(indices)
        training = (slot for slot in moving if isinstance(slot, TrainingSlot))
        # Nobody may run out of steps within the block, nor a stream of rows: one row is kept for what ends the stream.
        most = min(
            history.capacity,
            *(slot.most_steps for slot in moving),
            *(builder.capacity - 1 - int(builder.rows[slot.stream]) for slot in training),
        )
        everybody_chose = bytes([Active.CHOSE]) * arrays.present[at].size
        history.begin()
        self._decisions.prepare(run.rng, most)
        done = 0  # steps that all of them made
        stopped, faults = False, list[Fault]()
        for _ in range(most):
            if stopped := run.stop():
                break
            given, stored = decide(seen, arrays.mask, run.rng, arrays.present, arrays.living)
            faults = slots.step(indices, given)
            history.add(stored)
            if stacks is not None:
                stacks.push(arrays.observation, at)
            if faults:
                break
            done += 1
            # The usual step first, by one comparison of bytes: all agents are there and choose, so no episode ended.
            if arrays.present[at].tobytes() != everybody_chose and not arrays.living[at].any(axis=1).all():
                break
        self._account(moving, done, faults, run)
        return stopped

    def _account(self, moving: list[SlotState], done: int, faults: list[Fault], run: _OrderRun) -> None:
        """After a block of env steps, record returns and timesteps, report errors, and end episodes.

        Args:
            moving: The environments that were stepped.
            done: Steps that all of them made.
            faults: What was raised in one step more.
            run: The order.
        """
        history, builder = self._history, run.builder
        indices = [slot.index for slot in moving]
        # Good steps of each slot: the step in which some raised counts for the others only, and a slot that showed NaN
        # or an infinity after its step k made k - 1.
        made = dict.fromkeys(indices, done + bool(faults)) | {f.slot: done for f in faults}
        shown = history.before(done + 1 + bool(faults))
        bad = not_finite(shown, indices, self._spaces)
        if not bad:  # else a number that ends an episode would be told to be used as it is
            self._outside.tell(shown)
        for index, (first, message) in bad.items():
            if first <= made[index]:  # a slot that raised shows nothing after its last step
                made[index] = max(0, first - 1)
                faults.append(Fault(index, message))
        # Slots that made as many steps are written together; usually these are all of them.
        for steps in sorted(set(made.values())):
            self._write([slot for slot in moving if made[slot.index] == steps], steps, run)
        for slot in moving:
            slot.add_steps(made[slot.index])
            if isinstance(slot, EvaluationSlot):
                run.fragment.eval_steps += made[slot.index]
        raised = {f.slot: f for f in faults}
        for fault in raised.values():
            state = self._states[fault.slot]
            if isinstance(state, TrainingSlot):
                builder.cut(state.stream, state.index, state.length > 0, history.at(made[state.index]))
            self._fault(fault, run)
        self._end_episodes([slot for slot in moving if slot.index not in raised], run)

    def _write(self, moved: list[SlotState], steps: int, run: _OrderRun) -> None:
        """Add the recorded first `steps` env steps to these environments' returns and, in training, to what is sent."""
        if not steps:
            return
        indices = [slot.index for slot in moved]
        after = self._history.after(steps)
        # One after the other, as if each had been added when it came: floating-point sums depend on their sequence.
        rewards = np.concatenate([self._returns[None, indices], after.reward[:, indices]])
        self._returns[indices] = np.add.accumulate(rewards)[-1]
        training = [slot for slot in moved if isinstance(slot, TrainingSlot)]
        run.builder.write(
            [slot.stream for slot in training],
            [slot.index for slot in training],
            self._history.before(steps),
            self._history.actions(steps),
            after.reward,
            after.terminated,
            after.truncated,
        )

    def _end_episodes(self, moved: Sequence[SlotState], run: _OrderRun) -> None:
        """After a block of env steps, end episodes that are over, and the order where buffers are full."""
        builder = run.builder
        living: list[bool] = np.logical_or.reduce(self._slots.arrays.living, axis=1).tolist()
        training = [slot for slot in moved if isinstance(slot, TrainingSlot)]
        ended = [slot for slot in training if not living[slot.index]]
        builder.end([s.stream for s in ended], [s.index for s in ended], RowKind.FINAL, self._slots.arrays)
        for slot in ended:
            self._end_episode(slot, run)
            if slot.stops_with_episode:
                slot.steps_left = 0
        for slot in training:
            if builder.rows[slot.stream] + 2 > builder.capacity:  # no place for a step and for what ends the stream
                slot.steps_left = 0
        for state in moved:
            if isinstance(state, EvaluationSlot) and (not living[state.index] or state.cut_off):
                self._end_episode(state, run)

    def _end_episode(self, slot: SlotState, run: _OrderRun) -> None:
        """Report an environment's finished episode with its returns."""
        slot.report_episode(run.fragment, self._returns[slot.index, self._column].tolist())
        slot.end_episode()

    def _reset(self, due: Sequence[SlotState]) -> list[Fault]:
        """Begin the next episodes of these environments; returns a report for each that raised."""
        faults: list[Fault] = []
        exact = due
        if self._reset_batch is not None and (together := [s for s in due if isinstance(s, TrainingSlot)]):
            seed = joint_episodes_seed([slot.next_seed for slot in together])
            faults += self._reset_batch([slot.index for slot in together], seed)
            exact = [slot for slot in due if isinstance(slot, EvaluationSlot)]
        if exact:
            faults += self._slots.reset([slot.index for slot in exact], [slot.next_seed for slot in exact])
        raised = {f.slot for f in faults}
        begun = [slot.index for slot in due if slot.index not in raised]
        for index in begun:
            self._states[index].begin_episode()
            if index < len(self._training):
                self._carried.begin_episode(index)
        self._returns[begun] = 0
        self._decisions.begin_episodes(begun)
        if self._stacks is not None:
            self._stacks.begin(self._slots.arrays.observation, begun)
        return faults

    def _fault(self, fault: Fault, run: _OrderRun) -> None:
        """Report that an environment raised, in a step or a reset; it needs a new episode then."""
        slot = self._states[fault.slot]
        slot.report_fault(run.fragment, one_line(fault.message, MAX_FAULT_CHARACTERS))
        slot.end_episode()
        slot.faults_in_a_row += 1
        if slot.faults_in_a_row >= MAX_FAULTS_IN_A_ROW:
            slot.steps_left = 0
            run.fragment.shortfall = fragment_pb2.SHORTFALL_ENVIRONMENT
