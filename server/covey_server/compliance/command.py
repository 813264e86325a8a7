"""`covey check-actor` tries an actor of whatever language against the rules of the wire."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated

import typer

from covey.cli.terminal import say, say_json

ENVIRONMENT = "mpe2.simple_speaker_listener_v4"
"""The environment that an actor is asked for, unless another one is named."""

LEAVE_S = 5.0
"""Seconds that an actor which was started here has to end after SIGTERM."""


def check_actor(
    command: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[-- COMMAND ...]",
            help="Starts the actor; {address} in it stands for where to attach. Without it, start one yourself.",
            show_default=False,
        ),
    ] = None,
    env: Annotated[
        str, typer.Option(metavar="MODULE:FUNCTION", help="The environment that the actor is asked for.")
    ] = ENVIRONMENT,
    config: Annotated[
        list[str] | None, typer.Option("--config", metavar="KEY=VALUE", help="An argument of it (YAML); repeatable.")
    ] = None,
    frame_stack: Annotated[
        int, typer.Option(metavar="N", min=1, max=16, help="How many observations policies read together.")
    ] = 1,
    state: Annotated[bool, typer.Option("--state", help="Ask for the environment's state() in rows.")] = False,
    bind: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Where to listen, without TLS; port 0: any free port.")
    ] = ("127.0.0.1:0"),
    wait_s: Annotated[
        float, typer.Option("--wait", metavar="S", min=1, help="Seconds that the actor has for each answer.")
    ] = 60.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False,
) -> None:
    """Try an actor, of covey or one written in another language, against the rules of the wire.

    Plays the learner, and prints for each rule of proto/README.md whether the actor holds it, breaks it (with what was
    expected and what came), or did not get to it. Ends with exit code 0 if it holds all.
    """
    from covey.cli.check_env import arguments_of
    from covey.v1.environment_pb2 import EnvironmentSpec
    from covey.wire.channel import parse_address
    from covey_server.compliance.line import LearnerSide
    from covey_server.compliance.rules import RULES, Verdicts
    from covey_server.compliance.session import EVAL_SLOTS, TRAIN_SLOTS, try_actor

    parse_address(bind)
    spec = EnvironmentSpec(
        entry_point=env,
        config_json=json.dumps(arguments_of(config or [])),
        train_slots=TRAIN_SLOTS,
        eval_slots=EVAL_SLOTS,
        frame_stack=frame_stack if frame_stack > 1 else None,
        state=state,
    )
    # How an actor ends that somebody else has started cannot be seen; without stacks there are no context rows.
    untried = {"exit": not command, "context": frame_stack == 1}
    verdicts = Verdicts(tuple(name for name in RULES if not untried.get(name)))
    side = LearnerSide(spec, bind)
    try:
        say(f"check-actor: attach one actor to {side.address}", error=True)
        with _started([part.replace("{address}", side.address) for part in command or ()]) as process:
            try_actor(side, verdicts, wait_s, process)
    finally:
        side.stop()
    counts = {verdict: verdicts.count(verdict) for verdict in ("holds", "broken", "not reached")}
    if as_json:
        say_json({"rules": verdicts.as_json(), **{k.replace(" ", "_"): n for k, n in counts.items()}})
    else:
        for line in verdicts.lines():
            say(line)
        say(", ".join(f"{n} {verdict}" for verdict, n in counts.items()))
    raise typer.Exit(0 if verdicts.all_hold else 1)


@contextmanager
def _started(command: Sequence[str]) -> Iterator[subprocess.Popen[bytes] | None]:
    """The actor's process, which is gone when the block is left; None without a command. It prints to stderr."""
    if not command:
        yield None
        return
    from covey.errors import ConfigError

    try:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sys.stderr.fileno())
    except OSError as exc:
        raise ConfigError(
            f"command {command[0]!r} cannot be started ({exc.strerror}); name a program after --"
        ) from exc
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(LEAVE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
