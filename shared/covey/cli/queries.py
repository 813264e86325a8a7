"""Commands that ask a run about its progress, and commands that steer a running learner."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import RenderableType
from rich.live import Live

from covey.cli import tables
from covey.cli.access import with_credentials
from covey.cli.sources import DEADLINE_S, Answer, Question, Source, find_learner, find_source
from covey.cli.terminal import say, say_json
from covey.errors import StorageError
from covey.v1 import population_service_pb2 as pb
from covey.wire.credentials import Credentials

CHECKPOINT_DEADLINE_S = 120.0
"""Seconds to wait for a checkpoint, which is answered when it is on disk."""

Run = Annotated[Path | None, typer.Argument(metavar="[RUN]", help="A run directory; the newest under ./runs if unset.")]
LearnerAddress = Annotated[str | None, typer.Option("--learner", metavar="HOST:PORT", help="A running learner.")]
Json = Annotated[bool, typer.Option("--json", help="Print a JSON object.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the learner's threads; of an error the traceback.")]
Interval = Annotated[float, typer.Option("--interval", min=0.1, max=60, help="Seconds between two looks.")]
ActorId = Annotated[str, typer.Argument(metavar="ACTOR", help="An actor id as `covey actors` shows it.")]


def register(app: typer.Typer) -> None:
    """Add the commands that ask about a run, or steer it, to the command line."""
    for question in (status, members, lineage, actors, watch):
        app.command()(with_credentials(question))
    for steering in (pause, resume, checkpoint, drain, stop):
        app.command()(with_credentials(steering))


def status(
    credentials: Credentials,
    run: Run = None,
    learner: LearnerAddress = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Show how far a run is, how fast it goes, and where time is spent; with --debug its learner's threads as well."""
    _answer("status", learner, run, credentials, as_json, debug=debug)


def members(credentials: Credentials, run: Run = None, learner: LearnerAddress = None, as_json: Json = False) -> None:
    """Show the living population: fitness, hyperparameters, env steps, updates."""
    _answer("members", learner, run, credentials, as_json)


def lineage(credentials: Credentials, run: Run = None, learner: LearnerAddress = None, as_json: Json = False) -> None:
    """Show every member that ever lived: its parent and what changed."""
    _answer("lineage", learner, run, credentials, as_json)


def actors(credentials: Credentials, run: Run = None, learner: LearnerAddress = None, as_json: Json = False) -> None:
    """Show the actor processes that step environments: how fast each is, and when it was last heard of."""
    _answer("actors", learner, run, credentials, as_json)


def watch(
    credentials: Credentials,
    run: Run = None,
    learner: LearnerAddress = None,
    interval: Interval = 1.0,
    as_json: Json = False,
) -> None:
    """Show the status again and again until the run ends; with --json one object a line."""
    source = find_source(learner, run, credentials)
    answers = source.watch(interval)
    if as_json:
        for answer in answers:
            say_json(answer)
        return
    console = tables.plain_console()
    with _understood(source):
        if not console.is_terminal:  # a pipe or a file: one look after the other, where Live would show the last alone
            for answer in answers:
                tables.show(_table("status", answer, debug=False))
            return
        with Live(console=console, auto_refresh=False) as live:
            for answer in answers:
                live.update(_table("status", answer, debug=False), refresh=True)


def pause(credentials: Credentials, learner: LearnerAddress = None) -> None:
    """Stop a learner's updates and its orders to actors until `covey resume`."""
    found = find_learner(learner, credentials)
    with found.errors():
        found.stub.Pause(pb.PauseRequest(), timeout=DEADLINE_S)
    say(f"paused {found.address}")


def resume(credentials: Credentials, learner: LearnerAddress = None) -> None:
    """Let a learner go on after `covey pause`."""
    found = find_learner(learner, credentials)
    with found.errors():
        found.stub.Resume(pb.ResumeRequest(), timeout=DEADLINE_S)
    say(f"resumed {found.address}")


def checkpoint(credentials: Credentials, learner: LearnerAddress = None) -> None:
    """Write a checkpoint now and print where it is, on the learner's machine."""
    found = find_learner(learner, credentials)
    with found.errors():
        say(found.stub.Checkpoint(pb.CheckpointRequest(), timeout=CHECKPOINT_DEADLINE_S).path)


def drain(actor: ActorId, credentials: Credentials, learner: LearnerAddress = None) -> None:
    """Ask one actor to finish the work that it has and leave."""
    found = find_learner(learner, credentials)
    with found.errors():
        found.stub.DrainActor(pb.DrainActorRequest(actor_id=actor), timeout=DEADLINE_S)
    say(f"draining {actor}")


def stop(credentials: Credentials, learner: LearnerAddress = None) -> None:
    """Write a checkpoint, tell the actors, end the learner; `covey learner --resume` goes on from there."""
    found = find_learner(learner, credentials)
    with found.errors():
        found.stub.Shutdown(pb.ShutdownRequest(), timeout=CHECKPOINT_DEADLINE_S)
    say(f"stopping {found.address}")


def _answer(
    question: Question,
    learner: str | None,
    run: Path | None,
    credentials: Credentials,
    as_json: bool,
    *,
    debug: bool = False,
) -> None:
    """Ask a run and print its answer, as JSON or as a table; `debug` adds what only developers need."""
    source = find_source(learner, run, credentials)
    with _understood(source):
        answer = source.ask(question)
        if as_json:
            say_json(answer, indent=2)
        else:
            tables.show(_table(question, answer, debug=debug))


@contextmanager
def _understood(source: Source) -> Iterator[None]:
    """A context in which an answer without what belongs in it becomes a sentence.

    Raises:
        StorageError: the answer is not one of this version of covey.
    """
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as exc:
        raise StorageError(
            f"{source}: gives an answer that this version of covey does not know ({type(exc).__name__}: {exc}); its "
            "files were edited, or it is of another version: look at it with that one"
        ) from exc


def _table(question: Question, answer: Answer, *, debug: bool) -> RenderableType:
    """The table for the answer to a question; `debug` adds a learner's threads to the status."""
    answer = tables.printable_answer(answer)
    match question:
        case "status":
            return tables.status_table(answer, threads=debug)
        case "members":
            return tables.members_table(answer["members"])
        case "lineage":
            return tables.lineage_table(answer["members"])
        case "actors":
            return tables.actors_table(answer["actors"])
