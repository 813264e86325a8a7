"""Status, members and actors of a run as JSON objects, which `--json` prints and run directories hold.

The keys are the protocol's field names and stay stable. A `*_json` field becomes the object it holds, under its name
without the suffix; what is unset, and a number that JSON cannot hold (NaN, infinity), becomes null.
"""

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from google.protobuf.message import Message

from covey.v1.population_service_pb2 import ActorInfo, MemberInfo, Status

ENDED = ("complete", "stopped", "failed")
"""States of runs that have ended, in the words of `status.json`."""


def status_json(status: Status) -> dict[str, Any]:
    """A run's status as a JSON object."""
    return _object(status)


def member_json(member: MemberInfo) -> dict[str, Any]:
    """A member as a JSON object, in which `architecture` and `hyperparameters` are objects too."""
    return _object(member)


def actor_json(actor: ActorInfo) -> dict[str, Any]:
    """An actor as a JSON object."""
    return _object(actor)


def members_json(members: Iterable[MemberInfo]) -> dict[str, Any]:
    """The living population, or a whole lineage, as `{"members": [...]}`."""
    return {"members": [member_json(m) for m in members]}


def actors_json(actors: Iterable[ActorInfo]) -> dict[str, Any]:
    """All actors as `{"actors": [...]}`."""
    return {"actors": [actor_json(a) for a in actors]}


def _object(message: Message) -> dict[str, Any]:
    """Every field of a message by name. Protobuf's own conversion to JSON would turn 64-bit integers into strings."""
    result: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        value: Any = getattr(message, field.name)
        if field.has_presence and not message.HasField(field.name):
            value = None
        if field.name.endswith("_json"):
            result[field.name.removesuffix("_json")] = json.loads(value or "{}")
        elif isinstance(value, Mapping):
            result[field.name] = dict(value)
        elif field.is_repeated:
            result[field.name] = [_object(v) if isinstance(v, Message) else v for v in value]
        else:
            result[field.name] = None if isinstance(value, float) and not math.isfinite(value) else value
    return result
