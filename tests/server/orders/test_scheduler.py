"""The scheduler's promises, over arbitrary populations, actors, losses and shortfalls."""

import itertools
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from tests.support.examples import examples
from tests.support.schedulers import AGENTS, ledger_of, ledgers, make_scheduler, play

from covey.v1.fragment_pb2 import Episode
from covey.v1.order_pb2 import Order, PolicyRef

SHARES = {"answer": 1.0, "short": 0.5, "empty": 0.0}
"""Share of an order's env steps that an actor's answer brings, by the kind of answer."""


@examples(1)
@given(data=st.data())
def test_every_member_gets_exactly_its_steps_whatever_comes_and_goes(data: st.DataObject) -> None:
    members = data.draw(st.integers(1, 6))
    quota = data.draw(st.integers(1, 400))
    scheduler = make_scheduler(members, quota, turn_steps=data.draw(st.integers(1, 120)))
    names = iter(range(10_000))
    alive: dict[tuple[str, int], list[Order]] = {}

    def join() -> None:
        key = (f"a{next(names)}", 1)
        scheduler.add_actor(key, data.draw(st.integers(1, 9)), 2)
        alive[key] = []

    join()
    for _ in range(2000):
        if all(w.collected for w in scheduler.ledgers):
            break
        action = data.draw(st.sampled_from(["order", "order", "answer", "answer", "short", "empty", "lose", "join"]))
        if action == "join" and len(alive) < 5:
            join()
        elif action == "lose" and len(alive) > 1:
            key = data.draw(st.sampled_from(sorted(alive)))
            revoked, _ = scheduler.remove_actor(key)
            assert sorted(revoked) == sorted(o.order_id for o in alive.pop(key))
        key = data.draw(st.sampled_from(sorted(alive)))
        if action == "order" and (order := scheduler.next_order(key)) is not None:
            alive[key].append(order)
        elif action in SHARES and alive[key]:
            play(alive[key].pop(0), scheduler, SHARES[action])
        for work in scheduler.ledgers:
            assert work.accepted >= 0 and work.ordered >= 0 and work.accepted + work.ordered <= quota
    # Whatever has happened: from here on, honest actors alone bring it to its end.
    for _ in range(10_000):
        if all(w.collected for w in scheduler.ledgers):
            break
        moved = False
        for key, orders in alive.items():
            if (order := scheduler.next_order(key)) is not None:
                orders.append(order)
                moved = True
            elif orders:
                play(orders.pop(0), scheduler)
                moved = True
        assert moved, "nobody can move and the members lack steps"
    assert [w.accepted for w in scheduler.ledgers] == [quota] * members


@examples(0.6)
@given(actors=st.lists(st.integers(1, 5), min_size=1, max_size=4), members=st.integers(1, 4), seeds=st.integers(1, 40))
def test_every_seed_is_played_once_even_if_actors_vanish(actors: list[int], members: int, seeds: int) -> None:
    scheduler = make_scheduler(members, quota=1)
    for work in scheduler.ledgers:
        work.accepted = 1
    requests = [
        scheduler.evaluations.request(
            m, "fitness", dict.fromkeys(range(seeds), [PolicyRef(sha256=bytes([m]) * 32)] * AGENTS), 25
        )
        for m in range(members)
    ]
    for i, slots in enumerate(actors):
        scheduler.add_actor((f"a{i}", 1), 1, slots)
    # Every actor but the last takes orders and vanishes.
    for i in range(len(actors) - 1):
        scheduler.next_order((f"a{i}", 1))
        scheduler.remove_actor((f"a{i}", 1))
    key = (f"a{len(actors) - 1}", 1)
    played: Counter[tuple[int, int]] = Counter()
    while (order := scheduler.next_order(key)) is not None:
        assert order.eval_steps > 0
        for task in order.evaluations:
            refs = [order.policies[i] for i in task.agent_policies]
            for seed in task.seeds:
                episode = make_episode(task.task_id, seed, refs)
                assert scheduler.evaluations.result(key, episode) == "counts"
                assert scheduler.evaluations.result(key, episode) == "late", "an episode counted twice"
                played[task.member_id, seed] += 1
        scheduler.complete(order.order_id, {})
    assert set(played.values()) == {1} and len(played) == members * seeds
    finished = [scheduler.evaluations.pop_finished() for _ in requests]
    assert sorted(r.member_id for r in finished if r) == list(range(members))


def make_episode(task_id: int, seed: int, refs: list[PolicyRef]) -> Episode:
    return Episode(
        evaluation=True,
        task_id=task_id,
        seed=seed,
        returns=[1.0] * AGENTS,
        length=25,
        policies=b"".join(r.sha256[:16] for r in refs),
    )


def test_an_episode_under_other_policies_does_not_count() -> None:
    scheduler = make_scheduler(1, quota=1)
    scheduler.evaluations.request(0, "fitness", dict.fromkeys([7], [PolicyRef(sha256=b"p" * 32)] * AGENTS), 25)
    scheduler.add_actor(("a", 1), 1, 1)
    order = scheduler.next_order(("a", 1))
    assert order is not None
    task = order.evaluations[0]
    other = make_episode(task.task_id, 7, [PolicyRef(sha256=b"q" * 32)] * AGENTS)
    assert scheduler.evaluations.result(("a", 1), other) == "wrong"


def test_seeds_of_an_order_that_was_never_run_are_given_again() -> None:
    scheduler = make_scheduler(1, quota=0)
    scheduler.evaluations.request(0, "fitness", dict.fromkeys([7, 8], [PolicyRef(sha256=b"p" * 32)] * AGENTS), 25)
    scheduler.add_actor(("a", 1), 1, 1)
    lost = scheduler.next_order(("a", 1))
    assert lost and list(lost.evaluations[0].seeds) == [7, 8]
    scheduler.complete(lost.order_id, {}, forget_slots=True)
    again = scheduler.next_order(("a", 1))
    assert again and list(again.evaluations[0].seeds) == [7, 8]
    late = Episode(seed=7, task_id=lost.evaluations[0].task_id, policies=b"p" * 16 * AGENTS)
    assert scheduler.evaluations.result(("a", 1), late) == "late", "should it have been played after all"


def test_all_members_advance_together() -> None:
    scheduler = make_scheduler(4, quota=10_000)
    for a in range(2):
        scheduler.add_actor((f"a{a}", 1), 8, 2)
    for _ in range(20):
        for a in range(2):
            order = scheduler.next_order((f"a{a}", 1))
            assert order is not None
            assert Counter(s.member_id for s in order.slots) == {0: 2, 1: 2, 2: 2, 3: 2}
            play(order, scheduler)
    assert len({w.accepted for w in scheduler.ledgers}) == 1


def test_slots_keep_their_member_and_only_start_afresh_when_they_change_hands() -> None:
    scheduler = make_scheduler(2, quota=1000)
    scheduler.add_actor(("a", 1), 4, 1)
    first, second = scheduler.next_order(("a", 1)), scheduler.next_order(("a", 1))
    assert first is not None and second is not None
    assert all(s.restart for s in first.slots) and not any(s.restart for s in second.slots)
    assert [s.member_id for s in first.slots] == [s.member_id for s in second.slots]
    play(first, scheduler)
    play(second, scheduler)
    # Member 0 lives on, member 1 is replaced by 2.
    scheduler.begin_generation(ledgers({0: 1000, 2: 1000}, generation=1))
    third = scheduler.next_order(("a", 1))
    assert third is not None
    assert {s.slot for s in third.slots if s.restart} == {s.slot for s in first.slots if s.member_id == 1}


def test_fewer_slots_than_members_serve_them_in_turns() -> None:
    scheduler = make_scheduler(4, quota=600, turn_steps=100)
    scheduler.add_actor(("a", 1), 1, 1)
    served = []
    while (order := scheduler.next_order(("a", 1))) is not None:
        served.append(order.slots[0].member_id)
        play(order, scheduler)
    assert {w.accepted for w in scheduler.ledgers} == {600}
    changes = sum(a != b for a, b in itertools.pairwise(served))
    assert 8 <= changes <= 30, "turns are neither endless nor a step long"


def test_the_populations_first_steps_are_random() -> None:
    scheduler = make_scheduler(2, quota=1000, random_steps=100)
    scheduler.add_actor(("a", 1), 4, 1)
    random_steps = 0
    while (order := scheduler.next_order(("a", 1))) is not None:
        for slot in order.slots:
            if order.policies[slot.agent_policies[0]].builtin == "random":
                random_steps += slot.steps
        play(order, scheduler)
    assert 100 <= random_steps < 100 + 32


def test_no_order_for_a_member_that_owes_too_much() -> None:
    scheduler = make_scheduler(2, quota=1000)
    scheduler.add_actor(("a", 1), 4, 1)
    ledger_of(scheduler, 0).blocked = True
    order = scheduler.next_order(("a", 1))
    assert order is not None and {s.member_id for s in order.slots} == {1}
    ledger_of(scheduler, 1).blocked = True
    assert scheduler.next_order(("a", 1)) is None


def test_an_actor_holds_at_most_two_orders() -> None:
    scheduler = make_scheduler(1, quota=10_000)
    scheduler.add_actor(("a", 1), 1, 1)
    assert scheduler.next_order(("a", 1)) and scheduler.next_order(("a", 1))
    assert scheduler.next_order(("a", 1)) is None


@examples(1.5)
@given(data=st.data())
def test_rounds_are_ordered_under_one_policy_and_nothing_beyond_them(data: st.DataObject) -> None:
    members = data.draw(st.integers(1, 5))
    quota = data.draw(st.integers(1, 300))
    scheduler = make_scheduler(members, 0, turn_steps=data.draw(st.integers(1, 120)))
    lengths = {m: data.draw(st.integers(1, 150)) for m in range(members)}
    scheduler.begin_generation(ledgers(dict.fromkeys(range(members), quota), lengths))
    keys = [(f"a{i}", 1) for i in range(data.draw(st.integers(1, 3)))]
    for key in keys:
        scheduler.add_actor(key, data.draw(st.integers(1, 6)), 1)
    alive: dict[tuple[str, int], list[Order]] = {key: [] for key in keys}
    rounds: Counter[int] = Counter()
    for _ in range(5000):
        if all(w.collected and not w.round_complete for w in scheduler.ledgers):
            break
        moved = False
        for key in keys:
            if (order := scheduler.next_order(key)) is not None:
                alive[key].append(order)
                moved = True
            elif alive[key]:
                play(alive[key].pop(0), scheduler, data.draw(st.sampled_from([1.0, 1.0, 0.5])))
                moved = True
            for work in scheduler.ledgers:
                assert work.accepted + work.ordered <= work.limit <= quota
        for work in scheduler.ledgers:
            if work.round_complete and (data.draw(st.booleans()) or not moved):
                assert work.ordered == 0, "learning begins only when every step of the round is in"
                rounds[work.member_id] += 1
                work.next_round()
                moved = True
        assert moved, "nobody can move and the members lack steps"
    assert all(w.accepted == quota for w in scheduler.ledgers)
    # The last round takes the remainder.
    assert rounds == {m: -(-quota // lengths[m]) for m in range(members)}


def test_half_of_the_population_begins_when_the_other_half_is_half_through_its_round() -> None:
    scheduler = make_scheduler(0)
    scheduler.begin_generation(ledgers(dict.fromkeys(range(4), 1000), dict.fromkeys(range(4), 256)))
    scheduler.add_actor(("a", 1), 8, 1)
    began: dict[int, int] = {}
    done = 0
    for _ in range(200):
        order = scheduler.next_order(("a", 1))
        if order is None:
            break
        for slot in order.slots:
            began.setdefault(slot.member_id, done)
        play(order, scheduler)
        done += sum(s.steps for s in order.slots)
    assert began[0] == began[2] == 0
    assert began[1] == began[3] == 256  # two members, half of 256 each


def test_members_alone_in_their_half_do_not_wait() -> None:
    scheduler = make_scheduler(0)
    scheduler.begin_generation(ledgers({0: 100, 1: 100}, {0: 100, 1: 100}))
    ledger_of(scheduler, 0).blocked = True
    scheduler.add_actor(("a", 1), 2, 1)
    order = scheduler.next_order(("a", 1))
    assert order is not None and {s.member_id for s in order.slots} == {1}


def test_an_actor_whose_answers_are_empty_waits_for_others_longer_and_longer() -> None:
    scheduler = make_scheduler(2, quota=10**6)
    bad, good = ("bad", 1), ("good", 1)
    scheduler.add_actor(bad, 2, 2)
    scheduler.add_actor(good, 2, 2)
    turns = []
    for turn in range(300):
        if (order := scheduler.next_order(bad)) is not None:
            turns.append(turn)
            play(order, scheduler, 0.0)
        order = scheduler.next_order(good)
        assert order is not None and {work.member_id for work in order.slots} == {0, 1}
        play(order, scheduler)
    # A single empty answer costs it nothing: an environment may break.
    assert turns[:2] == [0, 1]
    pauses = [after - before for before, after in itertools.pairwise(turns[1:])]
    assert pauses == sorted(pauses) and pauses[-1] >= 2 * pauses[0] and len(turns) < 10


def test_an_actor_whose_answers_are_empty_gets_orders_where_there_is_no_other_and_again_once_it_answers() -> None:
    scheduler = make_scheduler(1, quota=10**6)
    key = ("a", 1)
    scheduler.add_actor(key, 2, 2)
    for _ in range(10):
        order = scheduler.next_order(key)
        assert order is not None
        play(order, scheduler, 0.0)
    order = scheduler.next_order(key)
    assert order is not None
    play(order, scheduler)
    scheduler.add_actor(("b", 1), 2, 2)
    assert scheduler.next_order(key) is not None


def test_one_that_plays_no_evaluations_leaves_them_to_others() -> None:
    scheduler = make_scheduler(1, quota=1)
    ledger_of(scheduler, 0).accepted = 1
    bad, good, trains = ("bad", 1), ("good", 1), ("trains", 1)
    scheduler.add_actor(bad, 1, 2)
    scheduler.add_actor(trains, 1, 0)
    scheduler.evaluations.request(0, "fitness", dict.fromkeys(range(9), [PolicyRef(sha256=bytes(32))] * AGENTS), 25)
    for _ in range(5):  # one without evaluation slots is no other
        order = scheduler.next_order(bad)
        assert order is not None and order.evaluations
        scheduler.complete(order.order_id, {})
        scheduler.evaluated(bad, brought=False)
    scheduler.add_actor(good, 1, 2)
    assert scheduler.next_order(bad) is None
    order = scheduler.next_order(good)
    assert order is not None and order.evaluations
