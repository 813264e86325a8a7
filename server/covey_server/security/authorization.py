"""Who may call what: roles by method, the interceptor that holds every call against them, and names in certificates."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, NoReturn

import grpc

from covey.errors import CoveyError, ForbiddenError, UnauthenticatedError
from covey_server.security.guard import Context
from covey_server.security.tokens import Tokens

ACTOR, ASK, STEER, ANY = {"actor"}, {"viewer", "admin"}, {"admin"}, {"actor", "viewer", "admin"}

RULES: Mapping[str, Mapping[str, set[str] | None]] = {
    "covey.v1.ActorService": {"Describe": ACTOR, "Join": ACTOR, "Work": ACTOR, "FetchPolicy": ACTOR},
    "covey.v1.PopulationService": {
        "GetStatus": ASK,
        "WatchStatus": ASK,
        "ListMembers": ASK,
        "GetMember": ASK,
        "GetLineage": ASK,
        "ListActors": ASK,
        "DownloadMember": ASK,
        "Pause": STEER,
        "Resume": STEER,
        "Checkpoint": STEER,
        "DrainActor": STEER,
        "Shutdown": STEER,
    },
    # Load balancers and supervisors have no token; a stream that anybody may hold open is another matter.
    "grpc.health.v1.Health": {"Check": None, "List": ASK, "Watch": ASK},
    "grpc.reflection.v1alpha.ServerReflection": {"ServerReflectionInfo": ANY},
}
"""Roles that may call each method of each service, None: anybody. What is not here is refused to everybody."""

Count = Callable[[str], None]


def roles_of(method: str) -> set[str] | None:
    """Who may call "/service/Method"; None: anybody."""
    _, service, name = method.split("/")
    return RULES.get(service, {}).get(name, set())


class Authorization(grpc.aio.ServerInterceptor):
    """Lets a call pass if its token's role may make it, before a byte of its request is read.

    A stream that goes on is asked again whenever tokens have changed.

    Args:
        tokens: Who is who; None: everybody may do everything.
        count: Told "unauthenticated" or "forbidden" with every call refused.
    """

    def __init__(self, tokens: Tokens | None, count: Count) -> None:
        self._tokens = tokens
        self._count = count

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """The method's own handler, or one that refuses."""
        handler: Any = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or self._tokens is None or roles_of(method) is None:
            return handler  # type: ignore[no-any-return]
        tokens, given = self._tokens, _bearer(handler_call_details.invocation_metadata)
        refusal = self._refusal(tokens, method, given)
        if refusal is not None:
            return _refusing(handler, refusal)
        if not handler.response_streaming:
            return handler  # type: ignore[no-any-return]
        again = _asking_again(handler, tokens, lambda: self._refusal(tokens, method, given))
        return _replaced(handler, again)

    def _refusal(self, tokens: Tokens, method: str, given: str | None) -> CoveyError | None:
        """Why a call may not pass; None where it may."""
        if given is None:
            self._count("unauthenticated")
            return UnauthenticatedError("no token came with the call; give --token-file FILE, or set COVEY_TOKEN")
        role = tokens.role(given)
        if role is None:
            self._count("unauthenticated")
            return UnauthenticatedError("the token is none of this learner's; ask its owner for another")
        allowed = roles_of(method) or set()
        if role not in allowed:
            self._count("forbidden")
            name = method.rpartition("/")[2]
            return ForbiddenError(
                f"a token of role {role} may not call {name}, expected {' or '.join(sorted(allowed)) or 'nobody'}"
            )
        return None


def check_name(context: Context, actor_id: str) -> None:
    """Hold the name that an actor claims against its client certificate, where it shows one.

    Raises:
        ForbiddenError: the name is neither that of the certificate nor begins with it and "-", as workers' names do.
    """
    names = list(context.auth_context().get("x509_common_name", ()))
    if not names:
        return
    name = names[0].decode("utf-8", "replace")
    if actor_id != name and not actor_id.startswith(f"{name}-"):
        raise ForbiddenError(
            f"actor {actor_id!r}: its certificate is {name!r}'s, expected that name; start it with --name {name}"
        )


def _bearer(metadata: Any) -> str | None:
    """The token of a call; None where there is none, or more than one."""
    values = [value for key, value in metadata or () if key == "authorization"]
    if len(values) != 1 or not isinstance(values[0], str):
        return None
    scheme, _, token = values[0].partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token else None


async def _abort(context: Context, refusal: CoveyError) -> NoReturn:
    await context.abort(grpc.StatusCode[refusal.status], str(refusal))


def _refusing(handler: Any, refusal: CoveyError) -> grpc.RpcMethodHandler[Any, Any]:
    """A handler of the same cardinality that reads nothing."""

    async def one(_: Any, context: Context) -> Any:
        await _abort(context, refusal)

    async def many(_: Any, context: Context) -> AsyncIterator[Any]:
        await _abort(context, refusal)
        yield

    if handler.request_streaming:
        if handler.response_streaming:
            return grpc.stream_stream_rpc_method_handler(many)
        return grpc.stream_unary_rpc_method_handler(one)
    if handler.response_streaming:
        return grpc.unary_stream_rpc_method_handler(many)
    return grpc.unary_unary_rpc_method_handler(one)


def _asking_again(
    handler: Any, tokens: Tokens, refusal: Callable[[], CoveyError | None]
) -> Callable[[Any, Context], AsyncIterator[Any]]:
    """A stream's behaviour, ended when its token is no longer good."""
    behaviour = handler.stream_stream if handler.request_streaming else handler.unary_stream

    async def watched(request: Any, context: Context) -> AsyncIterator[Any]:
        version = tokens.version
        async with contextlib.aclosing(behaviour(request, context)) as responses:
            async for response in responses:
                tokens.refresh()
                if tokens.version != version:
                    version = tokens.version
                    gone = refusal()
                    if gone is not None:
                        await _abort(context, gone)
                yield response

    return watched


def _replaced(handler: Any, behaviour: Callable[[Any, Context], AsyncIterator[Any]]) -> grpc.RpcMethodHandler[Any, Any]:
    make = grpc.stream_stream_rpc_method_handler if handler.request_streaming else grpc.unary_stream_rpc_method_handler
    return make(behaviour, handler.request_deserializer, handler.response_serializer)
