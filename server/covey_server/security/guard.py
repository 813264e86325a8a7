"""Translation of exceptions into gRPC statuses, and the rate limit: an interceptor around every call.

covey's own errors reach the caller as their text; of any other the caller gets an id that is also in the learner's log.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NoReturn

import grpc

from covey.errors import CoveyError, StorageError, UnreachableError
from covey_server.security.rate_limit import RateLimit

logger = logging.getLogger("covey.rpc")

Context = grpc.aio.ServicerContext[Any, Any]


class Guard(grpc.aio.ServerInterceptor):
    """gRPC interceptor that limits how often a host may call, and turns exceptions into gRPC statuses.

    Streaming calls of actors are not limited, because an actor fetches every policy that it acts with. Methods that
    read a stream of requests answer bad requests inside of their response stream; only their other exceptions end here.

    Args:
        limit: Rate limit by host.
    """

    def __init__(self, limit: RateLimit) -> None:
        self._limit = limit

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Return the method's handler with its exceptions translated; gRPC calls it for each call."""
        handler: Any = await continuation(handler_call_details)
        if handler is None:
            return None
        if handler.request_streaming:
            return grpc.stream_stream_rpc_method_handler(
                _guarded_stream(handler.stream_stream),
                _raising_parser(handler.request_deserializer),
                handler.response_serializer,
            )
        parse = _marking_parser(handler.request_deserializer)
        if handler.response_streaming:
            limit = None if handler_call_details.method.startswith(_ACTOR_METHODS) else self._limit
            return grpc.unary_stream_rpc_method_handler(
                _guarded_stream(handler.unary_stream, limit), parse, handler.response_serializer
            )
        return grpc.unary_unary_rpc_method_handler(
            _guarded_unary(handler.unary_unary, self._limit), parse, handler.response_serializer
        )


_ACTOR_METHODS = "/covey.v1.ActorService/"
_MALFORMED = (
    "request: arrived damaged, or is not of this method's type; send it again, and use the messages of proto/covey/v1"
)


def _raising_parser(parse: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """Parser of a request stream: a malformed message raises `UnreachableError` in the method that reads it."""

    def parsed(data: bytes) -> Any:
        try:
            return parse(data)
        except Exception as exc:
            raise UnreachableError(_MALFORMED) from exc

    return parsed


class _Malformed:
    """Stands for a single request that could not be parsed.

    If the parser raised instead, gRPC itself would end the call and send the exception's text to the caller.
    """


def _marking_parser(parse: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """Parser of a single request that returns `_Malformed` instead of raising; `_check_parsed` refuses that later."""

    def parsed(data: bytes) -> Any:
        try:
            return parse(data)
        except Exception:
            return _Malformed()

    return parsed


def _check_parsed(request: Any) -> Any:
    """The request itself; raises an `UnreachableError` if it could not be parsed, so that it is sent again."""
    if isinstance(request, _Malformed):
        raise UnreachableError(_MALFORMED)
    return request


def _guarded_unary(
    behaviour: Callable[[Any, Context], Awaitable[Any]], limit: RateLimit
) -> Callable[[Any, Context], Awaitable[Any]]:
    """A method with a single response, wrapped by the rate limit and by the translation of exceptions."""

    async def guarded(request: Any, context: Context) -> Any:
        try:
            limit.check(context.peer())
            return await behaviour(_check_parsed(request), context)
        except Exception as exc:
            await _abort(context, exc)

    return guarded


def _guarded_stream(
    behaviour: Callable[[Any, Context], Any], limit: RateLimit | None = None
) -> Callable[[Any, Context], AsyncIterator[Any]]:
    """A method that streams responses, wrapped by the translation of exceptions and, where given, by a rate limit."""

    async def guarded(request: Any, context: Context) -> AsyncIterator[Any]:
        try:
            if limit is not None:
                limit.check(context.peer())
            responses = behaviour(_check_parsed(request), context)
            # A streaming method is either a generator of responses, or a coroutine that writes them to the context.
            if inspect.isawaitable(responses):
                await responses
                return
            async with contextlib.aclosing(responses):
                async for response in responses:
                    yield response
        except Exception as exc:
            await _abort(context, exc)

    return guarded


async def _abort(context: Context, exc: Exception) -> NoReturn:
    """End a call with the gRPC status that belongs to an exception."""
    if isinstance(exc, grpc.aio.AbortError):  # the call has been ended already
        raise exc
    # A storage error's text names paths of this machine, which are not for callers.
    if isinstance(exc, CoveyError) and not isinstance(exc, StorageError):
        await context.abort(grpc.StatusCode[exc.status], str(exc))
    if isinstance(exc, TimeoutError):
        await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "the learner is busy and has not done it in time")
    # Raised by grpcio-health-checking for `List`, a method of its service that it declares and does not implement.
    if isinstance(exc, NotImplementedError):
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "this method is not served here")
    # Internal errors may hold private details: the caller gets an id, the log has the traceback under it.
    incident = secrets.token_hex(4)
    logger.error("internal error %s", incident, exc_info=exc)
    if isinstance(exc, StorageError):
        status, what = grpc.StatusCode[exc.status], f"the learner's disk cannot be used ({incident})"
    else:
        status, what = grpc.StatusCode.INTERNAL, f"internal error {incident}"
    await context.abort(status, f"{what}; the learner's log has the details")
