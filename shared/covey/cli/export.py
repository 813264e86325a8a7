"""`covey export` writes a trained member's policies to files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from covey.cli.terminal import say


def register(app: typer.Typer) -> None:
    """Add `covey export` to the command line."""
    app.command("export")(export_member)


def export_member(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")],
    member: Annotated[
        int | None, typer.Option("--member", metavar="ID", help="A living member; the best policy so far if unset.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="RUN/policy-ID if unset.")] = None,
) -> None:
    """Write a member's policies (safetensors and JSON); `covey.load_policy(DIR)` acts by them without torch."""
    from covey.run.directory import RunDirectory
    from covey.run.exported import export
    from covey.run.trained import TrainedMember

    trained = TrainedMember.read(RunDirectory.open(run), member)
    say(str(export(trained, out or run / f"policy-{trained.member_id}")))
