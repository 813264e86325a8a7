"""Options for a client's credentials, which several commands have: `--ca`, `--cert`, `--key`, `--token-file`."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from covey.wire.credentials import CA_VARIABLE, TOKEN_VARIABLE, Credentials

CA = Annotated[
    Path | None,
    typer.Option(
        "--ca",
        metavar="FILE",
        help=f"Certificate of the CA (ca.crt) that vouches for the learner: turns TLS on. Or set {CA_VARIABLE}.",
    ),
]
Certificate = Annotated[
    Path | None, typer.Option("--cert", metavar="FILE", help="Certificate of this client, if the learner asks for one.")
]
Key = Annotated[Path | None, typer.Option("--key", metavar="FILE", help="Private key of --cert.")]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help=f"File with the token by which the learner knows what you may do. Or set {TOKEN_VARIABLE} to the token.",
    ),
]


def with_credentials(command: Callable[..., None]) -> Callable[..., None]:
    """Decorate a command so that options such as `--ca` and `--token-file` give its parameter `credentials`."""

    @functools.wraps(command)
    def run(ca: Path | None, cert: Path | None, key: Path | None, token_file: Path | None, **given: Any) -> None:
        command(**given, credentials=Credentials.load(ca, cert, key, token_file))

    signature = inspect.signature(command, eval_str=True)
    own = [p for p in signature.parameters.values() if p.name != "credentials"]
    options = (("ca", CA), ("cert", Certificate), ("key", Key), ("token_file", TokenFile))
    added = [inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=a) for n, a in options]
    run.__signature__ = signature.replace(parameters=[*own, *added])  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in (*own, *added)}
    return run
