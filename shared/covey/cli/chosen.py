"""The options `--member` and `--generation`, which say whose policies `covey evaluate`, `render` and `export` take."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import typer

from covey.cli.run_names import find_run
from covey.errors import ConfigError

if TYPE_CHECKING:
    from covey.run.trained import TrainedMember

BEST = "best"

MEMBER = typer.Option(
    "--member",
    metavar="ID",
    help="Id of a living member, or 'best': the best policy so far, which is taken if left out.",
)

GENERATION = typer.Option(
    "--generation", metavar="N", min=0, help="The fittest member of generation N, as it was at that generation's end."
)


def read_chosen(name: str | None, member: str | None, generation: int | None) -> TrainedMember:
    """Read the policies that a command's options name.

    Args:
        name: RUN on the command line; None if it was not given.
        member: Value of `--member`; None if it was not given.
        generation: Value of `--generation`; None if it was not given.

    Raises:
        StorageError: no such run, or what it holds cannot be read.
        ConfigError: both options were given, or the run does not have what they name.
    """
    from covey.run.directory import RunDirectory
    from covey.run.trained import TrainedMember

    run = RunDirectory.open(find_run(name))
    if member is not None and generation is not None:
        raise ConfigError(
            f"--member {member} was given with --generation {generation}, expected one of them, as of a "
            "generation only its fittest member is kept; leave one out"
        )
    if generation is not None:
        return TrainedMember.elite(run, generation)
    if member is None or member == BEST:
        return TrainedMember.read(run)
    if not re.fullmatch(r"[0-9]{1,18}", member):
        raise ConfigError(f"--member {member[:40]}: expected the id of a living member, or {BEST}")
    return TrainedMember.read(run, int(member))
