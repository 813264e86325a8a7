"""One place where errors become gRPC statuses: ours as themselves, any other as an id to look up in the log."""

from __future__ import annotations

import functools
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NoReturn, ParamSpec, TypeVar

import grpc

from covey.errors import CoveyError

logger = logging.getLogger("covey.rpc")

Request = TypeVar("Request")
Response = TypeVar("Response")
P = ParamSpec("P")
Context = grpc.aio.ServicerContext[Any, Any]


async def _abort(context: Context, exc: Exception) -> NoReturn:
    if isinstance(exc, CoveyError):
        await context.abort(grpc.StatusCode[exc.status], str(exc))
    elif isinstance(exc, TimeoutError):
        await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, str(exc))
    # What went wrong inside is nobody's business outside; the id leads to it.
    incident = secrets.token_hex(4)
    logger.error("internal error %s", incident, exc_info=exc)
    await context.abort(grpc.StatusCode.INTERNAL, f"internal error {incident}; the learner's log has the details")


def unary(
    handler: Callable[[Any, Request, Context], Awaitable[Response]],
) -> Callable[[Any, Request, Context], Awaitable[Response]]:
    """Wrap a handler that answers once."""

    @functools.wraps(handler)
    async def wrapped(self: Any, request: Request, context: Context) -> Response:
        try:
            return await handler(self, request, context)
        except (grpc.aio.AbortError, grpc.aio.UsageError):
            raise
        except Exception as exc:
            await _abort(context, exc)

    return wrapped


def streaming(
    handler: Callable[[Any, Any, Context], AsyncIterator[Response]],
) -> Callable[[Any, Any, Context], AsyncIterator[Response]]:
    """Wrap a handler that answers with a stream."""

    @functools.wraps(handler)
    async def wrapped(self: Any, request: Any, context: Context) -> AsyncIterator[Response]:
        try:
            async for response in handler(self, request, context):
                yield response
        except (grpc.aio.AbortError, grpc.aio.UsageError):
            raise
        except Exception as exc:
            await _abort(context, exc)

    return wrapped
