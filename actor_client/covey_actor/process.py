"""The life of an actor process: ask what to run, load it, join, carry out orders, leave when told to."""

from __future__ import annotations

import logging
import os
import queue
import re
import secrets
import socket
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import covey
from covey.acting import LoadedPolicy
from covey.cli.terminal import PrintableFormatter, exit_now, say
from covey.collect import Collector
from covey.collect.collector import most_train_slots
from covey.envs import build_slots, read_spaces
from covey.errors import ConfigError, CoveyError, RefusedError, StalledError, one_line
from covey.rows import RowSchema
from covey.v1 import actor_service_pb2, environment_pb2, fragment_pb2, order_pb2
from covey.wire.channel import ANONYMOUS
from covey.wire.credentials import Credentials
from covey.wire.limits import ACTOR_ID, MAX_COMPRESSION_LEVEL, MAX_SLOTS
from covey.wire.messages import groups_from_proto, spaces_to_proto
from covey_actor.connection import Backoffs, Connection
from covey_actor.described import load_described, load_described_evaluation
from covey_actor.environment_watch import EnvironmentWatch
from covey_actor.modules import allow_modules, computed_kinds
from covey_actor.outbox import Outbox, OutboxClosed
from covey_actor.policy_cache import PolicyCache
from covey_actor.signals import ignore_signals, leave_on_signals, leave_with_parent

MAX_ORDERS_HELD = 16
"""Most orders held. A learner has two out at a time; those from before its restart may still be here."""

MAX_ORDER_POLICY_BYTES = 1 << 30
"""Most bytes of all policies of one order."""

LEAVE_S = 10.0
"""Seconds that an actor which is to leave tries to deliver its fragments, and waits for its environments."""

STEP_TIMEOUT_S = 120.0
"""Seconds that a step or reset of all slots may take if the learner sets no limit."""

_log = logging.getLogger("covey.actor")


@dataclass(frozen=True, kw_only=True)
class ActorOptions:
    """The options with which an actor was started."""

    learner: str
    name: str | None = None  # unset: host name and process id
    env: str | None = None  # entry point used whatever the learner says
    allow_env: Sequence[str] = ()  # patterns of what it runs besides environments of pettingzoo, mpe2, covey.envs.mpe
    ops: Literal["numpy", "torch"] = "numpy"  # torch: policies may need it, for modules that are allowed here
    allow_module: Sequence[str] = ()  # patterns of functions that may make modules of networks
    max_reconnect_s: float | None = None  # None: tries for ever
    credentials: Credentials = ANONYMOUS
    waits: Backoffs = field(default_factory=Backoffs)


@dataclass(frozen=True, slots=True)
class _Prepared:
    """An order (piece of work) with the policies that it names, by hash; None if one of them cannot be had."""

    order: order_pb2.Order
    policies: Mapping[bytes, LoadedPolicy] | None


class Actor:
    """One actor: `run` steps environments in the calling thread; a second thread talks to the learner.

    Args:
        options: How it was started.

    Raises:
        ConfigError: the name is none that an actor may have, or the address is none.
    """

    def __init__(self, options: ActorOptions) -> None:
        self.actor_id = options.name or default_name()
        if not ACTOR_ID.fullmatch(self.actor_id):
            raise ConfigError(f"--name {self.actor_id!r}: expected 1 to 64 characters of A-Z, a-z, 0-9, '.', '_', '-'")
        self._options = options
        self._outbox = Outbox()
        self._connection = Connection(
            options.learner,
            self._outbox,
            credentials=options.credentials,
            max_reconnect_s=options.max_reconnect_s,
            waits=options.waits,
        )
        self._policies = PolicyCache(self._connection.fetch)
        self._lock = threading.Lock()
        self._held: dict[int, order_pb2.Order] = {}  # orders that no fragment answers yet, by id
        self._unprepared: list[order_pb2.Order] = []  # orders whose policies are still to be fetched
        self._ready: queue.SimpleQueue[_Prepared | None] = queue.SimpleQueue()
        self._described = threading.Event()
        self._joined = threading.Event()
        self._compression_level = 1
        self._leave = threading.Event()
        self._reason = ""
        self._error: BaseException | None = None
        self._schema_hash = b""
        self._epoch = 0
        self._new_epoch = False
        self._environment = ""

    def run(self) -> None:
        """Work until the run is complete, the learner asks this actor to leave, or `leave` is called.

        Raises:
            EnvironmentLoadError: the learner's environment is not allowed here, or cannot be loaded.
            ConfigError: a module of the run's networks is not allowed here, or torch is missing.
            SpaceError: its spaces are not served, or are not the run's.
            RefusedError: the learner sends this actor away.
            UnreachableError: the learner is gone.

        An environment that hangs in this process ends the process, as nothing else would end the environment.
        """
        described = self._connection.describe()
        if described is None:
            return
        self._described.set()
        train_slots, eval_slots = described.environment.train_slots, described.environment.eval_slots
        if not 1 <= train_slots <= MAX_SLOTS or eval_slots > MAX_SLOTS:
            raise RefusedError(
                f"learner {self._options.learner} wants {train_slots} training and {eval_slots} evaluation slots, "
                f"expected 1 to {MAX_SLOTS} and at most {MAX_SLOTS}; correct environment.num_envs"
            )
        allow_modules(described.network_modules, self._options.ops, self._options.allow_module)
        make_env = load_described(described.environment, self._options.env, self._options.allow_env)
        self._environment = make_env.entry_point
        env = make_env()
        groups = groups_from_proto(described.environment.groups)
        frames = described.environment.frame_stack if described.environment.HasField("frame_stack") else 1
        spaces = read_spaces(
            env, groups, described.environment.ignore_observations, frames, described.environment.state
        )
        env.close()
        make_evaluation = load_described_evaluation(described.environment, make_env, spaces, groups)
        schema = RowSchema.of(spaces)
        self._schema_hash = schema.hash
        if train_slots > (most := max(1, most_train_slots(spaces, schema))):
            _log.info("actor %s: %d training slots, not %d, so that fragments fit", self.actor_id, most, train_slots)
            train_slots = most
        request = actor_service_pb2.JoinRequest(
            protocol_version=described.protocol_version,
            actor_id=self.actor_id,
            incarnation=secrets.randbits(63) + 1,
            spaces=spaces_to_proto(spaces),
            train_slots=train_slots,
            eval_slots=eval_slots,
            hostname=socket.gethostname(),
            software_version=covey.__version__,
            encoder_kinds=computed_kinds(self._options.ops),
        )
        if self._leave.is_set():  # while the environment was loaded: nobody is to expect work of this actor
            return
        line = threading.Thread(target=self._serve, args=(request,), name="covey-connection", daemon=True)
        line.start()
        while not self._joined.wait(0.2):
            if self._error is not None or not line.is_alive() or self._leave.is_set():
                break
        if self._joined.is_set():
            asked = described.environment.vectorisation
            in_processes = asked == environment_pb2.VECTORISATION_ASYNC and not make_env.batched
            limit_s = described.environment.step_timeout_s
            limit_s = limit_s if limit_s > 0 else STEP_TIMEOUT_S  # for NaN too
            evaluation = None if make_evaluation is make_env else (make_evaluation, eval_slots)
            count, how = train_slots + eval_slots, "async" if in_processes else "sync"
            slots = build_slots(make_env, spaces, count, how, limit_s, evaluation)
            joint_seeds = described.environment.joint_seeds
            collector = Collector(slots, spaces, schema, train_slots, self._compression_level, joint_seeds=joint_seeds)
            hung = partial(self._leave_hung, line)
            watch = EnvironmentWatch(self._environment, limit_s, self._leave, LEAVE_S, hung)
            if not in_processes:  # worker processes have limits of their own
                watch.start()
            try:
                self._collect(collector, watch)
            except OutboxClosed:
                pass  # the connection has ended; `_depart` raises its error
            except CoveyError as exc:
                self._error = self._error or exc
                self._reason = str(exc)  # sent to the learner with Finish
            finally:
                watch.step()
                collector.close()
                watch.close()
        self._depart(line)

    def leave(self, reason: str) -> None:
        """Stop at the next env step, deliver the experience held here, and end. May be called from any thread."""
        self._reason = self._reason or reason
        self._outbox.give_up_after(LEAVE_S)
        self._leave.set()
        if not self._described.is_set():
            self._connection.stop_waiting()
        self._ready.put(None)

    # Methods that the connection's thread calls.

    def on_joined(self, joined: actor_service_pb2.JoinResponse) -> None:
        """Take over the learner's settings for this session, and fetch policies that were still to be fetched."""
        if joined.schema_hash != self._schema_hash:
            raise RefusedError(
                f"learner {self._options.learner}: row schema {joined.schema_hash.hex()[:12]}, expected "
                f"{self._schema_hash.hex()[:12]}; install the same covey on both sides"
            )
        self._compression_level = min(max(joined.compression_level, 1), MAX_COMPRESSION_LEVEL)
        self._new_epoch = self._epoch not in (0, joined.epoch)
        self._epoch = joined.epoch
        if not self._joined.is_set():
            _log.info("actor %s joined %s", self.actor_id, self._options.learner)
        self._joined.set()
        # Fetch what was still to be fetched when the connection broke.
        self._prepare()

    def on_order(self, order: order_pb2.Order) -> None:
        """Queue an order, a piece of work from the learner; its policies are fetched while the one before runs."""
        with self._lock:
            self._held[order.order_id] = order
            held = len(self._held)
        if held > MAX_ORDERS_HELD:
            raise RefusedError(f"learner {self._options.learner} sent {held} orders at once, expected at most two")
        self._unprepared.append(order)
        self._prepare()

    def on_drain(self, drain: actor_service_pb2.Drain) -> None:
        """Leave, as the learner asks this actor to."""
        if self._leave.is_set():
            return  # a learner repeats it until the actor is gone
        reason = one_line(drain.reason) or ("run complete" if drain.run_complete else "drained")
        _log.info("actor %s: %s", self.actor_id, reason)
        self.leave("run complete" if drain.run_complete else "drained")

    def held_order_ids(self) -> list[int]:
        """Return the ids of the learner's orders that have no answer ready for sending yet."""
        with self._lock:
            return list(self._held)

    def _prepare(self) -> None:
        """Fetch the policies of the orders that came, and queue each order to be carried out."""
        while self._unprepared:
            order = self._unprepared[0]
            self._policies.prepare(ref.sha256 for ref in order.policies if ref.sha256)
            policies: dict[bytes, LoadedPolicy] | None = {}
            size = 0
            for ref in order.policies:
                if ref.WhichOneof("source") == "sha256" and policies is not None:
                    policy = self._policies.get(ref.sha256)
                    if policy is None:
                        policies = None
                    elif ref.sha256 not in policies:
                        policies[ref.sha256] = policy
                        size += sum(p.nbytes for p in policy.params.values())
                        if size > MAX_ORDER_POLICY_BYTES:
                            raise RefusedError(
                                f"order {order.order_id}: its policies are larger than {MAX_ORDER_POLICY_BYTES} bytes "
                                "together; train smaller networks"
                            )
            self._unprepared.pop(0)
            self._ready.put(_Prepared(order, policies))

    def _serve(self, request: actor_service_pb2.JoinRequest) -> None:
        """Run the connection to the learner until it ends for good, then wake the main thread."""
        try:
            self._connection.serve(request, self)
        except BaseException as exc:  # whatever it is, the main thread raises it
            self._error = self._error or exc
        finally:
            self._leave.set()
            self._outbox.close()
            self._ready.put(None)

    # Methods of the main thread.

    def _collect(self, collector: Collector, watch: EnvironmentWatch) -> None:
        """Carry out orders until the actor is to leave; those that are left are answered as not run."""
        while not self._leave.is_set():
            prepared = self._ready.get()
            if prepared is None:
                continue
            if self._new_epoch:
                # A learner that restarted asks for its evaluations again.
                collector.forget_evaluations()
                self._new_epoch = False
            if prepared.policies is None:
                self._answer(_empty(prepared.order, self._schema_hash, fragment_pb2.SHORTFALL_POLICY_UNAVAILABLE))
            else:
                watch.step()  # what the collector does before its first step counts as part of that step
                fragment = collector.run(prepared.order, prepared.policies, watch.step)
                watch.idle()
                self._answer(fragment)
                watch.check(fragment)
        if self._error is None:
            for order_id in self.held_order_ids():
                order = self._held[order_id]
                self._answer(_empty(order, self._schema_hash, fragment_pb2.SHORTFALL_DRAIN))

    def _leave_hung(self, line: threading.Thread, error: StalledError) -> None:
        """Tell the learner that an environment hangs, and end this process, as nothing else ends the environment."""
        self._connection.finish(str(error))
        line.join(LEAVE_S)
        say(f"covey actor: {error}", error=True)
        exit_now(error.exit_code)

    def _answer(self, fragment: fragment_pb2.Fragment) -> None:
        """Queue the result of an order to be sent to the learner."""
        self._outbox.put(fragment)
        # After that, so that at every moment the order is held or answered, and Join names it.
        with self._lock:
            self._held.pop(fragment.order_id, None)

    def _depart(self, line: threading.Thread) -> None:
        """Deliver all experience held here and end the connection; raises the error that made the actor leave."""
        self._connection.finish(self._reason or "leaving")
        line.join(LEAVE_S)
        if line.is_alive():
            self._connection.abandon()
            line.join(LEAVE_S)
        self._connection.close()
        complete = self._reason == "run complete"
        if self._error is not None and not (complete and isinstance(self._error, CoveyError)):
            raise self._error


def run_actor(options: ActorOptions, *, stop_on_stdin_eof: bool = False, quiet: bool = False) -> int:
    """Run one actor in this process; returns its exit code. An error is one sentence on stderr.

    Args:
        options: How the actor is started.
        stop_on_stdin_eof: Leave when stdin ends, which it does when the parent process is gone.
        quiet: Print only what goes wrong.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(PrintableFormatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    logging.basicConfig(level=logging.WARNING if quiet else logging.INFO, handlers=[handler])
    try:
        actor = Actor(options)
        leave_on_signals(actor.leave)
        if stop_on_stdin_eof:
            leave_with_parent(actor.leave)
        actor.run()
    except CoveyError as exc:
        say(f"covey actor: {exc}", error=True)
        return exc.exit_code
    finally:
        ignore_signals()
    return 0


def default_name() -> str:
    """Make a name for an actor that was given none, of host name and process id."""
    host = re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:48] or "actor"
    return f"{host}-{os.getpid()}"


def _empty(
    order: order_pb2.Order, schema_hash: bytes, shortfall: fragment_pb2.Shortfall.ValueType
) -> fragment_pb2.Fragment:
    """Make the message that answers an order which was not carried out."""
    return fragment_pb2.Fragment(order_id=order.order_id, schema_hash=schema_hash, shortfall=shortfall)
