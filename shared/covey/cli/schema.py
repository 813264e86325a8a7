"""`covey schema` prints what a configuration may hold, for editors and for people."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from covey.errors import StorageError


class Format(StrEnum):
    """The forms in which `covey schema` prints: a JSON schema, or a page of documentation."""

    JSON = "json"
    MARKDOWN = "markdown"


def register(app: typer.Typer) -> None:
    """Add `covey schema` to the command line."""
    app.command()(schema)


def schema(
    form: Annotated[
        Format,
        typer.Option("--format", help="json: a JSON schema for editors; markdown: the page docs/configuration.md."),
    ] = Format.JSON,
    check: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Print nothing; fail (exit code 7) if FILE differs from what would be printed."
        ),
    ] = None,
) -> None:
    """Print what a configuration file may hold: every key with its meaning, default and bounds."""
    if form is Format.MARKDOWN:
        from covey.config.reference import configuration_page

        text = configuration_page()
    else:
        from covey.config.schema import config_schema

        text = json.dumps(config_schema(), indent=2) + "\n"
    if check is None:
        typer.echo(text, nl=False)
    elif not check.is_file() or check.read_text() != text:
        raise StorageError(f"{check} is stale, expected what covey schema prints; write it anew")
