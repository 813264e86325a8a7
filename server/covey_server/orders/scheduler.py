"""Divides members' env steps into orders (work for one actor), so that every member gets exactly its number.

Pure bookkeeping: no clock, no thread, no network. Each env step of a member's generation is either accepted, in an
outstanding order, or remaining; what comes back unplayed, and what a lost actor had, is remaining again.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from covey.run.state_upgrades import check_version
from covey.v1.fragment_pb2 import IssuedOrder
from covey.v1.order_pb2 import Exploration, Order, PolicyRef, SlotWork
from covey.wire.limits import BUILTIN_RANDOM
from covey_server.orders.evaluations import ActorKey, Evaluations
from covey_server.orders.ledger import MemberLedger
from covey_server.orders.length import OrderLengths
from covey_server.orders.order_policies import OrderPolicies
from covey_server.orders.pace import release_held
from covey_server.orders.rules import Rules
from covey_server.orders.slots import ActorSlots, Slot, assign, furthest_behind, has_turn, slots_by_member
from covey_server.seeds import derive

MIN_STEPS = 8
"""Env steps below which a slot's fair share of its member's steps is not cut: tiny orders cost more than they give."""

RANDOM = PolicyRef(builtin=BUILTIN_RANDOM)
"""The built-in policy that draws actions uniformly."""

VERSION = 1
"""Version of the scheduler's state in checkpoints."""


class Scheduler:
    """Makes orders (work for one actor) and counts which env steps of each member are ordered and accepted.

    Args:
        rules: The configured numbers.
        policies_of: Returns a member's current policies, one per agent in environment order.
        exploration_of: Returns how a member's training actions are perturbed.
        first_order_id: Order ids count up from here; unique over the run.

    Attributes:
        evaluations: Evaluation requests, whose seeds are added to orders.
        lengths: How many env steps an order asks of each environment, by actor.
        orders_in_generation: Number of orders since all members last began a generation together; it seeds the next
            one.
        steps_ordered: Env steps ordered over the run, less those that came back unplayed.
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
        self.lengths = OrderLengths(rules.fragment_steps, rules.longest_steps)
        self.orders_in_generation = 0
        self.steps_ordered = 0

    # -- members ------------------------------------------------------------------------------------------------

    def begin_generation(self, ledgers: Iterable[MemberLedger], *, restart_all: bool = False) -> None:
        """Let all members begin a generation; environments of members that live on keep their episodes by default.

        Args:
            ledgers: The members' new ledgers, in the population's order.
            restart_all: Whether every slot is reassigned and begins a new episode.
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
            before: Id of the member that it replaces, or its own id. Slots of a replaced member are reassigned and
                begin a new episode.
            begun: The new ledger of the member that begins.
        """
        ledgers = (begun if ledger.member_id == before else ledger for ledger in self._ledgers.values())
        self._ledgers = {ledger.member_id: ledger for ledger in ledgers}

    @property
    def generation(self) -> int:
        """Number, from 0, of the generation that even the slowest member has reached."""
        return min((ledger.generation for ledger in self._ledgers.values()), default=0)

    def ledger(self, member_id: int) -> MemberLedger | None:
        """Return the count of a living member's env steps; None if no such member lives."""
        return self._ledgers.get(member_id)

    @property
    def ledgers(self) -> Collection[MemberLedger]:
        """The counts of the living members' env steps, in the population's order."""
        return self._ledgers.values()

    # -- actors -------------------------------------------------------------------------------------------------

    def add_actor(self, key: ActorKey, train_slots: int, eval_slots: int) -> None:
        """Add an actor that has joined; members with few environments (slots) get some of its slots.

        Orders that it is known to hold stay outstanding.
        """
        known = self._actors.get(key)
        orders = known.orders if known else {}
        self._actors[key] = ActorSlots([Slot() for _ in range(train_slots)], eval_slots, orders)
        for actor in self._actors.values():
            actor.uneven = True

    def has_slots(self, key: ActorKey) -> bool:
        """Whether this actor has joined with environments, so that it may get work."""
        return key in self._actors and bool(self._actors[key].slots)

    def has_order_capacity(self, key: ActorKey) -> bool:
        """Whether this actor may be given another order: it answers, is not draining, and has not enough of them."""
        actor = self._actors.get(key)
        return actor is not None and actor.takes_orders and len(actor.orders) < self._rules.max_orders

    def members_at(self, key: ActorKey) -> list[int]:
        """Return the ids of the members that this actor's environments play for and that may collect env steps now."""
        actor = self._actors.get(key)
        served = {slot.member_id for slot in actor.slots} if actor else set()
        return [m for m, ledger in self._ledgers.items() if m in served and ledger.orderable > 0]

    def drain(self, key: ActorKey) -> None:
        """Give this actor no further orders, so that it can finish those that it has and leave."""
        if key in self._actors:
            self._actors[key].draining = True

    def take_back(self, key: ActorKey) -> tuple[list[int], int]:
        """Revoke an actor's outstanding orders for good; it gets no further ones before it has `answered` something.

        Returns:
            Ids of the revoked orders, and the training env steps in them, which other actors will get.
        """
        actor = self._actors.get(key)
        self.evaluations.release(key)
        if actor is None:
            return [], 0
        steps = sum(s.steps for order in actor.orders.values() for s in order.slots)
        revoked = list(actor.orders)
        for order_id in revoked:
            self._close_order(order_id, {})
        actor.slots, actor.overdue = [Slot() for _ in actor.slots], True
        for backoff in (actor.training, actor.evaluating):
            backoff.note(False, self._next_order_id)
        for other in self._actors.values():
            other.uneven = True
        return revoked, steps

    def answered(self, key: ActorKey) -> None:
        """Note that an actor has sent a fragment, so that it may get orders again."""
        if key in self._actors:
            self._actors[key].overdue = False

    def trained(self, key: ActorKey, *, brought: bool) -> int:
        """Note whether an actor's answer brought any of the training env steps asked for.

        After several that did not, its slots' members are served by others first.

        Returns:
            How many answers in a row did not.
        """
        actor = self._actors[key]
        if actor.training.note(brought, self._next_order_id):
            actor.slots = [Slot() for _ in actor.slots]
            for other in self._actors.values():
                other.uneven = True
        return actor.training.empty

    def evaluated(self, key: ActorKey, *, brought: bool) -> None:
        """Note whether an actor's answer brought anything of its evaluations; if not, its seeds are taken back."""
        if not brought:
            self.evaluations.release(key)
        self._actors[key].evaluating.note(brought, self._next_order_id)

    def remove_actor(self, key: ActorKey) -> tuple[list[int], int]:
        """Remove an actor that is gone; its orders are taken back, as `take_back` returns them."""
        taken = self.take_back(key)
        self._actors.pop(key, None)
        self.lengths.forget(key)
        return taken

    def orders_out(self, key: ActorKey) -> list[int]:
        """Return the ids of the orders that this actor has and has not answered, oldest first."""
        return list(self._actors[key].orders) if key in self._actors else []

    def oldest(self, key: ActorKey) -> Order | None:
        """This actor's oldest outstanding order; None if it has none."""
        orders = self.orders_out(key)
        return self._orders[orders[0]][1] if orders else None

    def order(self, order_id: int, key: ActorKey) -> Order | None:
        """Return an unanswered order by its id; None if this actor has no such order."""
        owner, order = self._orders.get(order_id, (None, None))
        return order if owner == key else None

    def outstanding(self) -> Collection[tuple[ActorKey, Order]]:
        """Return all unanswered orders, each with the key of the actor that has it."""
        return self._orders.values()

    # -- orders -------------------------------------------------------------------------------------------------

    def next_order(self, key: ActorKey) -> Order | None:
        """Make an order, the next piece of work for this actor; None if there is nothing for it to do now."""
        actor = self._actors[key]
        if not self.has_order_capacity(key) or not self._may_order(key):
            return None
        actors = self._actors.values()
        trains = has_turn(actor, actors, lambda a: a.training, self._next_order_id)
        evaluators = (a for a in actors if a.eval_slots)
        evaluates = has_turn(actor, evaluators, lambda a: a.evaluating, self._next_order_id)
        if trains:
            assign(actor, actors, self._ledgers, self._rules.turn_steps)
        order = Order(order_id=self._next_order_id, generation=self.generation)
        policies = OrderPolicies(order)
        ledgers = self._ledgers.values()
        release_held(ledgers)
        if trains:
            self._add_training(key, actor, order, policies)
            # Better a held member now than an idle actor: perhaps all others wait for their updates.
            if not order.slots and release_held(ledgers, at_once=True):
                self._add_training(key, actor, order, policies)
        if evaluates:
            self._add_evaluations(key, actor, order, policies)
        if not order.slots and not order.eval_steps:
            return None
        # Exploration is seeded as the slots are: by the order's number, so that a run can be repeated.
        order.noise_seed = derive(self._rules.seed, "noise", self.generation, self.orders_in_generation)
        self._next_order_id += 1
        self.orders_in_generation += 1
        self.adopt(key, order)
        return order

    def adopt(self, key: ActorKey, order: Order) -> None:
        """Count an order as given to an actor: a new one, or one that a restarted learner finds in its journal."""
        if key not in self._actors:  # found in the journal: the actor has not joined again yet
            self._actors[key] = ActorSlots([], 0)
        self._actors[key].orders[order.order_id] = order
        self._orders[order.order_id] = (key, order)
        for slot in order.slots:
            self.steps_ordered += slot.steps
            if slot.member_id in self._ledgers:
                self._ledgers[slot.member_id].order(slot.steps)
        self._next_order_id = max(self._next_order_id, order.order_id + 1)

    def complete(self, order_id: int, steps: Mapping[int, int], *, forget_slots: bool = False) -> None:
        """End an answered order: its accepted env steps are counted, all others may be ordered again.

        Args:
            order_id: Id of an order that was given to an actor and not answered before.
            steps: Accepted env steps by member id.
            forget_slots: Whether the order was not run at all. Its slots then do not stand where the scheduler
                believes, and begin new episodes; the actor's evaluation seeds are taken back.

        Raises:
            KeyError: no such order is outstanding.
        """
        key, order = self._orders[order_id]
        if forget_slots:
            self.evaluations.release(key)
            slots = self._actors[key].slots
            for work in order.slots:
                if work.slot < len(slots):
                    slots[work.slot] = Slot()
        self._close_order(order_id, steps)

    def _close_order(self, order_id: int, steps: Mapping[int, int]) -> None:
        """Count the env steps that an ended order delivered; all others of it may be ordered again."""
        key, order = self._orders.pop(order_id)
        if key in self._actors:
            self._actors[key].orders.pop(order_id, None)
        for slot in order.slots:
            self.steps_ordered -= slot.steps
            if slot.member_id in self._ledgers:  # else the member was replaced meanwhile
                self._ledgers[slot.member_id].end_order(slot.steps)
        for member_id, count in steps.items():
            self.steps_ordered += count
            if member_id in self._ledgers:
                self._ledgers[member_id].accept(count)

    # -- checkpoints --------------------------------------------------------------------------------------------

    def to_state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps, as JSON: the members' counts of env steps, and the unanswered orders."""
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
        """Restore counts and unanswered orders from a checkpoint, after the members have begun their generations.

        Raises:
            StorageError: the state is of a newer version.
            KeyError, TypeError, ValueError, DecodeError: the state is not of this form.
        """
        check_version("scheduler", state, VERSION)
        self.orders_in_generation = int(state["orders_in_generation"])
        self.steps_ordered = int(state["steps_accepted"])
        for member_id, ledger in state["ledgers"].items():
            self._ledgers[int(member_id)].from_state(ledger)
        for text in state["orders"]:
            issued = IssuedOrder.FromString(base64.b64decode(text))
            self.adopt((issued.actor_id, issued.incarnation), issued.order)

    # -- making orders ------------------------------------------------------------------------------------------

    def _may_order(self, key: ActorKey) -> bool:
        """Whether there may be any work for this actor: a quick check, made whenever a message arrives."""
        return (
            any(ledger.orderable > 0 or ledger.held for ledger in self._ledgers.values())
            or self.evaluations.pending
            or self.evaluations.unfinished(key) > 0
        )

    def _add_training(self, key: ActorKey, actor: ActorSlots, order: Order, policies: OrderPolicies) -> None:
        """Add to an order, for each of the actor's environments, env steps of the member that it plays for.

        A slot gets its fair share of what may be ordered for its member, which is that number divided by the member's
        slots, but at least MIN_STEPS and at most the actor's length. With 100 steps and 3 slots: 34, 34 and 32.
        """
        rules = self._rules
        slot_counts = slots_by_member(self._actors.values(), self._ledgers)
        planned: Counter[int] = Counter()  # env steps of this order by member; the ledgers change when it is adopted
        # What all slots of a member have in common, by its id and whether they are played at random.
        common: dict[tuple[int, bool], tuple[list[int], Exploration, int]] = {}
        total = 0
        for i, slot in enumerate(actor.slots):
            ledger = self._ledgers.get(slot.member_id) if slot.member_id is not None else None
            if ledger is None:
                continue
            unplanned = ledger.orderable - planned[ledger.member_id]
            if unplanned <= 0:
                continue
            # Were the first slot to take all, the member's other slots would stand idle until the next generation.
            fair_share = -(-ledger.orderable // slot_counts[ledger.member_id])  # rounded up
            at_random = self.steps_ordered + total < rules.random_steps
            if (ledger.member_id, at_random) not in common:
                refs = self._policies_of(ledger.member_id)
                most = self.lengths.of(key, ledger, slot_counts[ledger.member_id])
                indices = policies.use([RANDOM] * len(refs) if at_random else refs)
                common[ledger.member_id, at_random] = indices, self._exploration_of(ledger.member_id), most
            indices, exploration, most = common[ledger.member_id, at_random]
            steps = min(most, unplanned, max(MIN_STEPS, fair_share))
            planned[ledger.member_id] += steps
            total += steps
            slot_work = SlotWork(
                slot=i,
                agent_policies=indices,
                steps=steps,
                restart=slot.fresh,
                member_id=ledger.member_id,
                exploration=exploration,
            )
            # Seeds depend on the order's number, not on the clock or the actor, so that a run can be repeated.
            if slot.fresh:
                slot_work.seed = derive(rules.seed, "slot", self.generation, self.orders_in_generation, i)
            slot.fresh = False
            slot.served_steps += steps
            # At the end of its turn a slot passes to a member that is behind, once its episode is over.
            if slot.served_steps >= rules.turn_steps and (
                furthest_behind(ledger, self._ledgers, slot_counts, rules.turn_steps) is not None
            ):
                slot_work.until_episode_end = slot.leaving = True
            order.slots.append(slot_work)

    def _add_evaluations(self, key: ActorKey, actor: ActorSlots, order: Order, policies: OrderPolicies) -> None:
        """Add evaluation seeds to an actor's order, and env steps for those that it has still to play."""
        # Twice the slots, so that a slot which ends an episode within an order has a next one.
        free = 2 * actor.eval_slots - self.evaluations.unfinished(key)
        for task, refs in self.evaluations.take(key, free):
            task.agent_policies[:] = policies.use(refs)
            order.evaluations.append(task)
        if self.evaluations.unfinished(key):
            order.eval_steps = self._rules.fragment_steps
