"""The commands `covey train` and `covey learner`.

Modules that import torch are imported inside the commands: every `covey` command imports this module when it starts.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from covey.cli.terminal import print_result

if TYPE_CHECKING:
    from covey.config import Config
    from covey.run.directory import RunDirectory

CONFIG = typer.Argument(help="YAML file that configures the run.", show_default=False)
SET = typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Override a value of the configuration; repeatable.")
RESUME = typer.Option("--resume", metavar="RUN", help="Continue the run of this directory; leave out CONFIG.")
RUNS = typer.Option("--runs", help="Folder in which the directories of new runs are created.")
DETERMINISTIC = typer.Option(
    "--deterministic", help="Repeat bit for bit on this machine: one actor, one order at a time; slower."
)


def register(app: typer.Typer) -> None:
    """Add the commands `train` and `learner` to the `covey` command line."""
    app.command("train")(train)
    app.command("learner")(learner)


def train(
    config: Annotated[Path | None, CONFIG] = None,
    set_: Annotated[list[str] | None, SET] = None,
    resume: Annotated[Path | None, RESUME] = None,
    runs: Annotated[Path, RUNS] = Path("runs"),
    deterministic: Annotated[bool, DETERMINISTIC] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one line of JSON, no progress.")] = False,
) -> None:
    """Train a population on this machine: starts a learner and its actors."""
    from covey_server.train import run_training

    settings, run = _prepare(config, [*(set_ or []), "environment.spaces_from=local"], resume, runs, deterministic)
    result = run_training(settings, run, resume=resume is not None, quiet=as_json)
    print_result(json.dumps(result))


def learner(
    config: Annotated[Path | None, CONFIG] = None,
    bind: Annotated[str | None, typer.Option(help="HOST:PORT to listen on; port 0: any free port.")] = None,
    set_: Annotated[list[str] | None, SET] = None,
    resume: Annotated[Path | None, RESUME] = None,
    runs: Annotated[Path, RUNS] = Path("runs"),
    deterministic: Annotated[bool, DETERMINISTIC] = False,
    tls: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder with the certificate and tokens that `covey certs init` made."),
    ] = None,
    client_certificates: Annotated[
        bool,
        typer.Option("--client-certificates", help="With --tls: require client certificates signed by the CA in DIR."),
    ] = False,
    insecure: Annotated[
        bool,
        typer.Option("--insecure", help="Allow other machines without TLS or tokens: anybody on the network."),
    ] = False,
) -> None:
    """Run a learner that actors connect to over the network; exits with code 0 when the run is complete."""
    from covey.errors import ConfigError
    from covey_server.train import run_learner

    overrides = [*(set_ or []), *([f"learner.bind={bind!r}"] if bind else [])]
    if tls is not None:
        overrides += _secured(tls.resolve(), client_certificates)
    elif client_certificates:
        raise ConfigError("--client-certificates: given without --tls, expected both; add --tls DIR")
    settings, run = _prepare(config, overrides, resume, runs, deterministic)
    print_result(json.dumps(run_learner(settings, run, resume=resume is not None, insecure=insecure)))


def _secured(directory: Path, client_certificates: bool) -> list[str]:
    """Configuration overrides that name the certificate, key and tokens which `covey certs init` wrote into a folder.

    Paths are absolute, because the run may be resumed from another working directory.
    """
    tls = {"certificate": str(directory / "server.crt"), "key": str(directory / "server.key")}
    if client_certificates:
        tls["client_ca"] = str(directory / "ca.crt")
    tokens = directory / "tokens"
    given = [f"learner.tokens={json.dumps(str(tokens))}"] if tokens.exists() else []
    return [f"learner.tls={json.dumps(tls)}", *given]


def _prepare(
    config: Path | None, overrides: list[str], resume: Path | None, runs: Path, deterministic: bool
) -> tuple[Config, RunDirectory]:
    """Load the configuration, and create the directory of a new run or open that of the resumed one."""
    from covey.config import load_config
    from covey.errors import ConfigError
    from covey.run.directory import RunDirectory
    from covey.run.own_environment import recall_environment, remember_environment, with_entry_point
    from covey_server.app import new_run

    if deterministic:
        overrides = [*overrides, "training.deterministic=true"]
    if resume is not None:
        if config is not None:
            raise ConfigError(
                f"--resume {resume}: the run has its own configuration, expected no CONFIG; leave out {config}"
            )
        run = RunDirectory.open(resume)
        stored = load_config(run.config, overrides, stored=True)
        recall_environment(run, stored)
        return with_entry_point(stored, Path.cwd()), run
    if config is None:
        raise ConfigError("CONFIG: missing, expected a YAML file such as examples/speaker_listener.yaml")
    settings = with_entry_point(load_config(config, overrides), config.parent, Path.cwd())
    run = new_run(settings, runs)
    remember_environment(run, settings)
    return settings, run
