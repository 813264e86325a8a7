"""The root of the command line `covey`: it collects all commands and turns errors into sentences and exit codes.

Learner and actor register theirs through the entry-point group `covey.commands`: each is a function `register(app)`.
"""

import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import entry_points, version
from typing import TYPE_CHECKING

from covey.cli.old_pydantic import asks_for_pydantic
from covey.cli.terminal import discard_output, printable, protect_standard_streams, say
from covey.errors import ConfigError, CoveyError

if TYPE_CHECKING:
    import typer

SIDE_COMMANDS = {"learner": ("train", "learner", "check-actor"), "actor": ("actor",)}
"""Commands of learner and actor by entry point, to explain what is missing where a side cannot be imported."""

LEARNER_MODULES = ("torch", "tensorboard", "grpc_health", "grpc_reflection", "cryptography")
"""Modules that the learner extra brings, and the base install does without."""

INTERRUPTED = 130

WITH_DEBUG = ("status",)
"""Commands that do more with `--debug` than print the traceback of an error."""


def main() -> None:
    """Run the command line and exit with its code (docs/troubleshooting.md has an entry for each)."""
    protect_standard_streams()
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command; returns its exit code. An error becomes a sentence on stderr; `--debug` adds its traceback."""
    debug = "--debug" in arguments
    command = next((a for a in arguments if not a.startswith("-")), "")
    if command not in WITH_DEBUG:
        arguments = [a for a in arguments if a != "--debug"]
    try:
        code = build_app()(list(arguments) or ["--help"], "covey", standalone_mode=False)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        discard_output()  # the reader of our output has closed it (`covey lineage | head`)
        return 1
    except Exception as exc:
        if debug:
            sys.stderr.write(printable(traceback.format_exc(), keep="\n"))
        sentence, code = describe(exc)
        say(f"covey: error: {' '.join(sentence.split())}", error=True)
        return code
    return code if isinstance(code, int) else 0


def describe(exc: Exception) -> tuple[str, int]:
    """Return the sentence to print and the exit code for an error."""
    from typer import TyperException

    if isinstance(exc, CoveyError):
        return str(exc), exc.exit_code
    if isinstance(exc, TyperException):
        return exc.format_message(), exc.exit_code
    if asked := asks_for_pydantic(exc):
        return asked, ConfigError.exit_code
    if isinstance(exc, ModuleNotFoundError) and (exc.name or "").split(".")[0] in LEARNER_MODULES:
        return f"module {exc.name} is not installed, this command needs the learner extra: {INSTALL_LEARNER}", 2
    return f"unexpected {type(exc).__name__}: {exc}; run with --debug for the traceback", 1


INSTALL_LEARNER = "pip install 'covey-marl[learner]'"


def build_app() -> "typer.Typer":
    """Build the command line with all commands. Typer and the sides are imported only here, as they take time."""
    import typer

    from covey.cli import certs, check_env, evaluate, export, plot, queries, render, runs, schema, sweep, table

    app = typer.Typer(
        add_completion=True,
        pretty_exceptions_enable=False,
        help="Train populations of multi-agent policies by evolution: actors step environments, a learner trains.",
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    def show_version(value: bool) -> None:
        if value:
            say(f"covey {version('covey-marl')}")
            raise typer.Exit

    @app.callback()
    def root(
        version_: bool = typer.Option(
            False, "--version", callback=show_version, is_eager=True, help="Print the version and exit."
        ),
        debug: bool = typer.Option(False, "--debug", help="If the command fails, print the traceback as well."),
    ) -> None:
        pass

    for entry in sorted(entry_points(group="covey.commands"), key=lambda e: e.name, reverse=True):
        try:
            register = entry.load()
        except ImportError as exc:
            _stand_in(app, entry.name, exc)
        else:
            register(app)
    queries.register(app)
    evaluate.register(app)
    check_env.register(app)
    schema.register(app)
    render.register(app)
    export.register(app)
    runs.register(app)
    sweep.register(app)
    table.register(app)
    plot.register(app)
    certs.register(app)
    return app


def _stand_in(app: "typer.Typer", side: str, reason: ImportError) -> None:
    """Add commands that say what to install, for the learner or the actor if it cannot be imported."""
    remedy = f"needs the learner extra: {INSTALL_LEARNER}" if side == "learner" else "cannot start; install covey anew"

    def add(name: str) -> None:
        def absent() -> None:
            raise ConfigError(f"covey {name} {remedy} ({reason})") from reason

        anything = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
        app.command(name, help=f"(not available: {reason})", context_settings=anything)(absent)

    for name in SIDE_COMMANDS.get(side, (side,)):
        add(name)
