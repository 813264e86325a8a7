"""`covey actor` attaches this machine to a learner."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from covey.cli.access import CA, Certificate, Key, TokenFile
from covey_actor.workers import actor_arguments, limit_threads, run_workers


class Ops(StrEnum):
    """The library by which an actor computes its policies' actions."""

    numpy = "numpy"
    torch = "torch"


def register(app: typer.Typer) -> None:
    """Add `covey actor` to the command line."""
    app.command("actor")(actor)


def actor(
    learner: Annotated[str, typer.Option(metavar="HOST:PORT", help="Address of the learner.")],
    workers: Annotated[int, typer.Option(min=1, max=1024, help="Number of actor processes to run here.")] = 1,
    name: Annotated[
        str | None,
        typer.Option(
            metavar="ID",
            help="Name of this actor in covey actors; host and process id if left out. Workers add their number.",
        ),
    ] = None,
    env: Annotated[
        str | None,
        typer.Option(
            metavar="MODULE:FUNCTION",
            help="Run exactly this environment, whichever the learner names; also ./FILE.py:FUNCTION.",
        ),
    ] = None,
    allow_env: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN",
            help="Also run environments of this name if the learner names one, besides those of pettingzoo, mpe2 and "
            "covey.envs.mpe: MODULE:FUNCTION, or MODULE for all in it; * stands for anything. Repeatable.",
        ),
    ] = None,
    ops: Annotated[
        Ops,
        typer.Option(
            help="torch: also compute networks that are a torch.nn.Module of one's own, those of --allow-module; this "
            "loads torch. numpy computes all others.",
        ),
    ] = Ops.numpy,
    allow_module: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN",
            help="With --ops torch: call this function if the learner's networks name it: MODULE:FUNCTION, or MODULE "
            "for all in it; * stands for anything. Repeatable.",
        ),
    ] = None,
    env_path: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR",
            exists=True,
            file_okay=False,
            help="Directory in which environments and modules are searched, besides installed packages; repeatable.",
        ),
    ] = None,
    max_reconnect_s: Annotated[
        float | None,
        typer.Option(
            metavar="S",
            min=0,
            help="Seconds without an answer of the learner after which to give up; never if left out.",
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print only what goes wrong.")] = False,
    ca: CA = None,
    cert: Certificate = None,
    key: Key = None,
    token_file: TokenFile = None,
) -> None:
    """Step environments on this machine for a learner, until its run is complete.

    The learner may be started later, or again: the actor waits for it.
    """
    from covey.wire.channel import connect
    from covey.wire.credentials import Credentials

    # A wrong address, file or token is reported here, before any process starts. Environment variables are inherited.
    connect(learner, Credentials.load(ca, cert, key, token_file)).close()
    names = [None] * workers if name is None else [name if workers == 1 else f"{name}-{i}" for i in range(workers)]
    commands = [
        actor_arguments(
            learner,
            name=n,
            env=env,
            allow_env=allow_env or (),
            ops=ops.value,
            allow_module=allow_module or (),
            env_path=env_path or (),
            max_reconnect_s=max_reconnect_s,
            quiet=quiet,
            files={"--ca": ca, "--cert": cert, "--key": key, "--token-file": token_file},
        )
        for n in names
    ]
    if workers == 1:
        # The actor replaces this process: it keeps the process id, but not this command's imports.
        limit_threads()
        os.execv(sys.executable, commands[0])
    raise typer.Exit(run_workers(commands))
