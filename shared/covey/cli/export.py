"""`covey export` writes a trained member's policies to files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from covey.cli.chosen import GENERATION, MEMBER, read_chosen
from covey.cli.run_names import RunName
from covey.cli.terminal import say


def register(app: typer.Typer) -> None:
    """Add `covey export` to the command line."""
    app.command("export")(export_member)


def export_member(
    run: RunName = None,
    member: Annotated[str | None, MEMBER] = None,
    generation: Annotated[int | None, GENERATION] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="DIR",
            help="Directory to write to; RUN/policy-ID, or with --generation RUN/policy-generation-N, if left out.",
        ),
    ] = None,
) -> None:
    """Write a member's policies (safetensors and JSON); `covey.load_policy(DIR)` acts by them without torch."""
    from covey.run.exported import export

    trained = read_chosen(run, member, generation)
    name = trained.member_id if generation is None else f"generation-{generation}"
    say(str(export(trained, out or trained.run.path / f"policy-{name}")))
