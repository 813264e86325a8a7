"""The gRPC server in a thread with an event loop of its own, so that a busy trainer never keeps an actor waiting."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from covey.errors import AddressInUseError, ConfigError
from covey.v1 import actor_service_pb2, population_service_pb2
from covey.v1 import population_service_pb2_grpc as population_services
from covey.wire.channel import SERVER_OPTIONS, parse_address
from covey_server.attendance import Attendance
from covey_server.coordination.run_state import RunState
from covey_server.coordination.threads import WatchedThread
from covey_server.durability.journal_sync import JournalSync
from covey_server.learner import Learner
from covey_server.orders.session import Session
from covey_server.security.authorization import Authorization
from covey_server.security.guard import Guard
from covey_server.security.rate_limit import RateLimit
from covey_server.security.tls import ServerCertificate
from covey_server.security.tokens import Tokens
from covey_server.serving import actor_service
from covey_server.serving.actor_service import ActorServicer
from covey_server.serving.population_service import PopulationServicer
from covey_server.serving.report import Report
from covey_server.training.trainer import Trainer

logger = logging.getLogger("covey.rpc")

AFTER_FAULT_S = 0.25
"""Seconds that housekeeping pauses after an error, which may come again at once."""

SERVICES = (
    actor_service_pb2.DESCRIPTOR.services_by_name["ActorService"].full_name,
    population_service_pb2.DESCRIPTOR.services_by_name["PopulationService"].full_name,
)
"""Full names of the two services, for health checks and reflection."""


class GrpcThread(WatchedThread):
    """Runs the gRPC server and housekeeping on an event loop of its own; `serve` returns once the port is open.

    Args:
        learner: The learner that is served.
        attendance: Knows which actors are at work and when one counts as silent.
        actors: The data plane's service.
        trainer: Steered by the control plane: checkpoints, stopping.
        report: The answers of the control plane.
        tokens: Which token may call what; None lets everybody call everything.
    """

    def __init__(
        self,
        learner: Learner,
        attendance: Attendance,
        actors: ActorServicer,
        trainer: Trainer,
        report: Report,
        tokens: Tokens | None,
    ) -> None:
        super().__init__("grpc", learner.threads)
        self._learner = learner
        self._attendance = attendance
        self._tokens = tokens
        self._certificate = ServerCertificate(learner.config.learner.tls) if learner.config.learner.tls else None
        self._actors = actors
        self._population = PopulationServicer(learner, trainer, report, self._actors)
        self._report = report
        self._loop = asyncio.new_event_loop()
        self._server: grpc.aio.Server | None = None
        self._health: health.aio.HealthServicer | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._sync = JournalSync(learner, self._durable)
        self._housekeeping_faults = 0

    def work(self) -> None:
        """Run the event loop; an exit or interrupt inside any of its tasks ends it, and so the run."""
        self._loop.run_forever()

    def serve(self, port_before: int = 0) -> str:
        """Open the port and serve; returns the address as HOST:PORT.

        Args:
            port_before: Port to prefer where the configuration allows any: that of the learner's last start. 0 for
                none.

        Raises:
            AddressInUseError: another process listens on the port.
            ConfigError: the address is none of this machine.
        """
        self.start()
        self._sync.start()
        address = asyncio.run_coroutine_threadsafe(self._open(port_before), self._loop).result()
        self._learner.bell.answer(self._wake)
        return address

    def stop(self, grace_s: float) -> None:
        """Ask actors to leave, wait for their last fragments, then close the server and end the thread.

        Args:
            grace_s: Longest wait for actors, seconds.
        """
        self._learner.bell.answer(None)
        if self.is_alive():
            asyncio.run_coroutine_threadsafe(self._close(grace_s), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self.join()
        elif self._server is not None:  # the thread was ended by a fault: say goodbye from here
            self._loop.run_until_complete(self._close(grace_s))
        self._sync.stop()
        self._loop.close()

    def _wake(self) -> None:
        """Have the event loop send orders; any thread may call it."""
        self._loop.call_soon_threadsafe(self._actors.dispatch)

    async def _open(self, port_before: int) -> str:
        """Start the server and housekeeping on the event loop; returns the address as HOST:PORT."""
        host, port = parse_address(self._learner.config.learner.bind)
        if port:
            _refuse_taken_port(host, port)
        elif port_before:
            with contextlib.suppress(AddressInUseError):
                _refuse_taken_port(host, port_before)
                port = port_before
        authorization = Authorization(self._tokens, self._refused, RateLimit(self._refused))
        interceptors = [authorization, Guard(RateLimit(self._refused))]
        server = grpc.aio.server(interceptors=interceptors, options=SERVER_OPTIONS)
        actor_service.register(self._actors, server)
        population_services.add_PopulationServiceServicer_to_server(self._population, server)
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        reflection.enable_server_reflection((*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
        try:
            if self._certificate is None:
                bound = server.add_insecure_port(f"{host}:{port}")
            else:
                bound = server.add_secure_port(f"{host}:{port}", self._certificate.credentials())
        except RuntimeError as exc:
            raise AddressInUseError(
                f"learner.bind {host}:{port}: cannot be bound; is another learner running there? Choose another port"
            ) from exc
        await server.start()
        self._server = server
        for service in ("", *SERVICES):
            await self._health.set(service, health_pb2.HealthCheckResponse.SERVING)
        self._tasks = [self._learner.threads.task("housekeeping", self._housekeeping())]
        return f"{host}:{bound}"

    def _refused(self, why: str) -> None:
        """Count a call that was refused, by the reason."""
        self._learner.count(why)

    async def _housekeeping(self) -> None:
        """Do what is due by time, about once a second, for ever.

        Notices silent actors, retries a full disk, samples counters for rates, sends heartbeats and orders.
        """
        interval_s = self._learner.config.learner.heartbeat_interval_s
        clock = self._learner.clock
        heartbeat_at = clock()
        while True:
            try:
                pause_s = max(0.01, min(1.0, interval_s / 4, self._attendance.until_silence_s()))
                began = clock()
                await asyncio.sleep(pause_s)
                late_s = clock() - began - pause_s
                # Waking much too late means that this process was stopped or its machine overloaded. Actors may have
                # sent heartbeats that were not read, so none of them is blamed for its silence.
                if late_s > interval_s:
                    self._attendance.forgive(late_s)
                self._actors.give_up_silent()
                self._actors.take_back_overdue()
                if self._learner.retry_full_disk():
                    self._actors.ask_again()
                self._report.sample()
                if clock() - heartbeat_at >= interval_s / 2:
                    heartbeat_at = clock()
                    self._actors.heartbeat()
                self._actors.dispatch()
            except Exception as exc:
                self._note_error(exc)
                await asyncio.sleep(AFTER_FAULT_S)

    def _note_error(self, exc: Exception) -> None:
        """Count an error of housekeeping, and log it if it is the first, second, fourth, eighth ... one."""
        self._housekeeping_faults += 1
        self._learner.count("housekeeping_failed")
        if self._housekeeping_faults.bit_count() == 1:
            logger.exception("housekeeping failed")
            self._learner.event(
                f"housekeeping failed ({type(exc).__name__} {exc}), {self._housekeeping_faults:,} times; it goes on"
            )

    def _durable(self, moved: list[Session]) -> None:
        """Have the event loop tell actors which of their fragments are durable."""
        self._loop.call_soon_threadsafe(self._actors.acknowledge_durable, moved)

    async def _close(self, grace_s: float) -> None:
        """Ask all actors to leave, wait at most `grace_s` seconds for them, then stop tasks and server."""
        if self._health is not None:
            await self._health.enter_graceful_shutdown()
        complete = self._learner.state is RunState.COMPLETE
        reason = "the run is complete" if complete else "the learner has stopped"
        self._actors.drain_all(run_complete=complete, reason=reason)
        deadline = self._loop.time() + grace_s
        while self._actors.open_streams and self._loop.time() < deadline:
            await asyncio.sleep(0.05)
        for task in self._tasks:
            task.cancel()
        if self._server is not None:
            await self._server.stop(grace=1.0)


def _refuse_taken_port(host: str, port: int) -> None:
    """Try to bind the port before gRPC does, whose own error does not say why it failed.

    Raises:
        AddressInUseError: the port is taken.
        ConfigError: the address is none of this machine.
    """
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host.strip("[]"), port))
        except OSError as exc:
            if isinstance(exc, socket.gaierror) or exc.errno != errno.EADDRINUSE:
                raise ConfigError(
                    f"learner.bind {host}:{port}: {exc.strerror}; give a local address and a port you may use"
                ) from exc
            raise AddressInUseError(
                f"learner.bind {host}:{port}: the port is taken; end what listens there (another learner?) "
                "or choose another port, 0 for any"
            ) from exc
