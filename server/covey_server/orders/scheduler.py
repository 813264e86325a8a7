"""Who steps what: divides slots among members and turns them into orders, so that every member gets exactly its steps.

Pure bookkeeping: no clock, no thread, no network. A member's quota of a generation is `accepted` + `ordered` (in orders
that are out) + `remaining`; what comes back unplayed, and what a lost actor held, is remaining again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from covey.v1.order_pb2 import Exploration, Order, PolicyRef, SlotWork
from covey.wire.limits import BUILTIN_RANDOM
from covey_server.orders.evaluations import ActorKey, Evaluations
from covey_server.orders.member_work import MemberWork
from covey_server.seeds import derive

MIN_STEPS = 8
"""A slot's share of a member's remainder is not cut below this: tiny orders cost more than they give."""

RANDOM = PolicyRef(builtin=BUILTIN_RANDOM)


@dataclass(slots=True)
class _Slot:
    member_id: int | None = None
    fresh: bool = True  # the next order restarts it
    served_steps: int = 0  # ordered since it took this member
    leaving: bool = False  # its last order ran until an episode's end: it may pass on


@dataclass(slots=True)
class _Actor:
    slots: list[_Slot]
    eval_slots: int
    orders: dict[int, Order] = field(default_factory=dict)
    draining: bool = False
    reshuffle: bool = True


@dataclass(frozen=True, slots=True)
class Rules:
    """What of the configuration the scheduler needs; units as in `covey.config`."""

    seed: int
    fragment_steps: int
    turn_steps: int
    random_steps: int
    max_orders: int  # out at one actor


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
        policies_of: Callable[[int], list[PolicyRef]],
        exploration_of: Callable[[int], Exploration],
        first_order_id: int = 1,
    ) -> None:
        self._rules = rules
        self._policies_of = policies_of
        self._exploration_of = exploration_of
        self._next_order_id = first_order_id
        self._actors: dict[ActorKey, _Actor] = {}
        self._orders: dict[int, tuple[ActorKey, Order]] = {}
        self._work: dict[int, MemberWork] = {}
        self.evaluations = Evaluations(first_order_id)
        self._in_rounds = False
        self.orders_in_generation = 0  # since all members began one together
        self.steps_ordered = 0  # over the run, less what came back unplayed

    # -- members ------------------------------------------------------------------------------------------------

    def begin_generation(
        self,
        generation: int,
        quotas: Mapping[int, int],
        rounds: Mapping[int, int] | None = None,
        *,
        restart_all: bool = False,
    ) -> None:
        """Give every member its steps. Slots of members that live on go on, unless all are to restart.

        Args:
            generation: Its number.
            quotas: Env steps by member id.
            rounds: On-policy: the length of each member's rounds. Every second member begins when the others are half
                through their first one: while one half of the population learns, the other one collects.
            restart_all: Whether every slot begins an episode.
        """
        self.orders_in_generation = 0
        self._work = {m: MemberWork(m, quota, quota, generation) for m, quota in quotas.items()}
        self._in_rounds = rounds is not None
        for i, work in enumerate(self._work.values()):
            if rounds is not None:
                work.next_round(rounds[work.member_id])
                work.held = i % 2 == 1
        for actor in self._actors.values():
            actor.reshuffle = True
            if restart_all:
                actor.slots = [_Slot() for _ in actor.slots]

    def begin_member(self, before: int, work: MemberWork, round_steps: int | None) -> None:
        """Give one member its steps, in the place of one that has all of its own or of itself; the others go on.

        Args:
            before: Whose place it takes. Its slots are the new member's, from the start of an episode.
            work: Of who begins, at its start.
            round_steps: On-policy: the length of its rounds.
        """
        if round_steps is not None:
            work.next_round(round_steps)
        self._work = {w.member_id: w for w in (work if w.member_id == before else w for w in self._work.values())}

    @property
    def generation(self) -> int:
        """The generation that all members have reached."""
        return min((w.generation for w in self._work.values()), default=0)

    def work(self, member_id: int) -> MemberWork:
        """A living member's ledger."""
        return self._work[member_id]

    @property
    def living(self) -> Iterable[MemberWork]:
        """All ledgers."""
        return self._work.values()

    # -- actors -------------------------------------------------------------------------------------------------

    def add_actor(self, key: ActorKey, train_slots: int, eval_slots: int) -> None:
        """An actor has joined; slots move to where they are missing. Orders it is known to hold stay its own."""
        known = self._actors.get(key)
        orders = known.orders if known else {}
        self._actors[key] = _Actor([_Slot() for _ in range(train_slots)], eval_slots, orders)
        for actor in self._actors.values():
            actor.reshuffle = True

    def has_slots(self, key: ActorKey) -> bool:
        """Whether this actor has joined, and may get orders."""
        return key in self._actors and bool(self._actors[key].slots)

    def has_room(self, key: ActorKey) -> bool:
        """Whether this actor may hold another order, if there is something to do."""
        actor = self._actors.get(key)
        return actor is not None and not actor.draining and len(actor.orders) < self._rules.max_orders

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
            self._settle(order_id, {})
        for other in self._actors.values():
            other.reshuffle = True
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
        self._assign(actor)
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
            self._actors[key] = _Actor([], 0)
        self._actors[key].orders[order.order_id] = order
        self._orders[order.order_id] = (key, order)
        for slot in order.slots:
            self.steps_ordered += slot.steps
            if slot.member_id in self._work:
                self._work[slot.member_id].ordered += slot.steps
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
                    slots[work.slot] = _Slot()
        self._settle(order_id, steps)

    def _settle(self, order_id: int, steps: Mapping[int, int]) -> None:
        key, order = self._orders.pop(order_id)
        if key in self._actors:
            self._actors[key].orders.pop(order_id, None)
        for slot in order.slots:
            self.steps_ordered -= slot.steps
            if slot.member_id in self._work:
                self._work[slot.member_id].ordered -= slot.steps
        for member_id, count in steps.items():
            self.steps_ordered += count
            if member_id in self._work:
                self._work[member_id].accepted += count

    # -- the inside ---------------------------------------------------------------------------------------------

    def _may_order(self, key: ActorKey) -> bool:
        """Whether there may be something to do, quickly: idle actors ask with every fragment that arrives."""
        return (
            any(work.orderable > 0 or work.held for work in self._work.values())
            or self.evaluations.pending
            or self.evaluations.unfinished(key) > 0
        )

    def _add_training(self, actor: _Actor, order: Order, use: Callable[[Iterable[PolicyRef]], list[int]]) -> None:
        rules = self._rules
        shares = self._shares()
        planned: Counter[int] = Counter()
        total = 0
        for i, slot in enumerate(actor.slots):
            work = self._work.get(slot.member_id) if slot.member_id is not None else None
            if work is None:
                continue
            left = work.orderable - planned[work.member_id]
            if left <= 0:
                continue
            fair = -(-work.orderable // shares[work.member_id])
            steps = min(rules.fragment_steps, left, max(MIN_STEPS, fair))
            refs = self._policies_of(work.member_id)
            if self.steps_ordered + total < rules.random_steps:
                refs = [RANDOM] * len(refs)
            planned[work.member_id] += steps
            total += steps
            item = SlotWork(
                slot=i,
                agent_policies=use(refs),
                steps=steps,
                restart=slot.fresh,
                member_id=work.member_id,
                exploration=self._exploration_of(work.member_id),
            )
            if slot.fresh:
                item.seed = derive(rules.seed, "slot", self.generation, self.orders_in_generation, i)
            slot.fresh = False
            slot.served_steps += steps
            if slot.served_steps >= rules.turn_steps and self._furthest_behind(work, shares) is not None:
                item.until_episode_end = slot.leaving = True
            order.slots.append(item)

    def _add_evaluations(
        self, key: ActorKey, actor: _Actor, order: Order, use: Callable[[Iterable[PolicyRef]], list[int]]
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
        held = [w for w in self._work.values() if w.held and w.durable]
        others = (w for w in self._work.values() if not w.held)
        if not held or not (at_once or any(2 * w.accepted >= w.limit for w in others)):
            return False
        for work in held:
            work.held = False
        return True

    def _shares(self) -> Counter[int]:
        """Training slots per member, over all actors that take orders."""
        return Counter(
            s.member_id
            for a in self._actors.values()
            if not a.draining
            for s in a.slots
            if s.member_id is not None and s.member_id in self._work
        )

    def _assign(self, actor: _Actor) -> None:
        """Give every slot of this actor a living member: slots without one, after joins and losses, and at turns."""
        for slot in actor.slots:
            if slot.member_id not in self._work:
                self._hand_over(slot, None)
        shares = self._shares()

        def fewest() -> int:
            return min(self._work, key=lambda m: (shares[m], -self._work[m].remaining, m))

        for slot in actor.slots:
            if slot.member_id is None and self._work:
                self._hand_over(slot, fewest())
                shares[slot.member_id or 0] += 1
        if actor.reshuffle:
            actor.reshuffle = False
            for slot in actor.slots:
                poorest = fewest() if self._work else None
                if poorest is None or slot.member_id is None:
                    break
                if shares[slot.member_id] - shares[poorest] >= 2:
                    shares[slot.member_id] -= 1
                    shares[poorest] += 1
                    self._hand_over(slot, poorest)
        for slot in actor.slots:
            work = self._work.get(slot.member_id) if slot.member_id is not None else None
            if work is None:
                continue
            # A member with nothing left to order gives its slot away at once; others at the end of their turn.
            if slot.leaving or work.remaining <= 0:
                behind = self._furthest_behind(work, shares)
                slot.leaving = False
                if behind is not None:
                    shares[work.member_id] -= 1
                    shares[behind] += 1
                    self._hand_over(slot, behind)

    def _furthest_behind(self, than: MemberWork, shares: Mapping[int, int]) -> int | None:
        """The member with the most steps left, if it is a turn or more behind, or has no slot and this one is done."""
        behind = max(self._work.values(), key=lambda w: (not w.blocked and w.remaining > 0, w.left, -w.member_id))
        turn_due = behind.left - than.left >= self._rules.turn_steps
        if than.remaining <= 0 < than.after:
            turn_due = False  # it needs its slots again as soon as it has been compared
        if self._in_rounds and than.remaining > 0 and shares.get(behind.member_id):
            turn_due = False  # on-policy, members shall not catch up with each other: they learn in turns
        stranded = than.remaining <= 0 < behind.remaining and not shares.get(behind.member_id)
        return behind.member_id if not behind.blocked and behind.remaining > 0 and (turn_due or stranded) else None

    def _hand_over(self, slot: _Slot, member_id: int | None) -> None:
        slot.member_id, slot.fresh, slot.served_steps, slot.leaving = member_id, True, 0, False
