"""`covey schema`: what a configuration may hold, for editors and for people."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated

import typer


class Format(StrEnum):
    """What the command prints."""

    JSON = "json"
    MARKDOWN = "markdown"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(schema)


def schema(
    form: Annotated[
        Format,
        typer.Option("--format", help="json: a JSON schema for editors; markdown: the page docs/configuration.md."),
    ] = Format.JSON,
) -> None:
    """Print what a configuration file may hold: every key with its meaning, default and bounds."""
    if form is Format.MARKDOWN:
        from covey.config.reference import configuration_page

        typer.echo(configuration_page(), nl=False)
    else:
        from covey.config.schema import config_schema

        typer.echo(json.dumps(config_schema(), indent=2))
