"""The commands `covey train`, `covey learner` and `covey check-actor`.

Modules that import torch are imported inside the commands: every `covey` command imports this module when it starts.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from covey.cli.terminal import print_result, say
from covey.run.files import read_json
from covey_server.compliance.command import check_actor

if TYPE_CHECKING:
    from covey.config import Config
    from covey.run.directory import RunDirectory

CONFIG = typer.Argument(help="YAML file that configures the run.", show_default=False)
SET = typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Override a value of the configuration; repeatable.")
RESUME = typer.Option("--resume", metavar="RUN", help="Continue the run of this directory; leave out CONFIG.")
RUNS = typer.Option("--runs", help="Folder in which the directories of new runs are created.")
ASKS_FOR_MORE = ("training.max_steps", "training.target_score", "training.target_patience")
"""Keys whose change asks a complete run to go on."""

DETERMINISTIC = typer.Option(
    "--deterministic", help="Repeat bit for bit on this machine: one actor, one order at a time; slower."
)


def register(app: typer.Typer) -> None:
    """Add the commands `train`, `learner` and `check-actor` to the `covey` command line."""
    app.command("train")(train)
    app.command("learner")(learner)
    app.command("check-actor")(check_actor)


def train(
    config: Annotated[Path | None, CONFIG] = None,
    set_: Annotated[list[str] | None, SET] = None,
    resume: Annotated[Path | None, RESUME] = None,
    runs: Annotated[Path, RUNS] = Path("runs"),
    deterministic: Annotated[bool, DETERMINISTIC] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one line of JSON, no progress.")] = False,
    detach: Annotated[
        bool, typer.Option("--detach", help="Train in the background, so that the terminal may be closed.")
    ] = False,
) -> None:
    """Train a population on this machine: starts a learner and its actors.

    Exits with code 0 when the run is complete, and with 128 plus the signal's number when a signal stopped it.
    """
    settings, run = _prepare(config, [*(set_ or []), "environment.spaces_from=local"], resume, runs, deterministic)
    if resume is not None and is_complete(run, settings):
        print_result(json.dumps(read_json(run.result)))
        return
    if detach:
        from covey_server.detached import start_detached

        start_detached(run, [f"--set={text}" for text in set_ or []] if resume is not None else [])
        return
    # After all that can be refused without torch, which takes seconds to import.
    from covey_server.train import run_training

    end = run_training(settings, run, resume=resume is not None, quiet=as_json)
    print_result(json.dumps(end.result))
    raise typer.Exit(end.exit_code)


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
    """Run a learner that actors connect to over the network.

    Exits with code 0 when the run is complete or was stopped by `covey stop`, and with 128 plus the signal's number
    when a signal stopped it.
    """
    from covey.errors import ConfigError

    overrides = [*(set_ or []), *([f"learner.bind={bind!r}"] if bind else [])]
    if tls is not None:
        overrides += _secured(tls.resolve(), client_certificates)
    elif client_certificates:
        raise ConfigError("--client-certificates: given without --tls, expected both; add --tls DIR")
    settings, run = _prepare(config, overrides, resume, runs, deterministic)
    if resume is not None and is_complete(run, settings):
        print_result(json.dumps(read_json(run.result)))
        return
    from covey_server.train import run_learner

    end = run_learner(settings, run, resume=resume is not None, insecure=insecure)
    print_result(json.dumps(end.result))
    raise typer.Exit(end.exit_code)


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
    from covey.config.resuming import resumed_config
    from covey.errors import ConfigError
    from covey.run.directory import RunDirectory
    from covey.run.new_run import new_run
    from covey.run.own_environment import recall_environment, remember_environment, with_entry_point

    if deterministic:
        overrides = [*overrides, "training.deterministic=true"]
    if resume is not None:
        if config is not None:
            raise ConfigError(
                f"--resume {resume}: the run has its own configuration, expected no CONFIG; leave out {config}"
            )
        run = RunDirectory.open(resume)
        settings = resumed_config(run.config, overrides)
        recall_environment(run, settings)
        return settings, run
    if config is None:
        raise ConfigError("CONFIG: missing, expected a YAML file such as examples/speaker_listener.yaml")
    settings = with_entry_point(load_config(config, overrides), config.parent, Path.cwd())
    run = new_run(settings, runs)
    remember_environment(run, settings)
    return settings, run


def is_complete(run: RunDirectory, settings: Config) -> bool:
    """Whether a run is complete and these settings ask for no more of it; a sentence on stderr says so then."""
    from covey.config import load_config
    from covey.config.resuming import changes
    from covey.errors import StorageError

    asked = changes(load_config(run.config, stored=True), settings)  # refuses what may not change
    try:
        result = read_json(run.result)
        if result["state"] != "complete" or any(change.key in ASKS_FOR_MORE for change in asked):
            return False
        steps = int(result["env_steps"])
    except (StorageError, TypeError, KeyError, ValueError):
        return False  # it has not ended, or nobody can tell
    say(
        f"covey: run {run.path}: is complete after {steps:,} env steps; to train on, "
        f"--set training.max_steps={2 * settings.training.max_steps}, for example",
        error=True,
    )
    return True
