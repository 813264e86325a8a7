"""The policies that an order names: each once, by its place in the order's list."""

from __future__ import annotations

from collections.abc import Iterable

from covey.v1.order_pb2 import Order, PolicyRef


class OrderPolicies:
    """Collects the policies of one order that is being made.

    Args:
        order: The order, without policies yet.
    """

    def __init__(self, order: Order) -> None:
        self._policies = order.policies
        self._index: dict[bytes, int] = {}

    def use(self, refs: Iterable[PolicyRef]) -> list[int]:
        """Add policies to the order's list, if they are not in it yet, and return their indices there."""
        indices = []
        for ref in refs:
            at = self._index.setdefault(ref.sha256 or ref.builtin.encode(), len(self._policies))
            if at == len(self._policies):
                self._policies.append(ref)
            indices.append(at)
        return indices
