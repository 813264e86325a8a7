"""Turns members' steps into orders for actors, so that every member gets exactly its steps.

Pure bookkeeping: no clock, no thread, no network. A member's steps of a generation are either accepted, in orders that
are out, or remaining; what comes back unplayed, and what a lost actor held, is remaining again.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from covey.run.state_upgrades import check_version
from covey.v1.fragment_pb2 import IssuedOrder
from covey.v1.order_pb2 import Exploration, Order, PolicyRef, SlotWork
from covey.wire.limits import BUILTIN_RANDOM
from covey_server.orders.evaluations import ActorKey, Evaluations
from covey_server.orders.ledger import MemberLedger
from covey_server.orders.slots import ActorSlots, Slot, assign, furthest_behind, shares
from covey_server.seeds import derive

MIN_STEPS = 8
"""A slot's share of a member's remainder is not cut below this: tiny orders cost more than they give."""

RANDOM = PolicyRef(builtin=BUILTIN_RANDOM)

VERSION = 1
"""Of the state that a checkpoint keeps."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The numbers of the configuration that the scheduler needs, under the same names; steps are env steps.

    Attributes:
        seed: `training.seed`.
        fragment_steps: Most steps of a slot in one order.
        turn_steps: Steps after which a slot passes to a member that is behind.
        random_steps: So many of the population's first steps are played at random.
        max_orders: Orders that are out at one actor at most.
    """

    seed: int
    fragment_steps: int
    turn_steps: int
    random_steps: int
    max_orders: int


class Scheduler:
    """Orders for actors.

    Args:
        rules: Fixed numbers.
        policies_of: A member's current policies, one per agent.
        exploration_of: A member's exploration.
        first_order_id: Order ids count up from here; unique over the run.
    """

    def __init__(
        self,
        rules: Rules,
        policies_of: Callable[[int], Sequence[PolicyRef]],
        exploration_of: Callable[[int], Exploration],
        first_order_id: int = 1,
    ) -> None:
        self._rules = rules
        self._policies_of = policies_of
        self._exploration_of = exploration_of
        self._next_order_id = first_order_id
        self._actors: dict[ActorKey, ActorSlots] = {}
        self._orders: dict[int, tuple[ActorKey, Order]] = {}
        self._ledgers: dict[int, MemberLedger] = {}
        self.evaluations = Evaluations(first_order_id)
        self.orders_in_generation = 0  # since all members began one together
        self.steps_ordered = 0  # over the run, less what came back unplayed

    # -- members ------------------------------------------------------------------------------------------------

    def begin_generation(self, ledgers: Iterable[MemberLedger], *, restart_all: bool = False) -> None:
        """Let all members begin a generation. Slots of members that live on go on, unless all are to restart.

        Args:
            ledgers: The members', in the population's order, at their start.
            restart_all: Whether every slot begins an episode.
        """
        self.orders_in_generation = 0
        self._ledgers = {ledger.member_id: ledger for ledger in ledgers}
        for actor in self._actors.values():
            actor.uneven = True
            if restart_all:
                actor.slots = [Slot() for _ in actor.slots]

    def begin_member(self, before: int, begun: MemberLedger) -> None:
        """Let one member begin a generation while the others go on.

        Args:
            before: Whose place it takes, perhaps its own. Another member's slots are the new member's, from the start
                of an episode.
            begun: The ledger of who begins, at its start.
        """
        ledgers = (begun if ledger.member_id == before else ledger for ledger in self._ledgers.values())
        self._ledgers = {ledger.member_id: ledger for ledger in ledgers}

    @property
    def generation(self) -> int:
        """The generation that all members have reached."""
        return min((ledger.generation for ledger in self._ledgers.values()), default=0)

    def ledger(self, member_id: int) -> MemberLedger | None:
        """A living member's ledger; None: no such member lives."""
        return self._ledgers.get(member_id)

    @property
    def ledgers(self) -> Collection[MemberLedger]:
        """The living members' ledgers, in the population's order."""
        return self._ledgers.values()

    # -- actors -------------------------------------------------------------------------------------------------

    def add_actor(self, key: ActorKey, train_slots: int, eval_slots: int) -> None:
        """An actor has joined; slots move to where they are missing. Orders it is known to hold stay its own."""
        known = self._actors.get(key)
        orders = known.orders if known else {}
        self._actors[key] = ActorSlots([Slot() for _ in range(train_slots)], eval_slots, orders)
        for actor in self._actors.values():
            actor.uneven = True

    def has_slots(self, key: ActorKey) -> bool:
        """Whether this actor has joined, and may get orders."""
        return key in self._actors and bool(self._actors[key].slots)

    def has_room(self, key: ActorKey) -> bool:
        """Whether this actor may hold another order, if there is something to do."""
        actor = self._actors.get(key)
        return actor is not None and not actor.draining and len(actor.orders) < self._rules.max_orders

    def members_at(self, key: ActorKey) -> list[int]:
        """Members that this actor's slots serve and that may collect now."""
        actor = self._actors.get(key)
        served = {slot.member_id for slot in actor.slots} if actor else set()
        return [m for m, ledger in self._ledgers.items() if m in served and ledger.orderable > 0]

    def drain(self, key: ActorKey) -> None:
        """No further orders for this actor."""
        if key in self._actors:
            self._actors[key].draining = True

    def remove_actor(self, key: ActorKey) -> tuple[list[int], int]:
        """An actor is gone: its orders are revoked, for good.

        Returns:
            Ids of the revoked orders, and the training steps that go to others.
        """
        actor = self._actors.pop(key, None)
        self.evaluations.release(key)
        if actor is None:
            return [], 0
        steps = sum(s.steps for order in actor.orders.values() for s in order.slots)
        revoked = list(actor.orders)
        for order_id in revoked:
            self._end(order_id, {})
        for other in self._actors.values():
            other.uneven = True
        return revoked, steps

    def orders_out(self, key: ActorKey) -> list[int]:
        """Ids of an actor's outstanding orders, oldest first."""
        return list(self._actors[key].orders) if key in self._actors else []

    def order(self, order_id: int, key: ActorKey) -> Order | None:
        """An outstanding order of this actor."""
        owner, order = self._orders.get(order_id, (None, None))
        return order if owner == key else None

    def outstanding(self) -> Collection[tuple[ActorKey, Order]]:
        """All orders that are out."""
        return self._orders.values()

    # -- orders -------------------------------------------------------------------------------------------------

    def next_order(self, key: ActorKey) -> Order | None:
        """An order for this actor, or None if there is nothing for it to do now."""
        actor = self._actors[key]
        if not self.has_room(key) or not self._may_order(key):
            return None
        assign(actor, self._actors.values(), self._ledgers, self._rules.turn_steps)
        order = Order(order_id=self._next_order_id, generation=self.generation)
        index: dict[bytes, int] = {}

        def use(refs: Iterable[PolicyRef]) -> list[int]:
            indices = []
            for ref in refs:
                at = index.setdefault(ref.sha256 or ref.builtin.encode(), len(order.policies))
                if at == len(order.policies):
                    order.policies.append(ref)
                indices.append(at)
            return indices

        self._release_held()
        self._add_training(actor, order, use)
        if not order.slots and self._release_held(at_once=True):
            self._add_training(actor, order, use)
        self._add_evaluations(key, actor, order, use)
        if not order.slots and not order.eval_steps:
            return None
        order.noise_seed = derive(self._rules.seed, "noise", self.generation, self.orders_in_generation)
        self._next_order_id += 1
        self.orders_in_generation += 1
        self.adopt(key, order)
        return order

    def adopt(self, key: ActorKey, order: Order) -> None:
        """Enter an order as outstanding: a new one, or one that a restarted learner finds in its journal."""
        if key not in self._actors:
            self._actors[key] = ActorSlots([], 0)
        self._actors[key].orders[order.order_id] = order
        self._orders[order.order_id] = (key, order)
        for slot in order.slots:
            self.steps_ordered += slot.steps
            if slot.member_id in self._ledgers:
                self._ledgers[slot.member_id].order(slot.steps)
        self._next_order_id = max(self._next_order_id, order.order_id + 1)

    def complete(self, order_id: int, steps: Mapping[int, int], *, forget_slots: bool = False) -> None:
        """An order was answered with so many accepted steps per member; the rest returns to the members.

        Args:
            order_id: An outstanding order.
            steps: Accepted env steps by member id.
            forget_slots: The order was not run at all: its slots do not stand where the scheduler thinks, and nobody
                may be playing its evaluations.
        """
        key, order = self._orders[order_id]
        if forget_slots:
            self.evaluations.release(key)
            slots = self._actors[key].slots
            for work in order.slots:
                if work.slot < len(slots):
                    slots[work.slot] = Slot()
        self._end(order_id, steps)

    def _end(self, order_id: int, steps: Mapping[int, int]) -> None:
        """Close an order: its steps are no longer out, the accepted ones are entered."""
        key, order = self._orders.pop(order_id)
        if key in self._actors:
            self._actors[key].orders.pop(order_id, None)
        for slot in order.slots:
            self.steps_ordered -= slot.steps
            if slot.member_id in self._ledgers:
                self._ledgers[slot.member_id].end_order(slot.steps)
        for member_id, count in steps.items():
            self.steps_ordered += count
            if member_id in self._ledgers:
                self._ledgers[member_id].accept(count)

    # -- checkpoints --------------------------------------------------------------------------------------------

    def to_state(self) -> dict[str, Any]:
        """What a checkpoint keeps, as JSON: ledgers by member id, and the orders that are out."""
        out = [IssuedOrder(actor_id=key[0], incarnation=key[1], order=order) for key, order in self._orders.values()]
        ordered = sum(slot.steps for issued in out for slot in issued.order.slots)
        return {
            "version": VERSION,
            "orders_in_generation": self.orders_in_generation,
            "steps_accepted": self.steps_ordered - ordered,
            "ledgers": {str(ledger.member_id): ledger.to_state() for ledger in self.ledgers},
            "orders": [base64.b64encode(issued.SerializeToString()).decode() for issued in out],
        }

    def from_state(self, state: Mapping[str, Any]) -> None:
        """Take over `to_state` of an earlier life, after its members have begun their generations.

        Raises:
            StorageError: it is of a newer version.
            KeyError, TypeError, ValueError, DecodeError: no such state.
        """
        check_version("scheduler", state, VERSION)
        self.orders_in_generation = int(state["orders_in_generation"])
        self.steps_ordered = int(state["steps_accepted"])
        for member_id, ledger in state["ledgers"].items():
            self._ledgers[int(member_id)].from_state(ledger)
        for text in state["orders"]:
            issued = IssuedOrder.FromString(base64.b64decode(text))
            self.adopt((issued.actor_id, issued.incarnation), issued.order)

    # -- the inside ---------------------------------------------------------------------------------------------

    def _may_order(self, key: ActorKey) -> bool:
        """Whether there may be something to do, quickly: idle actors ask with every fragment that arrives."""
        return (
            any(ledger.orderable > 0 or ledger.held for ledger in self._ledgers.values())
            or self.evaluations.pending
            or self.evaluations.unfinished(key) > 0
        )

    def _add_training(self, actor: ActorSlots, order: Order, use: Callable[[Iterable[PolicyRef]], list[int]]) -> None:
        rules = self._rules
        held = shares(self._actors.values(), self._ledgers)
        planned: Counter[int] = Counter()
        total = 0
        for i, slot in enumerate(actor.slots):
            ledger = self._ledgers.get(slot.member_id) if slot.member_id is not None else None
            if ledger is None:
                continue
            left = ledger.orderable - planned[ledger.member_id]
            if left <= 0:
                continue
            fair = -(-ledger.orderable // held[ledger.member_id])  # rounded up
            steps = min(rules.fragment_steps, left, max(MIN_STEPS, fair))
            refs = self._policies_of(ledger.member_id)
            if self.steps_ordered + total < rules.random_steps:
                refs = [RANDOM] * len(refs)
            planned[ledger.member_id] += steps
            total += steps
            item = SlotWork(
                slot=i,
                agent_policies=use(refs),
                steps=steps,
                restart=slot.fresh,
                member_id=ledger.member_id,
                exploration=self._exploration_of(ledger.member_id),
            )
            if slot.fresh:
                item.seed = derive(rules.seed, "slot", self.generation, self.orders_in_generation, i)
            slot.fresh = False
            slot.served_steps += steps
            if slot.served_steps >= rules.turn_steps and (
                furthest_behind(ledger, self._ledgers, held, rules.turn_steps) is not None
            ):
                item.until_episode_end = slot.leaving = True
            order.slots.append(item)

    def _add_evaluations(
        self, key: ActorKey, actor: ActorSlots, order: Order, use: Callable[[Iterable[PolicyRef]], list[int]]
    ) -> None:
        # Twice the slots, so that a slot which ends an episode within an order has a next one.
        free = 2 * actor.eval_slots - self.evaluations.unfinished(key)
        for task, refs in self.evaluations.take(key, free):
            task.agent_policies[:] = use(refs)
            order.evaluations.append(task)
        if self.evaluations.unfinished(key):
            order.eval_steps = self._rules.fragment_steps

    def _release_held(self, *, at_once: bool = False) -> bool:
        """Let held members begin once another is half through its round, or at once; returns whether some did."""
        held = [ledger for ledger in self._ledgers.values() if ledger.held and ledger.durable]
        others = (ledger for ledger in self._ledgers.values() if not ledger.held)
        if not held or not (at_once or any(2 * ledger.accepted >= ledger.limit for ledger in others)):
            return False
        for ledger in held:
            ledger.held = False
        return True
