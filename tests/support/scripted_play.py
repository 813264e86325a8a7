"""What an actor plays: a collector that a test drives order by order, without any connection."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable

from covey.acting import LoadedPolicy
from covey.collect import Collector
from covey.envs import build_slots, load_environment, read_spaces
from covey.rows import RowSchema
from covey.v1 import actor_service_pb2 as pb
from covey.v1.environment_pb2 import EnvironmentSpaces, EnvironmentSpec
from covey.v1.fragment_pb2 import Fragment
from covey.v1.order_pb2 import Order
from covey.wire.messages import spaces_to_proto
from covey.wire.policy_file import decode_policy


class ScriptedPlay:
    """The environments of an actor, and honest answers to its orders.

    Args:
        described: The environment that the learner describes.
        policy: Returns a policy file by its SHA-256.
        actor_id: The actor's name.
        incarnation: Its process's number; 0 draws one.
    """

    def __init__(
        self, described: EnvironmentSpec, policy: Callable[[bytes], bytes], actor_id: str, incarnation: int = 0
    ) -> None:
        self.actor_id = actor_id
        self.incarnation = incarnation or secrets.randbits(63) | 1
        make = load_environment(described.entry_point, json.loads(described.config_json))
        env = make()
        self.spaces = read_spaces(env, None)
        env.close()
        self.schema = RowSchema.of(self.spaces)
        self.slots = described.train_slots, described.eval_slots
        slots = build_slots(make, self.spaces, sum(self.slots))
        self.collector = Collector(slots, self.spaces, self.schema, self.slots[0], 1)
        self.seq = 0
        self.policies: dict[bytes, LoadedPolicy] = {}
        self._policy = policy

    def request(self, **changes: object) -> pb.JoinRequest:
        """A Join, honest but for the changes."""
        request = pb.JoinRequest(
            protocol_version=1,
            actor_id=self.actor_id,
            incarnation=self.incarnation,
            spaces=spaces_to_proto(self.spaces),
            train_slots=self.slots[0],
            eval_slots=self.slots[1],
            hostname="test",
        )
        for name, value in changes.items():
            if isinstance(value, EnvironmentSpaces):
                request.spaces.CopyFrom(value)
            elif isinstance(value, list):
                getattr(request, name).extend(value)
            else:
                setattr(request, name, value)
        return request

    def fetch(self, order: Order) -> Order:
        """Fetch an order's policies."""
        for ref in order.policies:
            if ref.sha256 and ref.sha256 not in self.policies:
                self.policies[ref.sha256] = LoadedPolicy(ref.sha256, *decode_policy(self._policy(ref.sha256)))
        return order

    def play(self, order: Order) -> Fragment:
        """An honest answer, numbered."""
        fragment = self.collector.run(order, self.policies)
        self.seq += 1
        fragment.seq = self.seq
        return fragment
