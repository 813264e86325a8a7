"""One place where errors become gRPC statuses: ours as themselves, any other as an id to look up in the log."""

from __future__ import annotations

import contextlib
import inspect
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NoReturn

import grpc

from covey.errors import ConfigError, CoveyError, StorageError
from covey_server.security.rate_limit import RateLimit

logger = logging.getLogger("covey.rpc")

Context = grpc.aio.ServicerContext[Any, Any]


class Guard(grpc.aio.ServerInterceptor):
    """Wraps every call: how often it may come, and what its peer hears of an error.

    Actors' streams may come as often as they like: an actor fetches every policy that it acts by.
    Streams of requests answer for what they read in band; this holds for whatever else they raise.
    """

    def __init__(self, limit: RateLimit) -> None:
        self._limit = limit

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """The method's own handler, its errors translated."""
        handler: Any = await continuation(handler_call_details)
        if handler is None:
            return None
        if handler.request_streaming:
            return grpc.stream_stream_rpc_method_handler(
                _streaming(handler.stream_stream), _reading(handler.request_deserializer), handler.response_serializer
            )
        coding = _parsing(handler.request_deserializer), handler.response_serializer
        if handler.response_streaming:
            limit = None if handler_call_details.method.startswith(_ACTORS) else self._limit
            return grpc.unary_stream_rpc_method_handler(_streaming(handler.unary_stream, limit), *coding)
        return grpc.unary_unary_rpc_method_handler(_unary(handler.unary_unary, self._limit), *coding)


_ACTORS = "/covey.v1.ActorService/"
_MALFORMED = "request: is not of this method's type; use the messages of proto/covey/v1"


def _reading(parse: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """For streams: what a frame raises reaches whoever reads them."""

    def read(data: bytes) -> Any:
        try:
            return parse(data)
        except Exception as exc:
            raise ConfigError(_MALFORMED) from exc

    return read


class _Malformed:
    """Stands for a request that could not be parsed: gRPC itself would answer with the parser's text."""


def _parsing(parse: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    def parsed(data: bytes) -> Any:
        try:
            return parse(data)
        except Exception:  # whatever the parser raises; `_checked` answers
            return _Malformed()

    return parsed


def _checked(request: Any) -> Any:
    if isinstance(request, _Malformed):
        raise ConfigError(_MALFORMED)
    return request


def _unary(
    behaviour: Callable[[Any, Context], Awaitable[Any]], limit: RateLimit
) -> Callable[[Any, Context], Awaitable[Any]]:
    async def guarded(request: Any, context: Context) -> Any:
        try:
            limit.check(context.peer())
            return await behaviour(_checked(request), context)
        except Exception as exc:
            await _abort(context, exc)

    return guarded


def _streaming(
    behaviour: Callable[[Any, Context], Any], limit: RateLimit | None = None
) -> Callable[[Any, Context], AsyncIterator[Any]]:
    async def guarded(request: Any, context: Context) -> AsyncIterator[Any]:
        try:
            if limit is not None:
                limit.check(context.peer())
            responses = behaviour(_checked(request), context)
            if inspect.isawaitable(responses):  # it writes to the context by itself
                await responses
                return
            async with contextlib.aclosing(responses):
                async for response in responses:
                    yield response
        except Exception as exc:
            await _abort(context, exc)

    return guarded


async def _abort(context: Context, exc: Exception) -> NoReturn:
    if isinstance(exc, grpc.aio.AbortError):
        raise exc
    # What the disk says names paths of this machine.
    if isinstance(exc, CoveyError) and not isinstance(exc, StorageError):
        await context.abort(grpc.StatusCode[exc.status], str(exc))
    if isinstance(exc, TimeoutError):
        await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "the learner is busy and has not done it in time")
    if isinstance(exc, NotImplementedError):  # a method of the health service that gRPC's own package leaves out
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "this method is not served here")
    # What went wrong inside is nobody's business outside; the id leads to it.
    incident = secrets.token_hex(4)
    logger.error("internal error %s", incident, exc_info=exc)
    if isinstance(exc, StorageError):
        status, what = grpc.StatusCode[exc.status], f"the learner's disk cannot be used ({incident})"
    else:
        status, what = grpc.StatusCode.INTERNAL, f"internal error {incident}"
    await context.abort(status, f"{what}; the learner's log has the details")
