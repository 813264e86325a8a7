"""`covey export` writes a trained member's policies to files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from covey.cli.run_names import RunName, find_run
from covey.cli.terminal import say


def register(app: typer.Typer) -> None:
    """Add `covey export` to the command line."""
    app.command("export")(export_member)


def export_member(
    run: RunName = None,
    member: Annotated[
        int | None,
        typer.Option("--member", metavar="ID", help="Id of a living member; the best policy so far if left out."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Directory to write to; RUN/policy-ID if left out.")
    ] = None,
) -> None:
    """Write a member's policies (safetensors and JSON); `covey.load_policy(DIR)` acts by them without torch."""
    from covey.run.directory import RunDirectory
    from covey.run.exported import export
    from covey.run.trained import TrainedMember

    directory = RunDirectory.open(find_run(run))
    trained = TrainedMember.read(directory, member)
    say(str(export(trained, out or directory.path / f"policy-{trained.member_id}")))
