"""The control plane: the gRPC service that people and their programs call to look at a run and to steer it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc

from covey.errors import RefusedError
from covey.networks.resolve import network_ids
from covey.v1 import population_service_pb2 as pb
from covey.v1 import population_service_pb2_grpc as services
from covey.wire.limits import CHUNK_BYTES
from covey_server.coordination.run_state import CLOSED
from covey_server.coordination.threads import in_thread
from covey_server.learner import Learner
from covey_server.security.guard import Context
from covey_server.serving.actor_service import ActorServicer
from covey_server.serving.report import Report
from covey_server.training.trainer import Trainer


class PopulationServicer(services.PopulationServiceServicer):
    """The gRPC service behind `covey status` and similar commands: it answers from the report and steers the learner.

    All methods run on the gRPC loop.

    Args:
        learner: The learner that is paused and resumed.
        trainer: Writes checkpoints and ends the run on request.
        report: The answers about the run.
        actors: The data plane, which drains actors.
    """

    def __init__(self, learner: Learner, trainer: Trainer, report: Report, actors: ActorServicer) -> None:
        self._learner = learner
        self._trainer = trainer
        self._report = report
        self._actors = actors

    async def GetStatus(self, request: pb.GetStatusRequest, context: Context) -> pb.GetStatusResponse:
        """The status of the whole run."""
        del request, context
        return pb.GetStatusResponse(status=self._report.status())

    async def WatchStatus(
        self, request: pb.WatchStatusRequest, context: Context
    ) -> AsyncIterator[pb.WatchStatusResponse]:
        """Send the run's status every `interval_s` seconds (0.1 to 60, default 1) until the run ends."""
        del context
        interval_s = min(60.0, max(0.1, request.interval_s or 1.0))
        while True:
            status = self._report.status()
            yield pb.WatchStatusResponse(status=status)
            if status.state in CLOSED:
                return
            await asyncio.sleep(interval_s)

    async def ListMembers(self, request: pb.ListMembersRequest, context: Context) -> pb.ListMembersResponse:
        """All living members."""
        del request, context
        return pb.ListMembersResponse(members=self._report.members())

    async def GetMember(self, request: pb.GetMemberRequest, context: Context) -> pb.GetMemberResponse:
        """One member by its id, living or dead."""
        member = self._report.member(request.member_id)
        if member is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"member {request.member_id} never lived in this run")
        return pb.GetMemberResponse(member=member)

    async def GetLineage(self, request: pb.GetLineageRequest, context: Context) -> AsyncIterator[pb.GetLineageResponse]:
        """Every member that ever lived, oldest first, in several messages."""
        del request, context
        answer = pb.GetLineageResponse()
        size = 0
        for member in self._report.lineage():
            answer.members.append(member)
            size += member.ByteSize()
            if size >= CHUNK_BYTES:
                yield answer
                answer, size = pb.GetLineageResponse(), 0
        yield answer

    async def ListActors(self, request: pb.ListActorsRequest, context: Context) -> pb.ListActorsResponse:
        """All actors that the learner remembers."""
        del request, context
        return pb.ListActorsResponse(actors=self._report.actors())

    async def DownloadMember(
        self, request: pb.DownloadMemberRequest, context: Context
    ) -> AsyncIterator[pb.DownloadMemberResponse]:
        """Send the files of a living member's newest policies, in chunks."""
        learner = self._learner
        with learner.lock:
            population = learner.population
            living = population is not None and learner.scheduler.ledger(request.member_id) is not None
        files: dict[str, bytes] = {}
        if population is not None and living:
            population.policies.publish([request.member_id])
            refs = population.policies.refs(request.member_id)
            owners = network_ids(population.spaces, learner.config.algorithm.share_parameters)
            for network_id, agents in owners.items():
                files[network_id] = population.policies.get(refs[agents[0]].sha256) or b""
        if not files:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"member {request.member_id} is not alive")
        for network_id, blob in files.items():
            for start in range(0, len(blob), CHUNK_BYTES):
                yield pb.DownloadMemberResponse(network_id=network_id, data=blob[start : start + CHUNK_BYTES])

    async def Pause(self, request: pb.PauseRequest, context: Context) -> pb.PauseResponse:
        """Pause the run: no further orders and updates."""
        del request, context
        self._learner.pause()
        return pb.PauseResponse()

    async def Resume(self, request: pb.ResumeRequest, context: Context) -> pb.ResumeResponse:
        """Resume a paused run."""
        del request, context
        self._learner.resume()
        self._actors.dispatch()
        return pb.ResumeResponse()

    async def Checkpoint(self, request: pb.CheckpointRequest, context: Context) -> pb.CheckpointResponse:
        """Write a checkpoint now, and answer with its path once it is durable."""
        del request, context
        if self._learner.population is None:
            raise RefusedError("run is waiting for the first actor; there is nothing to checkpoint yet")
        # Waits for the disk, which the event loop must not.
        path = await in_thread("checkpoint request", self._trainer.request_checkpoint)
        return pb.CheckpointResponse(path=path)

    async def DrainActor(self, request: pb.DrainActorRequest, context: Context) -> pb.DrainActorResponse:
        """Ask an actor to finish its order and leave."""
        if not self._actors.drain(request.actor_id):
            await context.abort(grpc.StatusCode.NOT_FOUND, f"actor {request.actor_id[:64]!r} is not connected")
        return pb.DrainActorResponse()

    async def Shutdown(self, request: pb.ShutdownRequest, context: Context) -> pb.ShutdownResponse:
        """End the run in good order, as SIGTERM does."""
        del request, context
        self._trainer.request_stop()
        return pb.ShutdownResponse()
