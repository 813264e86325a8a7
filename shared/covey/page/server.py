"""Serves the page of runs to browsers of this machine, and tells them of changes. Nothing can be changed through it."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import socket
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from covey.errors import AddressInUseError, ConfigError
from covey.page.content import content, differing
from covey.page.report import filled, part, plotly_script
from covey.run.summary import summarise

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

HOST = "127.0.0.1"

TRIES = 20
"""Ports that are tried, one after the other."""

LOOK_S = 2.0
"""Seconds between two looks at whether a run's files have changed."""

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
"""Plotly writes styles into the page, hence 'unsafe-inline' for these."""

OWN_NAMES = (HOST, "localhost")
"""Host names by which a browser of this machine may ask: a page elsewhere that has its name resolve to here may not."""


def application(runs: Sequence[Path]) -> Starlette:
    """Make the application that serves the page of some runs.

    Raises:
        ConfigError: starlette or plotly is not installed.
    """
    plotly = plotly_script().encode()
    try:
        from starlette.applications import Starlette
        from starlette.middleware import Middleware
        from starlette.middleware.trustedhost import TrustedHostMiddleware
        from starlette.responses import JSONResponse, Response, StreamingResponse
        from starlette.routing import Route
    except ImportError as exc:
        raise ConfigError("covey page needs starlette and uvicorn: pip install 'covey-marl[page]'") from exc
    document = filled(
        {
            "policy": "",
            "style": '<link rel="stylesheet" href="page.css">',
            "scripts": "".join(f'<script src="{name}.js"></script>' for name in ("plotly", "page", "views")),
        }
    )
    texts = {
        "/": (document.encode(), "text/html"),
        "/page.css": (part("page.css").encode(), "text/css"),
        "/page.js": (part("page.js").encode(), "text/javascript"),
        "/views.js": (part("views.js").encode(), "text/javascript"),
        "/plotly.js": (plotly, "text/javascript"),
    }
    packed = {path: gzip.compress(data, 6) for path, (data, _) in texts.items()}

    async def text(request: Request) -> Response:
        data, kind = texts[request.url.path]
        headers = dict(HEADERS)
        if "gzip" in request.headers.get("accept-encoding", ""):
            data, headers["Content-Encoding"] = packed[request.url.path], "gzip"
        return Response(data, media_type=kind, headers=headers)

    async def everything(request: Request) -> Response:
        found = await asyncio.to_thread(shown, runs)
        return JSONResponse(found, headers=HEADERS)

    async def events(request: Request) -> Response:
        async def lines() -> AsyncIterator[str]:
            seen = None
            while not await request.is_disconnected():
                now = await asyncio.to_thread(marks, runs)
                if seen is not None and now != seen:
                    yield f"data: {json.dumps(len(now))}\n\n"
                elif seen is None:
                    yield ": hello\n\n"
                seen = now
                await asyncio.sleep(LOOK_S)

        return StreamingResponse(lines(), media_type="text/event-stream", headers=HEADERS)

    routes = [Route(path, text) for path in texts]
    routes += [Route("/content.json", everything), Route("/events", events)]
    return Starlette(routes=routes, middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=list(OWN_NAMES))])


def shown(runs: Sequence[Path]) -> dict[str, Any]:
    """Everything that the page shows."""
    summaries = [summarise(path) for path in runs]
    different = differing(summaries) if len(runs) > 1 else []
    return {"runs": [content(path, picture=False) for path in runs], "differing": different}


def marks(runs: Sequence[Path]) -> list[tuple[int, int]]:
    """Sizes and times of the files that say whether a run has gone on."""
    found = []
    for path in runs:
        for name in ("metrics.csv", "status.json", "result.json"):
            with contextlib.suppress(OSError):
                about = (path / name).stat()
                found.append((about.st_size, about.st_mtime_ns))
    return found


def bound_socket(port: int) -> socket.socket:
    """Listen on a port of this machine, or on one of those behind it, if others have them.

    Raises:
        AddressInUseError: all of them are taken.
    """
    for candidate in range(port, port + TRIES):
        made = socket.socket()
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            made.bind((HOST, candidate))
        except OSError:
            made.close()
            continue
        return made
    raise AddressInUseError(
        f"port {port} and the {TRIES - 1} behind it are taken, expected a free one; name another by --port"
    )


def serve(runs: Sequence[Path], listening: socket.socket) -> None:
    """Serve the page until the process is interrupted.

    Raises:
        ConfigError: what it needs is not installed.
    """
    app = application(runs)
    try:
        import uvicorn
    except ImportError as exc:
        raise ConfigError("covey page needs starlette and uvicorn: pip install 'covey-marl[page]'") from exc
    settings = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1, access_log=False)
    uvicorn.Server(settings).run(sockets=[listening])
