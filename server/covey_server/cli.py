"""The commands `covey train`, `covey learner` and `covey check-actor`.

Modules that import torch are imported inside the commands: every `covey` command imports this module when it starts.
"""

from __future__ import annotations

import json
import sys
from contextlib import redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from covey.cli.run_names import find_run
from covey.cli.terminal import print_result, say
from covey.run.files import read_json
from covey_server.compliance.command import check_actor

if TYPE_CHECKING:
    from covey.config import Config
    from covey.run.directory import RunDirectory

CONFIG = typer.Argument(metavar="CONFIG", help="YAML file that configures a new run.", show_default=False)
SET = typer.Option(
    "--set", metavar="SECTION.KEY=VALUE", help="Set a value of the configuration, such as training.seed=1; repeatable."
)
RESUME = typer.Option(
    "--resume",
    metavar="RUN",
    help="Go on with this run, in place of CONFIG: a directory, a name under ./runs, or its beginning.",
)
RUNS = typer.Option("--runs", metavar="DIR", help="Directory in which a new run gets its own.")
ASKS_FOR_MORE = ("training.max_steps", "training.target_score", "training.target_patience")
"""Keys whose change asks a complete run to go on."""

NAME = typer.Option("--name", help="Name of the run, the first part of its directory's: short for --set name=NAME.")
SEED = typer.Option("--seed", metavar="N", help="Seed of all random draws: short for --set training.seed=N.")
STEPS = typer.Option(
    "--steps", metavar="N", min=1, help="Env steps to train each member for: short for --set training.max_steps=N."
)
INIT_FROM = typer.Option(
    "--init-from",
    metavar="RUN[:MEMBER]",
    help="Begin with the weights of another run's best policy, or of its living member MEMBER: short for "
    "--set training.init_from=RUN:MEMBER.",
)
DETERMINISTIC = typer.Option(
    "--deterministic",
    help="Make the run repeatable bit for bit on this machine. Slower, as nothing runs at the same time.",
)


def register(app: typer.Typer) -> None:
    """Add the commands `train`, `learner` and `check-actor` to the `covey` command line."""
    app.command("train")(train)
    app.command("learner")(learner)
    app.command("check-actor")(check_actor)


def train(
    config: Annotated[Path | None, CONFIG] = None,
    name: Annotated[str | None, NAME] = None,
    seed: Annotated[int | None, SEED] = None,
    steps: Annotated[int | None, STEPS] = None,
    init_from: Annotated[str | None, INIT_FROM] = None,
    set_: Annotated[list[str] | None, SET] = None,
    resume: Annotated[str | None, RESUME] = None,
    runs: Annotated[Path, RUNS] = Path("runs"),
    deterministic: Annotated[bool, DETERMINISTIC] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as one line of JSON, and no progress.")
    ] = False,
    detach: Annotated[
        bool, typer.Option("--detach", help="Train in the background; the terminal may then be closed.")
    ] = False,
) -> None:
    """Train a population on this machine, until the run is complete.

    Ctrl-C stops the run with a checkpoint (exit code 130); --resume goes on with it.
    """
    overrides = [*(set_ or []), *_shorthands(name, seed, steps, init_from)]
    local = [*overrides, "environment.spaces_from=local"]
    settings, run = _prepare(config, local, resume, runs, deterministic, with_actors=True)
    if resume is not None and is_complete(run, settings):
        if as_json:
            print_result(json.dumps(read_json(run.result)))
        return
    if detach:
        from covey_server.detached import start_detached

        start_detached(run, [f"--set={text}" for text in overrides] if resume is not None else [])
        return
    from covey_server.processes.early_signals import ended_by_signals
    from covey_server.processes.local_actors import LocalActors
    from covey_server.processes.local_count import first_count

    # Importing torch takes seconds, in which the actors import what they need. It comes after all that can be refused
    # without it.
    with ended_by_signals() as before_end, LocalActors(settings, first_count(settings)) as actors:
        before_end.append(actors.terminate)
        from covey_server.train import run_training

        end = run_training(settings, run, actors, resume=resume is not None, quiet=as_json)
    if as_json:
        print_result(json.dumps(end.result))
    raise typer.Exit(end.exit_code)


def learner(
    config: Annotated[Path | None, CONFIG] = None,
    bind: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Address to listen on; with port 0 any free one.")
    ] = None,
    name: Annotated[str | None, NAME] = None,
    seed: Annotated[int | None, SEED] = None,
    steps: Annotated[int | None, STEPS] = None,
    init_from: Annotated[str | None, INIT_FROM] = None,
    set_: Annotated[list[str] | None, SET] = None,
    resume: Annotated[str | None, RESUME] = None,
    runs: Annotated[Path, RUNS] = Path("runs"),
    deterministic: Annotated[bool, DETERMINISTIC] = False,
    tls: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Serve TLS and ask for tokens: the directory that covey certs init has made."),
    ] = None,
    client_certificates: Annotated[
        bool,
        typer.Option("--client-certificates", help="Ask clients for certificates too, signed by the CA of --tls."),
    ] = False,
    insecure: Annotated[
        bool,
        typer.Option("--insecure", help="Let anybody on the network in, without TLS or tokens."),
    ] = False,
) -> None:
    """Train a population with actors on other machines (covey actor), until the run is complete or stopped.

    Ctrl-C and SIGTERM stop the run with a checkpoint (exit codes 130, 143); --resume goes on with it.
    """
    from covey.errors import ConfigError

    overrides = [
        *(set_ or []),
        *_shorthands(name, seed, steps, init_from),
        *([f"learner.bind={bind!r}"] if bind else []),
    ]
    if tls is not None:
        overrides += _secured(tls.resolve(), client_certificates)
    elif client_certificates:
        raise ConfigError("--client-certificates: given without --tls, expected both; add --tls DIR")
    settings, run = _prepare(config, overrides, resume, runs, deterministic)
    if resume is not None and is_complete(run, settings):
        print_result(json.dumps(read_json(run.result)))
        return
    from covey_server.processes.early_signals import ended_by_signals

    with ended_by_signals():
        from covey_server.train import run_learner

        end = run_learner(settings, run, resume=resume is not None, insecure=insecure)
    print_result(json.dumps(end.result))
    raise typer.Exit(end.exit_code)


def _shorthands(name: str | None, seed: int | None, steps: int | None, init_from: str | None) -> list[str]:
    """Configuration overrides for the options that are short for one."""
    if init_from is not None:
        from covey.run.init_from import parse_source

        path, who = parse_source(init_from)
        init_from = f"{find_run(str(path)).resolve()}:{who}"
    given = {
        "name": name,
        "training.seed": seed,
        "training.max_steps": steps,
        "training.init_from": init_from,
    }
    return [f"{key}={json.dumps(value)}" for key, value in given.items() if value is not None]


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


def _refuse_tls(settings: Config) -> None:
    """Refuse a configuration with TLS for a learner whose actors are started with it.

    Raises:
        ConfigError: the configuration sets `learner.tls`.
    """
    from covey.errors import ConfigError

    if settings.learner.tls is not None:
        raise ConfigError(
            "learner.tls is set, expected none for covey train, whose own actors reach it over loopback; to serve "
            "other machines run covey learner and covey actor"
        )


def _import_environment(settings: Config) -> None:
    """Import the environment, as its learner and local actors will, for the error that it may be.

    Raises:
        EnvironmentLoadError: it does not import.
    """
    from covey.envs.loading import load_environment, present_name

    with redirect_stdout(sys.stderr):  # where it prints; the run's result goes to stdout
        load_environment(present_name(settings.environment.name), {})


def _prepare(
    config: Path | None,
    overrides: list[str],
    resume: str | None,
    runs: Path,
    deterministic: bool,
    with_actors: bool = False,
) -> tuple[Config, RunDirectory]:
    """Load the configuration, and create the directory of a new run or open that of the resumed one.

    Args:
        config: File that configures a new run; None if `resume` names one.
        overrides: Values to set in the configuration, "section.key=value".
        resume: The run to go on with; None for a new one.
        runs: Directory in which a new run gets its own.
        deterministic: Whether the run is to be repeatable bit for bit.
        with_actors: Whether actors are started with the learner: what they cannot use is refused here already.
    """
    from covey.config import load_config
    from covey.errors import ConfigError

    if deterministic:
        overrides = [*overrides, "training.deterministic=true"]
    if resume is not None:
        if config is not None:
            raise ConfigError(
                f"--resume {resume}: the run has its own configuration, expected no CONFIG; leave out {config}"
            )
        from covey.config.resuming import resumed_config
        from covey.run.directory import RunDirectory
        from covey.run.frozen_opponents import keep_opponents, with_absolute_opponents
        from covey.run.own_environment import recall_environment

        run = RunDirectory.open(find_run(resume))
        settings = resumed_config(run.config, overrides)
        if with_actors:
            _refuse_tls(settings)
        recall_environment(run, settings)
        settings = with_absolute_opponents(settings)
        keep_opponents(run, settings)  # others may be named as the run is resumed
        return settings, run
    if config is None:
        raise ConfigError("CONFIG is missing, expected a YAML file such as examples/speaker_listener.yaml")
    settings = load_config(config, overrides)
    if with_actors:
        _refuse_tls(settings)
    # After what is wrong in the file itself was told: these import numpy and gymnasium, which takes as long.
    from covey.run.frozen_opponents import with_absolute_opponents
    from covey.run.init_from import with_absolute_source
    from covey.run.new_run import new_run
    from covey.run.own_environment import remember_environment, with_entry_point

    settings = with_absolute_opponents(with_absolute_source(with_entry_point(settings, config.parent, Path.cwd())))
    if with_actors:
        if find_spec("torch") is None:  # else its environment might be missed first, on a machine that is an actor's
            raise ModuleNotFoundError("No module named 'torch'", name="torch")
        _import_environment(settings)
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
