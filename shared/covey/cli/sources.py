"""Where commands such as `covey status` get their answers: from a running learner, or from a run's files."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Protocol

import grpc

from covey.cli.run_names import find_run
from covey.cli.terminal import say
from covey.errors import (
    ConfigError,
    ForbiddenError,
    RefusedError,
    StorageError,
    UnauthenticatedError,
    UnreachableError,
)
from covey.run.files import cannot_read, read_json
from covey.run.reports import ENDED, actors_json, members_json, status_json
from covey.v1 import population_service_pb2 as pb
from covey.v1.population_service_pb2_grpc import PopulationServiceStub
from covey.wire.channel import ANONYMOUS, connect, parse_address, translate
from covey.wire.credentials import Credentials

DEADLINE_S = 5.0
"""Seconds that a learner may take to answer a question."""

CHECKPOINT_DEADLINE_S = 120.0
"""Seconds to wait for a checkpoint, which is answered when it is on disk."""

LINEAGE_DEADLINE_S = 60.0
"""Seconds that a learner may take to send a lineage, which may be megabytes."""

Question = Literal["status", "members", "lineage", "actors"]
Answer = dict[str, Any]


class Source(Protocol):
    """The interface of what answers questions about a run, such as its status or members."""

    def ask(self, question: Question) -> Answer:
        """Return the JSON object that the command `covey <question> --json` prints."""
        ...

    def watch(self, interval_s: float) -> Iterator[Answer]:
        """Yield the run's status again and again until the run ends."""
        ...


class RunningLearner:
    """Answers questions about a run by asking its learner over gRPC; no call waits longer than its deadline."""

    def __init__(self, address: str, credentials: Credentials = ANONYMOUS) -> None:
        self.address = address
        self.stub = PopulationServiceStub(connect(address, credentials))

    def __str__(self) -> str:
        return f"learner {self.address}"

    def ask(self, question: Question) -> Answer:
        """Ask the learner about its run.

        Raises:
            UnreachableError: no answer within the deadline.
            RefusedError: it does not serve this question.
        """
        with self.errors():
            match question:
                case "status":
                    return status_json(self.stub.GetStatus(pb.GetStatusRequest(), timeout=DEADLINE_S).status)
                case "members":
                    return members_json(self.stub.ListMembers(pb.ListMembersRequest(), timeout=DEADLINE_S).members)
                case "lineage":
                    answers = self.stub.GetLineage(pb.GetLineageRequest(), timeout=LINEAGE_DEADLINE_S)
                    return members_json([member for answer in answers for member in answer.members])
                case "actors":
                    return actors_json(self.stub.ListActors(pb.ListActorsRequest(), timeout=DEADLINE_S).actors)

    def watch(self, interval_s: float) -> Iterator[Answer]:
        """Yield the run's status at once and then every interval, until the run ends.

        Raises:
            UnreachableError: it went away before it said that the run ended.
        """
        with self.errors():
            for frame in self.stub.WatchStatus(pb.WatchStatusRequest(interval_s=interval_s)):
                yield status_json(frame.status)

    def pause(self) -> None:
        """Pause training, updates and env steps, until `resume`."""
        with self.errors():
            self.stub.Pause(pb.PauseRequest(), timeout=DEADLINE_S)

    def resume(self) -> None:
        """Go on with training after `pause`."""
        with self.errors():
            self.stub.Resume(pb.ResumeRequest(), timeout=DEADLINE_S)

    def checkpoint(self) -> str:
        """Have a checkpoint written; returns its directory on the learner's machine when it is on disk."""
        with self.errors():
            return self.stub.Checkpoint(pb.CheckpointRequest(), timeout=CHECKPOINT_DEADLINE_S).path

    def drain(self, actor: str) -> None:
        """Have an actor deliver what it has collected, and end."""
        with self.errors():
            self.stub.DrainActor(pb.DrainActorRequest(actor_id=actor), timeout=DEADLINE_S)

    def stop(self) -> None:
        """Stop the run with a checkpoint."""
        with self.errors():
            self.stub.Shutdown(pb.ShutdownRequest(), timeout=CHECKPOINT_DEADLINE_S)

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Provide a context in which gRPC's errors become covey's."""
        try:
            yield
        except grpc.RpcError as exc:
            raise translate(exc, self.address) from exc


class RunFiles:
    """Answers questions about a run that no learner trains now, from the files in its directory.

    Args:
        run: The directory.
        tells: Whether a note on stderr says what became of a run that is not complete.
    """

    def __init__(self, run: Path, *, tells: bool = True) -> None:
        self.run = run
        self._tells = tells

    def __str__(self) -> str:
        return f"run {self.run}"

    def ask(self, question: Question) -> Answer:
        """Read the answer from its file.

        A run that had not ended when its learner was last heard of is "dead".

        Raises:
            StorageError: the file is missing or no JSON object.
        """
        file = self.run / f"{question}.json"
        if question == "lineage":
            # Learners of before wrote no file of how the living were born.
            files = (self.run / "living.json", self.run / "members.json")
            file = next((f for f in files if f.exists()), files[-1])
        answer = read_object(file)
        status = answer if question == "status" else read_object(self.run / "status.json")
        if question == "lineage":
            members = {m["member_id"]: m for m in answer["members"]} | read_lineage(self.run / "lineage.jsonl")
            answer = {"members": [members[member_id] for member_id in sorted(members)]}
        state, age_s = status.get("state"), time.time() - (self.run / "status.json").stat().st_mtime
        if state not in ENDED:
            state = "dead"
            heard = f"its learner has not been heard of for {age_s:.0f} s"
            if self._tells:
                say(f"covey: {self.run}: {heard}; {_how_to_go_on(self.run)}", error=True)
        elif state != "complete" and self._tells:
            say(f"covey: {self.run}: {state} {age_s:.0f} s ago; {_how_to_go_on(self.run)}", error=True)
        return {**answer, "state": state} if question == "status" else answer

    def watch(self, interval_s: float) -> Iterator[Answer]:
        """Yield the run's status once, as files do not change."""
        yield self.ask("status")


def read_object(path: Path) -> Answer:
    """Read a file that holds a JSON object.

    Raises:
        StorageError: missing, unreadable, or no JSON object.
    """
    data = read_json(path)
    if not isinstance(data, dict):
        raise StorageError(f"{path} holds {type(data).__name__}, expected an object; was it edited?")
    return data


def read_lineage(path: Path) -> dict[int, Answer]:
    """Read the members of a population that died, by id, from a file with one JSON object a line.

    Raises:
        StorageError: missing, unreadable, or a line is no member.
    """
    try:
        members = [json.loads(line) for line in path.read_bytes().splitlines()]
        return {int(m["member_id"]): m for m in members}
    except OSError as exc:
        raise cannot_read(path, exc) from exc
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as exc:
        raise StorageError(f"{path}: a line is no member's JSON; the file was damaged or is no file of covey") from exc


def find_source(learner: str | None, run: str | None, credentials: Credentials = ANONYMOUS) -> Source:
    """Decide what answers questions about a run: its learner if it runs, else its files.

    Args:
        learner: Address of a learner to ask.
        run: Name of a run, as `find_run` takes it: its learner is asked if it answers, else its files.
        credentials: For the learner.

    Raises:
        ConfigError: both are given, or `learner` is not an address.
        StorageError: no such run.
    """
    if learner is not None:
        return _learner_at(learner, run, credentials)
    directory = find_run(run)
    return live_learner(directory, credentials) or RunFiles(directory)


def find_learner(learner: str | None, run: str | None, credentials: Credentials = ANONYMOUS) -> RunningLearner:
    """Find the learner to steer: the one at the address given, or the one that trains a run.

    Args:
        learner: Address of a learner.
        run: Name of a run, as `find_run` takes it.
        credentials: For the learner.

    Raises:
        ConfigError: both are given, or `learner` is not an address.
        StorageError: no such run.
        UnreachableError: no learner trains the run now.
    """
    if learner is not None:
        return _learner_at(learner, run, credentials)
    directory = find_run(run)
    live = live_learner(directory, credentials)
    if live is None:
        raise UnreachableError(
            f"run {directory}: no learner trains it now; {_how_to_go_on(directory)}, or ask a learner elsewhere with "
            "--learner HOST:PORT"
        )
    return live


def _how_to_go_on(run: Path) -> str:
    """Say by which commands a run that has ended goes on, whichever began it."""
    return f"go on with covey train --resume {run} (covey learner --resume, if that began it)"


def _learner_at(address: str, run: str | None, credentials: Credentials) -> RunningLearner:
    """The learner at an address; a ConfigError if a run is named as well."""
    if run is not None:
        raise ConfigError(f"--learner {address} and run {run}: both given, expected one of them")
    return RunningLearner(address, credentials)


def live_learner(run: Path, credentials: Credentials = ANONYMOUS) -> RunningLearner | None:
    """Find the learner that trains a run now; None if there is none, or it does not answer.

    Raises:
        UnauthenticatedError, ForbiddenError: it answers, but not to these credentials.
    """
    if not (run / "address.json").exists():
        return None
    try:
        listens = read_object(run / "address.json")
        # A learner that listens at all addresses has a certificate for names, so not for 0.0.0.0.
        address = re.sub(r"^(0\.0\.0\.0|\[::\]):", "localhost:", str(listens.get("address", "")))
        parse_address(address)
    except (StorageError, ConfigError) as exc:
        say(f"covey: {run / 'address.json'} cannot be used ({exc}); its learner is not asked", error=True)
        return None
    if not listens.get("tls"):
        credentials = replace(credentials, ca=None)
    elif credentials.ca is None:
        say(f"covey: {run}: its learner serves TLS; give --ca FILE, or set COVEY_CA, to ask it", error=True)
        return None
    found = RunningLearner(address, credentials)
    try:
        status = found.ask("status")
    except (UnauthenticatedError, ForbiddenError):
        raise
    except (UnreachableError, RefusedError):
        return None
    # The learner of another run may have the port by now.
    return found if Path(status["run_dir"]).name == run.resolve().name else None
