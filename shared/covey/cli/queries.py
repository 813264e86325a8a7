"""Commands that ask a run about its progress, and commands that steer a running learner."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import RenderableType

from covey.cli import tables
from covey.cli.access import with_credentials
from covey.cli.answers import understood
from covey.cli.run_names import RunName, RunNames
from covey.cli.terminal import say, say_json
from covey.errors import ConfigError
from covey.wire.credentials import Credentials

if TYPE_CHECKING:
    from covey.cli.sources import Answer, Question, RunningLearner, Source

LearnerAddress = Annotated[
    str | None,
    typer.Option("--learner", metavar="HOST:PORT", help="Ask the learner that listens there, instead of naming a RUN."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, with keys that stay the same between versions.")]
Debug = Annotated[
    bool, typer.Option("--debug", help="Also show queues and the learner's threads, and the traceback of an error.")
]
Interval = Annotated[float, typer.Option("--interval", min=0.1, max=60, help="Seconds between updates of the picture.")]
ActorId = Annotated[str, typer.Argument(metavar="ACTOR", help="Name of an actor, as covey actors lists it.")]


def register(app: typer.Typer) -> None:
    """Add the commands that ask about a run, or steer it, to the command line."""
    for question in (status, members, lineage, actors, watch):
        app.command()(with_credentials(question))
    for steering in (pause, resume, checkpoint, drain, stop):
        app.command()(with_credentials(steering))


def status(
    credentials: Credentials,
    run: RunName = None,
    learner: LearnerAddress = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Show how far along a run is, how fast it trains, and where time is spent."""
    _answer("status", learner, run, credentials, as_json, debug=debug)


def members(
    credentials: Credentials, run: RunName = None, learner: LearnerAddress = None, as_json: Json = False
) -> None:
    """Show the members that live now: fitness, hyperparameters, env steps, updates."""
    _answer("members", learner, run, credentials, as_json)


def lineage(
    credentials: Credentials,
    runs: RunNames = None,
    learner: LearnerAddress = None,
    worth: Annotated[
        bool,
        typer.Option(
            "--worth",
            help="Show what each kind of mutation gained: fitness of children, less that of their unchanged parents in "
            "the same evaluation. Several runs and sweeps may be named; they are taken together.",
        ),
    ] = False,
    tree: Annotated[
        bool, typer.Option("--tree", help="Show children below their parents, the best one's line marked.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show every member that ever lived: its parent, its fitness, and what was changed in it."""
    named = runs or []
    if tree and (worth or as_json):
        raise ConfigError("--tree was given with --worth or --json, expected it alone; leave one out")
    if worth:
        from covey.cli.worth import say_worth

        say_worth(named, learner, credentials, as_json=as_json)
        return
    if len(named) > 1:
        raise ConfigError(
            f"covey lineage {' '.join(named)}: {len(named)} runs, expected one; only --worth takes several together"
        )
    if not tree:
        _answer("lineage", learner, named[0] if named else None, credentials, as_json)
        return
    from covey.cli.lineage_tree import lineage_tree

    source = _source(learner, named[0] if named else None, credentials)
    with understood(source):
        members = tables.printable_answer(source.ask("lineage")["members"])
        for line in lineage_tree(members, source.ask("status")["best_member"]):
            tables.show(line)


def actors(
    credentials: Credentials, run: RunName = None, learner: LearnerAddress = None, as_json: Json = False
) -> None:
    """Show the actors, processes that step environments: how fast each is, and for how long it has been silent."""
    _answer("actors", learner, run, credentials, as_json)


def watch(
    credentials: Credentials,
    run: RunName = None,
    learner: LearnerAddress = None,
    interval: Interval = 1.0,
    as_json: Json = False,
) -> None:
    """Show a run live until it ends: progress, curves, members, actors, events; keys pause it or write a checkpoint.

    In a pipe its status is printed again and again; with --json one JSON object a line.
    """
    source = _source(learner, run, credentials)
    answers = source.watch(interval)
    if as_json:
        for answer in answers:
            say_json(answer)
        return
    console = tables.plain_console()
    with understood(source):
        from covey.cli.sources import RunningLearner
        from covey.cli.watching import watch as watch_live

        if console.is_terminal and isinstance(source, RunningLearner):
            watch_live(source, interval, console)
            return
        for answer in answers:  # a pipe, a file, or a run that has ended
            tables.show(_table("status", answer, debug=False))


def pause(credentials: Credentials, run: RunName = None, learner: LearnerAddress = None) -> None:
    """Pause training, updates and env steps, until covey resume."""
    found = _learner(learner, run, credentials)
    found.pause()
    say(f"paused {found.address}")


def resume(credentials: Credentials, run: RunName = None, learner: LearnerAddress = None) -> None:
    """Go on with training after covey pause. A run that has ended goes on by --resume of the command that began it."""
    found = _learner(learner, run, credentials)
    found.resume()
    say(f"resumed {found.address}")


def checkpoint(credentials: Credentials, run: RunName = None, learner: LearnerAddress = None) -> None:
    """Write a checkpoint now, and print its directory on the learner's machine."""
    say(_learner(learner, run, credentials).checkpoint())


def drain(actor: ActorId, credentials: Credentials, run: RunName = None, learner: LearnerAddress = None) -> None:
    """Tell an actor to deliver what it has collected and end. Others take over its work."""
    found = _learner(learner, run, credentials)
    found.drain(actor)
    say(f"draining {actor}")


def stop(credentials: Credentials, run: RunName = None, learner: LearnerAddress = None) -> None:
    """Stop a run: write a checkpoint, end its actors and its learner. --resume of the command that began it goes on."""
    found = _learner(learner, run, credentials)
    found.stop()
    say(f"stopping {found.address}")


def _learner(learner: str | None, run: str | None, credentials: Credentials) -> "RunningLearner":
    """The running learner that is meant. gRPC is imported only here, as no other command should wait for that."""
    from covey.cli.sources import find_learner

    return find_learner(learner, run, credentials)


def _source(learner: str | None, run: str | None, credentials: Credentials) -> "Source":
    """What answers questions about the run that is meant: its running learner, or its files."""
    from covey.cli.sources import find_source

    return find_source(learner, run, credentials)


def _answer(
    question: "Question",
    learner: str | None,
    run: str | None,
    credentials: Credentials,
    as_json: bool,
    *,
    debug: bool = False,
) -> None:
    """Ask a run and print its answer, as JSON or as a table; `debug` adds what only developers need."""
    source = _source(learner, run, credentials)
    with understood(source):
        answer = source.ask(question)
        if as_json:
            say_json(answer, indent=2)
        else:
            tables.show(_table(question, answer, debug=debug))


def _table(question: "Question", answer: "Answer", *, debug: bool) -> RenderableType:
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
