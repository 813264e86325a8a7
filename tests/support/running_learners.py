"""What a running learner says of itself, and that a finished run counted every step once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
from tests.support.processes import PATIENCE_S, covey_json

from covey.run.reports import status_json
from covey.v1.fragment_pb2 import ReceivedFragment
from covey.v1.population_service_pb2 import GetStatusRequest, ListActorsRequest
from covey.v1.population_service_pb2_grpc import PopulationServiceStub
from covey_server.storage.journal import Journal, Kind

MAX_STEPS = 20_000
"""Of a member, in a run that is long enough to be hit in the middle."""


def status(address: str) -> dict[str, Any] | None:
    """What the learner says of itself, if it answers; asked directly, for runs are over soon."""
    with grpc.insecure_channel(address) as channel:
        try:
            answer = PopulationServiceStub(channel).GetStatus(GetStatusRequest(), timeout=PATIENCE_S)
        except grpc.RpcError:
            return None
    return status_json(answer.status)


def steps_of(address: str) -> int:
    """Env steps of the whole population; 0 while nobody answers."""
    answered = status(address)
    return int(answered["env_steps"]) if answered else 0


def actors_with_steps(address: str) -> set[str]:
    """The names of actors whose steps have come in: one may still start while another is far ahead."""
    with grpc.insecure_channel(address) as channel:
        answer = PopulationServiceStub(channel).ListActors(ListActorsRequest(), timeout=PATIENCE_S)
    return {actor.actor_id for actor in answer.actors if actor.env_steps}


def assert_exact_steps(run: Path, max_steps: int = MAX_STEPS) -> None:
    """Every living member has exactly its steps, and no fragment of the journal counts twice."""
    members = covey_json("members", run, "--json")["members"]
    assert [m["env_steps"] for m in members] == [max_steps] * 4
    assert covey_json("status", run, "--json")["env_steps"] == 4 * max_steps
    journal = Journal.open(run / "journal", 1 << 25)
    seen = set()
    for _, kind, payload in journal.read():
        if kind == Kind.FRAGMENT:
            received = ReceivedFragment.FromString(payload)
            key = received.actor_id, received.incarnation, received.fragment.seq
            assert key not in seen, "a fragment was taken in twice"
            seen.add(key)
    journal.close()
