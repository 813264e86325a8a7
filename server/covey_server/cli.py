"""`covey train` and `covey learner`. Heavy imports wait until a command runs: `covey status` starts here too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from covey.cli.terminal import print_result

if TYPE_CHECKING:
    from covey.config import Config
    from covey.run.directory import RunDirectory

CONFIG = typer.Argument(help="YAML file of the run.", show_default=False)
SET = typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Override a value; repeatable.")
RESUME = typer.Option("--resume", metavar="RUN", help="Go on with a run directory; CONFIG is not needed.")
RUNS = typer.Option("--runs", help="Where new run directories are made.")
DETERMINISTIC = typer.Option("--deterministic", help="Bit-identical runs on this machine: one actor, one order.")


def register(app: typer.Typer) -> None:
    """Add the learner's commands."""
    app.command("train")(train)
    app.command("learner")(learner)


def train(
    config: Annotated[Path | None, CONFIG] = None,
    set_: Annotated[list[str] | None, SET] = None,
    resume: Annotated[Path | None, RESUME] = None,
    runs: Annotated[Path, RUNS] = Path("runs"),
    deterministic: Annotated[bool, DETERMINISTIC] = False,
    as_json: Annotated[bool, typer.Option("--json", help="No progress; one line of JSON at the end.")] = False,
) -> None:
    """Train a population with local actors: learner and actors in one command."""
    from covey_server.train import run_training

    settings, run = _prepare(config, [*(set_ or []), "environment.spaces_from=local"], resume, runs, deterministic)
    result = run_training(settings, run, resume=resume is not None, quiet=as_json)
    print_result(json.dumps(result))


def learner(
    config: Annotated[Path | None, CONFIG] = None,
    bind: Annotated[str | None, typer.Option(help="HOST:PORT to listen on; port 0 takes any free one.")] = None,
    set_: Annotated[list[str] | None, SET] = None,
    resume: Annotated[Path | None, RESUME] = None,
    runs: Annotated[Path, RUNS] = Path("runs"),
    deterministic: Annotated[bool, DETERMINISTIC] = False,
    tls: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Use the server certificate and the tokens that `covey certs init` made."),
    ] = None,
    client_certificates: Annotated[
        bool, typer.Option("--client-certificates", help="With --tls: clients must show a certificate of its CA.")
    ] = False,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Let other machines in without TLS or tokens: anybody on the network.")
    ] = False,
) -> None:
    """Serve a run to actors; ends with code 0 when the run is complete."""
    from covey.errors import ConfigError
    from covey_server.train import run_learner

    overrides = [*(set_ or []), *([f"learner.bind={bind!r}"] if bind else [])]
    if tls is not None:
        overrides += _secured(tls.resolve(), client_certificates)
    elif client_certificates:
        raise ConfigError("--client-certificates: needs TLS, expected --tls DIR with it")
    settings, run = _prepare(config, overrides, resume, runs, deterministic)
    print_result(json.dumps(run_learner(settings, run, resume=resume is not None, insecure=insecure)))


def _secured(directory: Path, client_certificates: bool) -> list[str]:
    """What `covey certs init` made there, as overrides; absolute, for the run is resumed from anywhere."""
    tls = {"certificate": str(directory / "server.crt"), "key": str(directory / "server.key")}
    if client_certificates:
        tls["client_ca"] = str(directory / "ca.crt")
    tokens = directory / "tokens"
    given = [f"learner.tokens={json.dumps(str(tokens))}"] if tokens.exists() else []
    return [f"learner.tls={json.dumps(tls)}", *given]


def _prepare(
    config: Path | None, overrides: list[str], resume: Path | None, runs: Path, deterministic: bool
) -> tuple[Config, RunDirectory]:
    """The configuration, and the directory: a new one, or the one to go on with."""
    from covey.config import load_config
    from covey.errors import ConfigError
    from covey.run.directory import RunDirectory
    from covey_server.app import new_run

    if deterministic:
        overrides = [*overrides, "training.deterministic=true"]
    if resume is not None:
        if config is not None:
            raise ConfigError(f"--resume {resume}: the run has its own configuration; leave {config} away")
        run = RunDirectory.open(resume)
        return load_config(run.config, overrides), run
    if config is None:
        raise ConfigError("CONFIG: missing, expected a YAML file such as examples/speaker_listener.yaml")
    settings = load_config(config, overrides)
    return settings, new_run(settings, runs)
