"""The actor that is tried: it is given orders, and what it answers is looked at."""

from __future__ import annotations

import queue
import subprocess
import time
from collections.abc import Sequence
from typing import TypeVar

from covey.errors import FragmentError
from covey.rows import RowSchema
from covey.spaces import EnvironmentSpaces
from covey.v1 import actor_service_pb2 as pb
from covey.v1.fragment_pb2 import Fragment
from covey.v1.order_pb2 import Order
from covey.wire.envelope import is_intact
from covey.wire.limits import BUILTIN_RANDOM, PART_BYTES, POLICY_PREFIX_BYTES
from covey_server.compliance.asked import Players, Task, Work
from covey_server.compliance.examination import Slots
from covey_server.compliance.line import LearnerSide, Line
from covey_server.compliance.rules import Verdicts
from covey_server.ingest.validation import check_fragment
from covey_server.orders.session import Session

MEMBER = 1
"""The member for which all orders are."""

ENVELOPE_BYTES = 4096
"""Bytes that one part of a fragment may have besides its piece of the rows: the envelope, tags and lengths."""

_Came = TypeVar("_Came")


class StuckError(Exception):
    """The actor did not send what the session cannot go on without; the verdict has been noted."""


class Attached:
    """One actor: what it has sent, and what it was asked for.

    Args:
        side: What it talks with.
        verdicts: Where is noted what it does right and wrong.
        wait_s: Seconds that it has for each answer.
        process: The actor's process, if it was started here.
    """

    def __init__(
        self, side: LearnerSide, verdicts: Verdicts, wait_s: float, process: subprocess.Popen[bytes] | None
    ) -> None:
        self.side = side
        self.verdicts = verdicts
        self.process = process
        self.tasks: dict[int, Task] = {}
        self.line = Line()
        self.slots: Slots
        self._works: dict[int, Sequence[Work]] = {}  # by order
        self._wait_s = wait_s
        self._acknowledged: dict[int, int] = {}  # by seq the order that was answered
        self._refused: set[int] = set()

    @property
    def session(self) -> Session:
        """The actor's session since its last Join."""
        assert self.side.session is not None  # asked only after a Join
        return self.side.session

    @property
    def gone(self) -> bool:
        """Whether its process, which was started here, has ended."""
        return self.process is not None and self.process.poll() is not None

    @property
    def spaces(self) -> EnvironmentSpaces:
        """The spaces with which it has joined."""
        assert self.side.spaces is not None
        return self.side.spaces

    # -- joining --------------------------------------------------------------------------------------------------

    def attach(self) -> None:
        """Wait until the actor has described, joined and opened its stream for the first time."""
        refused = self._wait(self.side.described, "version", "Describe")
        if not self.verdicts.check("version", refused is None, "a version that both sides speak", refused):
            raise StuckError
        request, refused = self._wait(self.side.joins, "join", "Join")
        if not self.verdicts.check("join", refused is None, "a Join that a learner takes", refused):
            raise StuckError
        self.verdicts.check("join", request.first_held_seq == 1, "first_held_seq 1", request.first_held_seq)
        self.slots = Slots(self.spaces, self.verdicts)
        self._open()

    def rejoin(self, held: Sequence[int] = (), first_held_seq: int | None = None) -> None:
        """Wait until the actor has joined anew after its stream has ended.

        Args:
            held: Orders that it must say it holds.
            first_held_seq: The lowest number that it must be able to send; None: any.
        """
        before = self.session.key
        request, refused = self._wait(self.side.joins, "rejoin", "another Join")
        check = self.verdicts.check
        if not check("rejoin", refused is None, "a Join that a learner takes", refused):
            raise StuckError
        now = request.actor_id, request.incarnation
        check("rejoin", now == before, f"name and incarnation {before}", now)
        missing = set(held) - set(request.held_order_ids)
        check("rejoin", not missing, f"orders {list(held)} in held_order_ids", list(request.held_order_ids))
        if first_held_seq is not None:
            most = request.first_held_seq
            check("rejoin", most <= first_held_seq, f"first_held_seq of at most {first_held_seq}", most)
        self._open()

    def _open(self) -> None:
        self.line = self._wait(self.side.lines, "hello", "Work")
        hello, expected = self.line.hello, self.session.token
        if not self.verdicts.check("hello", hello == expected, f"Hello with session {expected}", hello):
            raise StuckError

    # -- orders ---------------------------------------------------------------------------------------------------

    def order(
        self, *works: Work, tasks: Sequence[Task] = (), eval_steps: int = 0, also_named: bytes | None = None
    ) -> Order:
        """Send an order.

        Args:
            works: What training slots are to do.
            tasks: New evaluations.
            eval_steps: Env steps for each evaluation slot.
            also_named: The hash of a policy that the order names, although nobody plays by it.
        """
        order_id = len(self._works) + 1
        self._works[order_id] = works
        order = Order(order_id=order_id, noise_seed=order_id, eval_steps=eval_steps)
        for work in works:
            order.slots.add(
                slot=work.slot,
                agent_policies=self._indices(order, work.players),
                steps=work.steps,
                restart=work.restart,
                seed=work.seed,
                member_id=MEMBER,
                exploration=work.exploration,
                until_episode_end=work.until_episode_end,
            )
        for task in tasks:
            task.open = set(task.seeds)
            task_id = len(self.tasks) + 1
            self.tasks[task_id] = task
            order.evaluations.add(
                task_id=task_id,
                agent_policies=self._indices(order, task.players),
                seeds=task.seeds,
                max_episode_steps=task.longest,
                member_id=MEMBER,
            )
        if also_named is not None:
            order.policies.add(sha256=also_named, member_id=MEMBER)
        self.line.send(order=order)
        return order

    def _indices(self, order: Order, players: Players) -> list[int]:
        """Indices of the players among the order's policies, to which they are added."""
        hashes = [ref.sha256 for ref in order.policies]  # empty for a built-in one
        indices = []
        for player in players:
            sha256 = b"" if player is None else player.sha256
            if sha256 not in hashes:
                hashes.append(sha256)
                if player is None:
                    order.policies.add(builtin=BUILTIN_RANDOM)
                else:
                    order.policies.add(sha256=sha256, member_id=MEMBER)
            indices.append(hashes.index(sha256))
        return indices

    def run(self, *works: Work, tasks: Sequence[Task] = (), eval_steps: int = 0) -> Fragment:
        """Send an order, and look at its answer and acknowledge it."""
        fragment = self.receive(self.order(*works, tasks=tasks, eval_steps=eval_steps))
        self.ack(fragment)
        return fragment

    def receive(self, order: Order) -> Fragment:
        """Wait for the answer to an order and look at it, without acknowledging it."""
        fragment = self.next(f"the answer to order {order.order_id}")
        self.look(fragment, order)
        return fragment

    def next(self, what: str, rule: str = "answer") -> Fragment:
        """Wait for a fragment, whichever it is; what was acknowledged before is passed over.

        Args:
            what: What is waited for, in words.
            rule: What is broken if nothing comes.
        """
        deadline = time.monotonic() + self._wait_s
        while True:
            came = self._wait(self.line.up, rule, what, deadline)
            if isinstance(came, FragmentError):
                self.verdicts.check("parts", False, "parts in sequence", came)
            elif not isinstance(came, Fragment):
                got = "the end of its stream" if came is None else f"Finish ({came.reason})"
                self.verdicts.check(rule, False, what, got)
                raise StuckError
            elif self._acknowledged.get(came.seq) == came.order_id:  # a resend
                if came.seq in self._refused:
                    self.verdicts.check("refused", False, f"seq {came.seq} never again, as it was refused", "it again")
                self.ack(came)
            else:
                return came

    def ack(self, fragment: Fragment, refusals: Sequence[pb.Refusal] = ()) -> None:
        """Acknowledge a fragment as received and durable."""
        self._refused.update(refusal.seq for refusal in refusals)
        self._acknowledged[fragment.seq] = fragment.order_id
        mark = self.session.received_seq = max(self.session.received_seq, fragment.seq)
        self.line.send(ack=pb.Ack(received_seq=mark, durable_seq=mark, refusals=refusals))

    def finish(self) -> pb.Finish:
        """Wait for Finish; what else comes is an answer too many."""
        deadline = time.monotonic() + self._wait_s
        while True:
            came = self._wait(self.line.up, "drain", "Finish", deadline)
            if isinstance(came, pb.Finish):
                return came
            if came is None:
                self.verdicts.check("drain", False, "Finish", "the end of its stream")
                raise StuckError
            if isinstance(came, Fragment) and came.seq > self.session.received_seq:
                self.verdicts.check("answer", False, "no further fragment", f"one of order {came.order_id}")
                self.ack(came)

    def wait_for_exit(self) -> None:
        """Wait until the process that was started here has ended, and look at its exit code."""
        assert self.process is not None  # else nobody asks
        try:
            code: object = self.process.wait(self._wait_s)
        except subprocess.TimeoutExpired:
            code = f"no exit within {self._wait_s:g} s"
        self.verdicts.check("exit", code == 0, "exit code 0", code)

    def _wait(self, source: queue.Queue[_Came], rule: str, what: str, deadline: float | None = None) -> _Came:
        """Wait for what the session cannot go on without, until then, in seconds of `time.monotonic`."""
        deadline = time.monotonic() + self._wait_s if deadline is None else deadline
        code = None
        while code is None and time.monotonic() < deadline:
            code = None if self.process is None else self.process.poll()
            try:
                return source.get(timeout=0.2)
            except queue.Empty:
                pass
        got = f"nothing within {self._wait_s:g} s" if code is None else f"the end of its process (exit code {code})"
        self.verdicts.check(rule, False, what, got)
        raise StuckError

    # -- looking at answers -----------------------------------------------------------------------------------------

    def look(self, fragment: Fragment, order: Order) -> None:
        """Note everything that the answer to an order shows."""
        check = self.verdicts.check
        expected = self.session.received_seq + 1
        check("seq", fragment.seq == expected, f"seq {expected} for order {order.order_id}", fragment.seq)
        answered = check("answer", fragment.order_id == order.order_id, f"order {order.order_id}", fragment.order_id)
        schema = RowSchema.of(self.spaces)
        same = check("schema", fragment.schema_hash == schema.hash, schema.hash.hex(), fragment.schema_hash.hex())
        check("checksum", is_intact(fragment), "the checksum of its envelope", fragment.envelope_crc32)
        largest = self.line.largest
        check("parts", largest <= PART_BYTES + ENVELOPE_BYTES, f"frames of at most {PART_BYTES} bytes", largest)
        self._look_at_evaluations(fragment, order)
        if not answered or not same:
            return
        try:
            accepted = check_fragment(fragment, order, schema, self.spaces)
        except FragmentError as exc:
            check("checks", False, f"an answer to order {order.order_id} that is taken", f"{exc.reason}: {exc}")
            return
        check("checks", True, "", "")
        self.slots.look(fragment, order.order_id, self._works[order.order_id], accepted)

    def _look_at_evaluations(self, fragment: Fragment, order: Order) -> None:
        check = self.verdicts.check
        most = order.eval_steps * self.session.eval_slots
        steps = fragment.eval_steps
        self.verdicts.never("evaluation", steps > most, f"at most {most} evaluation steps", steps)
        for episode in fragment.episodes:
            if not episode.evaluation:
                continue
            task = self.tasks.get(episode.task_id)
            got = f"seed {episode.seed} of task {episode.task_id}"
            if task is not None:
                who = b"".join(
                    bytes(POLICY_PREFIX_BYTES) if p is None else p.sha256[:POLICY_PREFIX_BYTES] for p in task.players
                )
                check("players", episode.policies == who, f"{who.hex()} in {got}", episode.policies.hex())
            if task is None or episode.seed not in task.open:
                seeds = sorted(task.open) if task else []
                check("evaluation", False, f"seeds {seeds} of task {episode.task_id}, once each", got)
                continue
            task.open.discard(episode.seed)
            task.returns[episode.seed] = list(episode.returns)
            self.verdicts.never("epoch", task.void, "no evaluations from before the learner's restart", got)
            most = task.longest
            check("evaluation", episode.length <= most, f"at most {most} env steps in {got}", episode.length)
